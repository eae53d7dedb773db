"""Batches of vaccine, the temperatures they were kept at, and their recalls."""
