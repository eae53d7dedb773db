"""What may stand in a topic where the ledger has a record."""

from __future__ import annotations

import pytest

from salus.archive.replay import RESTORED_HEADER, SealedRecord
from salus.cli.refilling import is_same
from salus.ledger.block import NO_DIGEST
from salus.ledger.merkle import leaf_hash
from salus.messaging import Record

TIME = 1_795_305_600_000
ACCEPTED = SealedRecord("t", 0, 7, TIME, "s", b"value", b"signature", "accepted", leaf_hash(b"value"))
REJECTED = SealedRecord("t", 0, 7, TIME, status="rejected:bad-signature", digest=leaf_hash(b"garbage"))
TOMBSTONE = SealedRecord("t", 0, 7, TIME, status="rejected:tombstone", digest=NO_DIGEST)
NO_LEAF = SealedRecord("t", 0, 7, TIME)


def record(value: bytes | None, timestamp_ms: int = TIME, /, **headers: bytes) -> Record:
    named = tuple((name.replace("_", "-"), content) for name, content in headers.items())
    return Record(
        topic="t", partition=0, offset=7, timestamp_ms=timestamp_ms, key=b"s", value=value, headers=named
    )


FILLER = record(None, **{RESTORED_HEADER: b"no-record"})


@pytest.mark.parametrize(
    ("sealed", "found"),
    [
        (ACCEPTED, record(b"value", salus_signature=b"signature")),
        (REJECTED, record(b"garbage")),
        (REJECTED, FILLER),
        (TOMBSTONE, record(None)),
        (TOMBSTONE, FILLER),
        (NO_LEAF, None),
        (NO_LEAF, FILLER),
    ],
)
def test_the_record_itself_or_what_stands_for_it_is_the_same(
    sealed: SealedRecord, found: Record | None
) -> None:
    assert is_same(found, sealed)


@pytest.mark.parametrize(
    ("sealed", "found"),
    [
        (ACCEPTED, None),
        (ACCEPTED, FILLER),
        (ACCEPTED, record(b"other", salus_signature=b"signature")),
        (ACCEPTED, record(b"value", salus_signature=b"another")),
        (ACCEPTED, record(b"value")),
        # Whoever folds the topic would judge by another moment than the ledger did.
        (ACCEPTED, record(b"value", TIME + 1, salus_signature=b"signature")),
        (REJECTED, record(b"garbage", TIME - 1)),
        (TOMBSTONE, record(None, 0)),
        (REJECTED, None),
        (REJECTED, record(None)),
        (REJECTED, record(b"other garbage")),
        (NO_LEAF, record(b"value")),
        (NO_LEAF, record(None)),
    ],
)
def test_anything_else_is_not(sealed: SealedRecord, found: Record | None) -> None:
    assert not is_same(found, sealed)
