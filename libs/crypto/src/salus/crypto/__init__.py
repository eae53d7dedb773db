"""Keys, sealing, segment encryption and the KMS interface."""
