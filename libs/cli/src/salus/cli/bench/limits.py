"""The physical limits: what each step costs by itself, in this run, in µs of processor time an event."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

import pyarrow as pa

from salus.archive.body import encode_body
from salus.archive.building import SampleRecord, columns_of
from salus.archive.check_body import check_body
from salus.cli.bench.load import BATCH, TOPIC, signed_batches
from salus.events.catalogue import PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.judging import judge_batch
from salus.events.keyring import KeyRing, Party
from salus.events.signature import SIGNATURE_HEADER
from salus.ledger.block import Header, Range, leaf_hashes
from salus.ledger.hashing import lanes
from salus.ledger.merkle import hashes_of, root_of
from salus.messaging import Reader, Record

SAMPLE = 160 * BATCH
ROUNDS = 5
NOW = datetime(2026, 11, 22, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Sample:
    """Some of the benchmark's events, as records, and the keys by which they are judged."""

    records: list[Record]
    ring: KeyRing

    @property
    def values(self) -> list[bytes]:
        """The records' values."""
        return [record.value or b"" for record in self.records]

    def rows(self) -> list[SampleRecord]:
        """Return the records as a block's rows."""
        return [SampleRecord(TOPIC, 0, r.offset, r.value, r.header(SIGNATURE_HEADER)) for r in self.records]


def sample() -> Sample:
    """Return a sample."""
    signer = LocalSigner.from_seed(b"L" * 32)
    since = datetime(2026, 1, 1, tzinfo=UTC)
    key = PublicKey(signer.verification_method, multibase_of(signer.public_key), since)
    ring = KeyRing.rooted(did=signer.did, key=key)
    ring.parties[signer.did] = Party(did=signer.did, kind="member", roles=frozenset(), member=None)
    flat = [event for batch in signed_batches(SAMPLE, signer) for event in batch]
    return Sample(
        [
            Record(TOPIC, 0, offset, 0, key, value, ((SIGNATURE_HEADER, signature),))
            for offset, (key, value, signature) in enumerate(flat)
        ],
        ring,
    )


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
    values, rows = taken.values, taken.rows()
    columns = columns_of(rows)
    body = encode_body(columns)
    joined = b"".join(values)
    digests = hashes_of(values)
    leaves = [
        (r.topic, r.partition, r.offset, r.status, d, r.signature) for r, d in zip(rows, digests, strict=True)
    ]
    header = _header(columns.leaf_hash, body)
    zstd = pa.Codec("zstd", compression_level=1)
    squeezed = zstd.compress(joined, asbytes=True)
    return {
        "SHA-256 of the value, one by one": microseconds(lambda: [sha256(v).digest() for v in values]),
        f"SHA-256 of the value, {lanes()} at once": microseconds(lambda: hashes_of(values)),
        "leaf hashes and root": microseconds(lambda: root_of(leaf_hashes(leaves))),
        "judging: signature, schema, JSON": microseconds(
            lambda: judge_batch(taken.records, ring=taken.ring, at=NOW)
        ),
        "Parquet encode, zstd included": microseconds(lambda: encode_body(columns)),
        "zstd of the values": microseconds(lambda: zstd.compress(joined, asbytes=True)),
        "zstd back": microseconds(lambda: zstd.decompress(squeezed, len(joined), asbytes=True)),
        "CRC-32 of the value": microseconds(lambda: [zlib.crc32(v) for v in values]),
        "fsck of a block in memory": microseconds(lambda: check_body(0, header, body)),
    }


def _header(hashes: list[bytes], body: bytes) -> Header:
    return Header(
        origin="bench/shard/0",
        height=0,
        leaves=len(hashes),
        root=root_of(hashes),
        previous=bytes(32),
        time=NOW,
        accepted=len(hashes),
        body_bytes=len(body),
        body_sha256=sha256(body).digest(),
        identity=("salus.identity.events", 0, 0),
        ranges=(Range(TOPIC, 0, 0, len(hashes)),),
    )


async def measure_fetch(bootstrap: str, count: int, partitions: int) -> dict[str, float]:
    """Measure reading alone: up to `count` records by the reader that the sequencer uses."""
    starts = {(TOPIC, partition): 0 for partition in range(partitions)}
    async with Reader(bootstrap, starts=starts) as reader:
        # The first fetch warms up the connection and the broker's cache.
        there = sum((await reader.end_offsets()).values())
        warm = len(await reader.poll(max_records=max(1, count // 10), timeout_ms=5000))
        wanted = min(count, there) - warm
        read, began = 0, time.process_time()
        while read < wanted:
            read += len(await reader.poll(max_records=20_000, timeout_ms=1000))
        if not read:
            return {}
        return {"Kafka fetch": round((time.process_time() - began) / read * 1e6, 3)}
