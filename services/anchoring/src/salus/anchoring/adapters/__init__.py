"""What talks to the world: Kafka. The object store is already a port (`salus.objects.ObjectStore`)."""
