"""S3 object stores: create-once writes, compare-and-swap, streams."""
