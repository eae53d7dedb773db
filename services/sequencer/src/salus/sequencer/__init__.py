"""Batches events into signed, Merkle-rooted blocks."""
