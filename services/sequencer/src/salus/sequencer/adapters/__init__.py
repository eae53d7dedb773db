"""The sequencer's ports, on Kafka, the object store, threads and the system clock."""
