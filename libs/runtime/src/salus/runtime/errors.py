"""Errors whose readers need nothing else of this package; each is one sentence for a person."""

from __future__ import annotations


class ManifestError(Exception):
    """A manifest cannot be read, or does not go with the others; the sentence names its file and field."""
