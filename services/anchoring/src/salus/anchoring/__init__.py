"""Appends block headers to the tile log and publishes checkpoints."""
