"""The salus command."""
