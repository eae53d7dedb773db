"""What can be wrong with what the object store holds; one class per case a caller treats differently."""

from __future__ import annotations


class ArchiveError(Exception):
    """Base of all errors of this package; `code` is stable and may be shown to outsiders."""

    code = "archive-error"


class BodyError(ArchiveError):
    """A block's body is not a Parquet file of the ledger's columns."""

    code = "body-unreadable"


class DamagedError(ArchiveError):
    """An object is missing or is not what a signature says; `key` names it. `salus ledger fsck` says more."""

    code = "archive-damaged"

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(f"{key}: {detail}")
        self.key = key
        self.detail = detail


class MissingError(DamagedError):
    """An object that should be there is not."""

    code = "archive-object-missing"


class HeadError(ArchiveError):
    """The log's head or what it stands on is not what was signed; appending would spoil the log.

    It does not heal by itself: an operator must look (`salus ledger fsck`).
    """

    code = "log-head-damaged"


class NoSuchRecordError(ArchiveError):
    """The block covers the offset, but no record stands there (a transaction marker, or compacted away)."""

    code = "no-such-record"

    def __init__(self, *, topic: str, partition: int, offset: int) -> None:
        super().__init__(f"no record at {topic} {partition} {offset}")
        self.topic = topic
        self.partition = partition
        self.offset = offset
