"""What fsck found: findings that name the exact object, block and row, and counts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

import msgspec

from salus.ledger.block import header_key
from salus.ledger.findings import FINDING_CODES
from salus.objects import Stray

CODES = {
    **FINDING_CODES,
    "head-missing": "the log has no head, so anchoring cannot go on",
    "head-wrong": "the log's head is not what was signed, or does not fit its log",
    "log-rewritten": "the log does not extend a checkpoint that an interrupted fsck saw, or that was given",
    "not-final": "the checkpoint does not have the cosignatures that the network's policy asks for",
    "accepted-twice": "an event's source and id were accepted before, within the window of duplicates",
    "identity-ahead": "a block names a position of the identity topic that the topic did not have then",
    "identity-behind": "a block names a position that leaves out identity events from before its records",
    "package-missing": "an accepted record's type is of a package that is not installed here (deep)",
    "verdict-wrong": "a record judged again has another verdict (deep)",
    "unentitled": "consent or storage did for somebody what they had no right to (deep)",
}
"""What an error's code means."""

NOTES = {
    "handover-pending": "a partition is between two shards while this is checked",
    "checkpoint-behind": "the head has moved and its checkpoint is about to be published",
    "identity-pending": "blocks name identity events that are in no block yet",
    "not-begun": "partitions are in no block, and a shard has no blocks yet",
    "not-anchored": "blocks are newer than the checkpoint",
    "unreferenced-body": "a sequencer died or lost a race after it wrote the body",
    "rights-pending": "what gives a right that was used a moment before the end may not be sealed yet (deep)",
    "rights-unjudged": "rights to patients' data are not judged, for a block is damaged or missing (deep)",
    "unknown-object": "an object that is none of the ledger's",
    "header-time": "a header's time is far from its records': a wrong clock, or the shard stood still",
    "repeated": "an event was accepted again, by another shard or after the window of duplicates (deep)",
    "not-entitled": "identity stated what who asked had no right to: it had no effect (deep)",
}
"""What an info's code means."""

Bucket = Literal["ledger", "log"]


class Finding(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One thing that is wrong (`error`) or worth knowing (`info`).

    `code` is stable. `key` is the object in `bucket`. Block, row and event are given where they are known;
    `detail` is for people and quotes no value.
    """

    severity: Literal["error", "info"]
    code: str
    bucket: Bucket
    key: str
    detail: str
    shard: int | None = None
    height: int | None = None
    row: int | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    event: str | None = None

    def __str__(self) -> str:
        place = f"{self.bucket}/{self.key}"
        if self.row is not None:
            place += f" row {self.row} ({self.topic} {self.partition} {self.offset}, event {self.event})"
        return f"{self.severity}: {place}: {self.code}: {self.detail}"


def about_header(
    shard: int, height: int, code: str, detail: str, *, severity: Literal["error", "info"] = "error"
) -> Finding:
    """Return a finding about the header of a block."""
    return Finding(
        severity=severity,
        code=code,
        bucket="ledger",
        key=header_key(shard, height),
        detail=detail,
        shard=shard,
        height=height,
    )


def note_of(code: str, key: str, detail: str, *, shard: int | None = None) -> Finding:
    """Return an info about an object of the ledger bucket."""
    return Finding(severity="info", code=code, bucket="ledger", key=key, detail=detail, shard=shard)


def stray_note(bucket: Bucket, stray: Stray) -> Finding:
    """Return the info that an object has a key that the ledger never uses; `key` is escaped."""
    detail = (
        f"an object with a key that the ledger never uses, of {stray.size} bytes; the key is escaped here"
    )
    return Finding(severity="info", code="unknown-object", bucket=bucket, key=stray.shown, detail=detail)


class Counts(msgspec.Struct, kw_only=True):
    """What was looked at; `spared` blocks' bodies were whole before and were not read again."""

    blocks: int = 0
    rows: int = 0
    body_bytes: int = 0
    log_entries: int = 0
    tiles: int = 0
    judged: int = 0
    spared: int = 0


class CosignedBy(msgspec.Struct, frozen=True):
    """A witness of the network, and when it says to have cosigned: `time` is None beyond the calendar."""

    name: str
    time: datetime | None
    seconds: int


class JudgedCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The checkpoint that everything was checked against; `final` is None if the network has no policy."""

    size: int
    root: str
    final: bool | None = None
    cosigners: list[CosignedBy] = []


class Report(msgspec.Struct, kw_only=True):
    """The outcome of one fsck; `ok` means that everything was there and as signed."""

    ok: bool
    findings: list[Finding]
    counts: Counts
    size: int
    seconds: float
    checkpoint: JudgedCheckpoint | None = None

    @property
    def errors(self) -> list[Finding]:
        """The findings that say something is wrong."""
        return [finding for finding in self.findings if finding.severity == "error"]


class Progress(msgspec.Struct, frozen=True):
    """How far a look at the ledger is: blocks or decisions of how many, rows so far."""

    stage: Literal["log", "blocks", "decisions"]
    done: int
    total: int
    rows: int = 0


OnProgress = Callable[[Progress], None]
