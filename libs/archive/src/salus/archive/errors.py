"""What can be wrong with what the object store holds; one class per case a caller treats differently."""

from __future__ import annotations


class ArchiveError(Exception):
    """Base of all errors of this package; `code` is stable and may be shown to outsiders."""

    code = "archive-error"


class BodyError(ArchiveError):
    """A block's body is not a Parquet file of the ledger's columns."""

    code = "body-unreadable"
