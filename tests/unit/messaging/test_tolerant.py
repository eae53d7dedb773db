"""Records that the broker takes from anybody must not stop whoever reads them."""

from __future__ import annotations

import struct

from aiokafka import TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

import salus.messaging  # noqa: F401  # what is under test is what importing it does

CRC_AT, CRC_END = 17, 21
SIGNATURE = ("salus-signature", b"v1")


def batch_of(names: list[bytes], *, base_offset: int = 0) -> bytes:
    """Return a v2 batch of one record for each header name; each also has a signature."""
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 10**6)
    for index, name in enumerate(names):
        builder.append(index, index, b"k", b"v", [SIGNATURE, ("." * len(name), b"x")])
    raw = bytearray(builder.build())
    at = 0
    for name in names:
        at = raw.index(b"." * len(name), at)
        raw[at : at + len(name)] = name
    raw[0:8] = struct.pack(">q", base_offset)
    raw[CRC_AT:CRC_END] = struct.pack(">I", calc_crc32c(bytes(raw[CRC_END:])))
    return bytes(raw)


def read(data: bytes) -> list[tuple[int, tuple[tuple[str, bytes], ...]]]:
    """Return offsets and headers as the consumer hands them out."""
    records = PartitionRecords(
        tp=TopicPartition("t", 0),
        records=fetcher.MemoryRecords(data),
        aborted_transactions=None,
        fetch_offset=0,
        key_deserializer=None,
        value_deserializer=None,
        check_crcs=True,
        isolation_level=READ_COMMITTED,
    )
    return [(record.offset, record.headers) for record in records]


def test_a_header_name_that_is_not_utf8_stops_nobody() -> None:
    first = batch_of([b"traceparent", b"\xff\xfe-name", b"traceparent"])
    found = read(first + batch_of([b"traceparent"], base_offset=3))

    assert [offset for offset, _ in found] == [0, 1, 2, 3]
    assert found[1][1] == (SIGNATURE, ("��-name", b"x"))
    assert found[0][1] == found[2][1] == found[3][1] == (SIGNATURE, ("traceparent", b"x"))


def test_a_broken_name_never_becomes_one_that_is_looked_for() -> None:
    ((_, headers),) = read(batch_of([b"salus-signature\xff"]))

    assert [name for name, _ in headers] == ["salus-signature", "salus-signature�"]
