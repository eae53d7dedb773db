"""Encrypted off-chain objects under per-subject keys."""
