"""What talks to the world: Kafka and witnesses. The object store is a port (`salus.objects.ObjectStore`)."""
