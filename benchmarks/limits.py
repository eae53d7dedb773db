"""The physical limits: what each step costs by itself, in this run, in µs of processor time an event."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from load import BATCH, signed_batches

from salus.archive.body import encode_body
from salus.events.catalogue import PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.judging import judge_batch
from salus.events.keyring import KeyRing, Party
from salus.events.signature import SIGNATURE_HEADER
from salus.ledger.merkle import leaf_hash
from salus.messaging import Reader, Record
from salus.sequencer.domain import Batch, Cursor, draft_block
from salus.sequencer.duplicates import DuplicateWindow

SAMPLE = 20 * 1000 // BATCH * BATCH
TOPIC = "salus.clinical.events"


@dataclass
class _Sample:
    records: list[Record]
    ring: KeyRing


def _sample() -> _Sample:
    signer = LocalSigner.from_seed(b"L" * 32)
    since = datetime(2026, 1, 1, tzinfo=UTC)
    ring = KeyRing.rooted(
        did=signer.did, key=PublicKey(signer.verification_method, multibase_of(signer.public_key), since)
    )
    ring.parties[signer.did] = Party(did=signer.did, kind="member", roles=frozenset(), member=None)
    flat = [event for batch in signed_batches(SAMPLE, signer) for event in batch]
    records = [
        Record(TOPIC, 0, offset, 0, key, value, ((SIGNATURE_HEADER, signature),))
        for offset, (key, value, signature) in enumerate(flat)
    ]
    return _Sample(records, ring)


def _microseconds(work: Callable[[], object]) -> float:
    """Return processor time: others at work on the machine do not change it much."""
    began = time.process_time()
    work()
    return (time.process_time() - began) / SAMPLE * 1e6


def measure_limits() -> dict[str, float]:
    """Measure what needs no other process."""
    sample = _sample()
    values = [record.value or b"" for record in sample.records]
    now = datetime.now(UTC)
    reached = {(TOPIC, 0): SAMPLE}
    cursor = Cursor(height=0, next={(TOPIC, 0): 0}, time=None, identity=0)
    window = DuplicateWindow(1_000_000, 10_000)
    _, columns = draft_block(
        Batch(sample.records, reached), cursor=cursor, ring=sample.ring, window=window, now=now
    )
    again = DuplicateWindow(1_000_000, 10_000)
    return {
        "sha256 of the value": _microseconds(lambda: [sha256(value).digest() for value in values]),
        "leaf hash of the value": _microseconds(lambda: [leaf_hash(value) for value in values]),
        "judge (signature, schema)": _microseconds(
            lambda: judge_batch(sample.records, ring=sample.ring, at=now)
        ),
        "whole draft (with judge)": _microseconds(
            lambda: draft_block(
                Batch(sample.records, reached), cursor=cursor, ring=sample.ring, window=again, now=now
            )
        ),
        "Parquet encode": _microseconds(lambda: encode_body(columns)),
    }


async def measure_fetch(bootstrap: str, topic: str, count: int) -> dict[str, float]:
    """Measure reading alone: `count` records of a topic, by the reader that the sequencer uses."""
    async with Reader(bootstrap, starts={(topic, partition): 0 for partition in range(4)}) as reader:
        # The first fetch warms up the connection and the broker's cache.
        warm = len(await reader.poll(max_records=count // 10, timeout_ms=5000))
        read, began = 0, time.process_time()
        while read < count - warm:
            read += len(await reader.poll(max_records=20_000, timeout_ms=1000))
        return {"Kafka fetch": (time.process_time() - began) / read * 1e6}
