"""The physical limits: what each step costs by itself, in this run, in µs of processor time an event."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

import pyarrow as pa

from salus.archive.assembling import assemble
from salus.archive.body import encode_table
from salus.archive.check_body import check_body
from salus.archive.leaves import leaf_hashes_of
from salus.cli.bench.load import BATCH, TOPIC, public_key_of, signed_batches
from salus.events.contexts import CATALOGUE
from salus.events.did import LocalSigner
from salus.events.judging import Judgement, judge_batch
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.ledger.block import Header, Range
from salus.ledger.hashing import lanes
from salus.ledger.merkle import hashes_of, root_of_joined
from salus.ledger.records import Records, Row, timestamp_at
from salus.messaging import Bootstrap, ColumnReader

SAMPLE = 160 * BATCH
ROUNDS = 5
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sample:
    """Some of the benchmark's events, as records, and the keys by which they are judged."""

    records: Records
    ring: KeyRing

    @property
    def values(self) -> list[bytes]:
        """The records' values."""
        return [record.value or b"" for record in self.records]

    def judgement(self) -> Judgement:
        """Judge the records."""
        return judge_batch([self.records], ring=self.ring)


def sample() -> Sample:
    """Return a sample."""
    signer = LocalSigner.from_seed(b"L" * 32)
    since = datetime(2026, 1, 1, tzinfo=UTC)
    key = public_key_of(signer, since)
    ring = KeyRing.rooted(CATALOGUE, network="salus.local/bench", did=signer.did, key=key)
    ring.parties[signer.did] = Party(did=signer.did, kind="member", roles=frozenset(), member=None)
    flat = [event for batch in signed_batches(SAMPLE, signer) for event in batch]
    rows = [Row(TOPIC, 0, offset, timestamp_at(NOW), *event) for offset, event in enumerate(flat)]
    return Sample(Records.of(TOPIC, 0, rows), ring)


def microseconds(work: Callable[[], object], count: int = SAMPLE) -> float:
    """Return the processor time per event, the best of some rounds: others at work change it least."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return round(best / count * 1e6, 3)


def measure_limits() -> dict[str, float]:
    """Measure what needs no other process."""
    taken = sample()
    judgement = taken.judgement()
    table, hashes = assemble([taken.records], judgement, {})
    body = encode_table(table)
    values, joined = taken.values, judgement.values.data
    columns = {name: table[name].chunk(0) for name in table.column_names}
    header = _header(hashes, body)
    zstd = pa.Codec("zstd", compression_level=1)
    squeezed = zstd.compress(joined, asbytes=True)
    return {
        "SHA-256 of the value, one by one": microseconds(lambda: [sha256(v).digest() for v in values]),
        f"SHA-256 of the value, {lanes()} at once": microseconds(lambda: hashes_of(values)),
        "leaf hashes and root": microseconds(
            lambda: root_of_joined(leaf_hashes_of(columns, judgement.digests))
        ),
        "judging: signature, schema, JSON": microseconds(taken.judgement),
        "Parquet encode, zstd included": microseconds(lambda: encode_table(table)),
        "zstd of the values": microseconds(lambda: zstd.compress(joined, asbytes=True)),
        "zstd back": microseconds(lambda: zstd.decompress(squeezed, len(joined), asbytes=True)),
        "CRC-32 of the value": microseconds(lambda: [zlib.crc32(v) for v in values]),
        "fsck of a block in memory": microseconds(lambda: check_body(0, header, body)),
    }


def _header(hashes: bytes, body: bytes) -> Header:
    return Header(
        origin="bench/shard/0",
        height=0,
        leaves=SAMPLE,
        root=root_of_joined(hashes),
        previous=bytes(32),
        time=NOW,
        accepted=SAMPLE,
        body_bytes=len(body),
        body_sha256=sha256(body).digest(),
        identity=("salus.identity.events", 0, 0),
        ranges=(Range(TOPIC, 0, 0, SAMPLE),),
    )


async def measure_fetch(bootstrap: Bootstrap, count: int, partitions: int) -> dict[str, float]:
    """Measure reading alone: up to `count` records by the reader that the sequencer uses."""
    starts = {(TOPIC, partition): 0 for partition in range(partitions)}
    async with ColumnReader(bootstrap, starts=starts) as reader:
        # The first fetch warms up the connection and the broker's cache.
        there = sum((await reader.end_offsets()).values())
        warm = sum(map(len, await reader.poll(max_records=max(1, count // 10), timeout_ms=5000)))
        wanted = min(count, there) - warm
        read, began = 0, time.process_time()
        while read < wanted:
            read += sum(map(len, await reader.poll(max_records=20_000, timeout_ms=1000)))
        if not read:
            return {}
        return {"Kafka fetch": round((time.process_time() - began) / read * 1e6, 3)}
