"""What a member's program may send to Kafka that no client library would: record batches made by hand."""

from __future__ import annotations

import asyncio
import gzip
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka.record.util import calc_crc32c, encode_varint

from salus.messaging import set_topic_setting

ANSWER_S_MAX = 60
CHECKED_FROM, ATTRIBUTES_AT, RECORDS_FROM = 21, 22, 61
GZIP, LOG_APPEND_TIME = 0x01, 0x08
TIMESTAMP_TYPE = "message.timestamp.type"
_PRODUCE, _FETCH = 0, 1
_TIME_MS = 1_764_400_000_000


@dataclass(frozen=True, slots=True)
class Session:
    """What a batch says of the idempotent producer that sent it."""

    producer: int = -1
    epoch: int = -1
    sequence: int = -1


NOBODY = Session()
# A topic that was made a moment ago: unknown to this broker, without a leader, or not this one's yet.
_NOT_YET = frozenset({3, 5, 6})


def record_batch(
    values: Sequence[tuple[int, bytes]],
    *,
    session: Session = NOBODY,
    key: bytes = b"k",
    header: tuple[bytes, bytes] | None = None,
) -> bytes:
    """Return a batch of format v2 with the right checksum; each record says where it stands."""
    records = b"".join(_record(delta, value, key, header) for delta, value in values)
    return _framed(records, len(values), session)


def tiny_batch(count: int) -> bytes:
    """Return a batch of records of nothing, of some ten bytes each: no key, no value, no header."""
    records = (b"\0\0" + _varint(delta) + b"\1\1\0" for delta in range(count))
    return _framed(b"".join(map(_sized, records)), count, NOBODY)


def _framed(records: bytes, count: int, session: Session) -> bytes:
    who = session.producer, session.epoch, session.sequence
    checked = struct.pack(">hiqqqhii", 0, count - 1, _TIME_MS, _TIME_MS, *who, count) + records
    framed = struct.pack(">iBI", -1, 2, calc_crc32c(checked)) + checked
    return struct.pack(">qi", 0, len(framed)) + framed


async def produce(bootstrap: str, topic: str, partition: int, batch: bytes) -> int:
    """Send the batch, have it acknowledged by all replicas, and return the offset that it was given."""
    settings = struct.pack(">hhi", -1, -1, 1000 * ANSWER_S_MAX)
    request = settings + _one(topic, struct.pack(">ii", partition, len(batch)) + batch)
    async with asyncio.timeout(ANSWER_S_MAX):
        while True:
            answer = await _asked(bootstrap, _PRODUCE, 7, request)
            _, code, base = struct.unpack_from(">ihq", answer, 4 + 2 + len(topic) + 4)
            if code not in _NOT_YET:
                break
            await asyncio.sleep(0.1)
    assert code == 0, f"Kafka refuses it with the code {code}"
    return int(base)


def dated(batch: bytes, at_ms: int, *, attributes: int = 0, compressed: bool = False) -> bytes:
    """Return the same batch with another time and further attributes, compressed with gzip if asked for."""
    made = bytearray(batch)
    if compressed:
        made[RECORDS_FROM:] = gzip.compress(bytes(made[RECORDS_FROM:]))
        attributes |= GZIP
        struct.pack_into(">i", made, 8, len(made) - 12)
    made[ATTRIBUTES_AT] |= attributes
    struct.pack_into(">qq", made, 27, at_ms, at_ms)
    struct.pack_into(">I", made, 17, calc_crc32c(bytes(made[CHECKED_FROM:])))
    return bytes(made)


async def send_dated(bootstrap: str, topic: str, batch: bytes, at_ms: int) -> int:
    """Have the batch appended to partition 0 under a time of ours, and return its offset.

    That is what an account can do that may alter settings of topics: they are other for a moment. Until they
    are in force the broker dates what comes, so others are sent before.
    """
    await set_topic_setting(bootstrap, [topic], TIMESTAMP_TYPE, "CreateTime")
    try:
        while True:
            offset = await produce(bootstrap, topic, 0, record_batch([(0, b"?")]))
            if not await attributes_of(bootstrap, topic, 0, offset) & LOG_APPEND_TIME:
                break
        return await produce(bootstrap, topic, 0, dated(batch, at_ms))
    finally:
        await set_topic_setting(bootstrap, [topic], TIMESTAMP_TYPE, "LogAppendTime")


async def attributes_of(bootstrap: str, topic: str, partition: int, offset: int) -> int:
    """Return the attributes of the batch at an offset, as the broker stores it."""
    answer, at = await _fetched(bootstrap, topic, partition, offset)
    return int(answer[at + ATTRIBUTES_AT])


async def session_of(bootstrap: str, topic: str, partition: int, offset: int) -> tuple[Session, int]:
    """Return whose the batch at an offset is, as any reader sees it, and how many records it has."""
    answer, at = await _fetched(bootstrap, topic, partition, offset)
    *who, count = struct.unpack_from(">qhii", answer, at + 43)
    return Session(*who), int(count)


async def _fetched(bootstrap: str, topic: str, partition: int, offset: int) -> tuple[bytes, int]:
    """Return an answer of the broker, and where in it the batch at the offset begins."""
    wanted = struct.pack(">iqi", partition, offset, 1 << 20)
    request = struct.pack(">iiiib", -1, 500, 1, 1 << 20, 0) + _one(topic, wanted)
    answer = await _asked(bootstrap, _FETCH, 4, request)
    at = 4 + 4 + 2 + len(topic) + 4 + 4 + 2 + 8 + 8
    (aborted,) = struct.unpack_from(">i", answer, at)
    return answer, at + 4 + 16 * max(0, aborted) + 4


def _record(delta: int, value: bytes, key: bytes, header: tuple[bytes, bytes] | None) -> bytes:
    headers = () if header is None else header
    parts = [b"\0" + _varint(0) + _varint(delta), *map(_sized, (key, value)), _varint(len(headers) // 2)]
    return _sized(b"".join([*parts, *map(_sized, headers)]))


def _sized(part: bytes) -> bytes:
    return _varint(len(part)) + part


def _varint(number: int) -> bytes:
    made = bytearray()
    encode_varint(number, made.append)
    return bytes(made)


def _one(topic: str, partition: bytes) -> bytes:
    """Return arrays of one topic and one partition."""
    return struct.pack(">ih", 1, len(topic)) + topic.encode() + struct.pack(">i", 1) + partition


async def _asked(bootstrap: str, kind: int, version: int, request: bytes) -> bytes:
    """Return the answer to one request, behind its number."""
    host, _, port = bootstrap.rpartition(":")
    framed = struct.pack(">hhih", kind, version, 1, 4) + b"hand" + request
    async with asyncio.timeout(ANSWER_S_MAX):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(struct.pack(">i", len(framed)) + framed)
            (size,) = struct.unpack(">i", await reader.readexactly(4))
            return (await reader.readexactly(size))[4:]
        finally:
            writer.close()
            await writer.wait_closed()
