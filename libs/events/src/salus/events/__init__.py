"""The event catalogue, the envelope and signatures."""
