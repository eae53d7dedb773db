"""Finds out from the archive alone where a chain stands; nothing else is believed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import pyarrow as pa

from salus.archive.accepted_pairs import accepted_pairs
from salus.archive.blocks import body_bytes_max
from salus.archive.body import ACCEPTED, decode_body
from salus.archive.duplicates import FINGERPRINT_BYTES, DuplicateWindow
from salus.archive.errors import BodyError
from salus.events.attribution import Attribution, key_id_of
from salus.ledger.block import HEADER_BYTES_MAX, REJECTED_PREFIX, Header, body_key, header_key, open_header
from salus.ledger.errors import BlockError
from salus.ledger.key_periods import Keys, chain_end, is_void
from salus.ledger.merkle import leaf_hash
from salus.sequencer.domain import Cursor, Partition, Rejection, Tip
from salus.sequencer.errors import ArchiveDamagedError, LogTruncatedError, RecordsLostError
from salus.sequencer.ports import Announcement, Archive, LogReader

# What of a rejected leaf is announced, as far as the archive has it.
ANNOUNCED = ("topic", "partition", "offset", "status", "digest", "signature")
# How much is read at once while the window of duplicates is restored.
HEADERS_AT_ONCE = 64
BODY_BYTES_AT_ONCE = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Shard:
    """A chain: its id, its keys and the partitions of its beginning, all as in network.json.

    `fellows` are the network's other shards; what one of them gives away this one may have to take.
    `described` returns the keys of a shard that network.json has come to name since.
    """

    id: int
    verifier: Keys
    partitions: tuple[Partition, ...]
    identity: Partition
    fellows: tuple[Shard, ...] = ()
    described: Callable[[int], Keys | None] = lambda _: None

    @property
    def origin(self) -> str:
        """The name that its headers bear."""
        return self.verifier.name

    @property
    def topics(self) -> Mapping[str, Sequence[int]]:
        """The partitions of its beginning, by topic."""
        found: dict[str, list[int]] = {}
        for topic, partition in self.partitions:
            found.setdefault(topic, []).append(partition)
        return found


@dataclass(frozen=True, slots=True)
class Chain:
    """A chain as the archive has it: its last block, and what the next one builds on."""

    tip: Tip | None
    cursor: Cursor
    window: DuplicateWindow


async def last_height(archive: Archive, shard: Shard, known: int = -1) -> int | None:
    """Return the height of the shard's last block, None if there is none; `known` is one that was there.

    Heights have no holes (each header was created after the one it names), so doubling steps and then
    halving ones find the end in about 2 log2(height) questions. What lies behind the end of a chain is void.
    """

    async def is_there(height: int) -> bool:
        return not is_void(shard.verifier, height) and await archive.exists(header_key(shard.id, height))

    end = chain_end(shard.verifier)
    top, step = known if end is None else min(known, end - 1), 1
    while await is_there(top + step):
        top += step
        step *= 2
    while step > 1:
        step //= 2
        if await is_there(top + step):
            top += step
    return None if top < 0 else top


async def read_tip(archive: Archive, shard: Shard, height: int) -> Tip:
    """Return the block of this height, verified by the shard's key."""
    note = await archive.read(header_key(shard.id, height), bytes_max=HEADER_BYTES_MAX)
    if note is None:
        raise ArchiveDamagedError(f"header {height} of shard {shard.id} was there and is gone")
    try:
        header = open_header(note, shard.verifier)
    except BlockError as error:
        raise ArchiveDamagedError(f"header {height} of shard {shard.id}: {error}") from error
    if header.height != height:
        raise ArchiveDamagedError(f"header {height} of shard {shard.id} says it is {header.height}")
    return Tip(header, note)


async def restore_window(
    archive: Archive, shard: Shard, tip: Tip | None, window: DuplicateWindow
) -> DuplicateWindow:
    """Return the window after this block, filled from as many bodies before it as it takes."""
    blocks: list[bytes] = []
    missing = window.size
    while tip is not None and missing > 0 and len(blocks) < window.blocks:
        run = await _run_down_from(archive, shard, tip)
        for bodies in _by_bytes([each for each in run if each.header.accepted]):
            for pairs in await asyncio.gather(*(_accepted_prints(archive, shard, h) for h in bodies)):
                blocks.append(pairs)
                missing -= len(pairs) // FINGERPRINT_BYTES
        tip = await _before(archive, shard, run[-1])
    for pairs in reversed(blocks):
        window.admit(pairs)
        window.end_block()
    return window


async def _run_down_from(archive: Archive, shard: Shard, tip: Tip) -> list[Tip]:
    """Return this block and those before it, a bounded run of them, newest first."""
    run = [tip]
    lowest = max(0, tip.header.height - HEADERS_AT_ONCE + 1)
    heights = range(tip.header.height - 1, lowest - 1, -1)
    for before in await asyncio.gather(*(read_tip(archive, shard, height) for height in heights)):
        _require_link(before, run[-1])
        run.append(before)
    return run


def _by_bytes(run: list[Tip]) -> Iterator[list[Header]]:
    """Part the run so that the bodies of each part, but for a single large one, fit into memory."""
    part: list[Header] = []
    size = 0
    for tip in run:
        if part and size + tip.header.body_bytes > BODY_BYTES_AT_ONCE:
            yield part
            part, size = [], 0
        part.append(tip.header)
        size += tip.header.body_bytes
    if part:
        yield part


async def _before(archive: Archive, shard: Shard, tip: Tip) -> Tip | None:
    if tip.header.height == 0:
        return None
    before = await read_tip(archive, shard, tip.header.height - 1)
    _require_link(before, tip)
    return before


def _require_link(before: Tip, tip: Tip) -> None:
    if tip.header.previous != leaf_hash(before.note):
        raise ArchiveDamagedError(f"header {tip.header.height} names another header before it")


async def _accepted_prints(archive: Archive, shard: Shard, header: Header) -> bytes:
    body = await read_body(archive, shard, header)
    try:
        return accepted_pairs(body).prints
    except BodyError as error:
        raise _damaged(shard, header, str(error)) from error


async def read_rows(archive: Archive, shard: Shard, header: Header, columns: Sequence[str]) -> pa.Table:
    """Return columns of the body that a header names.

    Raises:
        ArchiveDamagedError: the body is gone, or is not what the header names.
    """
    body = await read_body(archive, shard, header)
    try:
        return decode_body(body, columns=columns)
    except BodyError as error:
        raise _damaged(shard, header, str(error)) from error


async def read_body(archive: Archive, shard: Shard, header: Header) -> bytes:
    """Return the body that a header names: by its bytes, for the key alone says nothing.

    Raises:
        ArchiveDamagedError: it is gone, or its length or SHA-256 is not the header's.
    """
    key = body_key(shard.id, header.height, header.root)
    body = await archive.read(key, bytes_max=body_bytes_max(header))
    if body is None:
        raise _damaged(shard, header, "it is missing")
    if len(body) != header.body_bytes or sha256(body).digest() != header.body_sha256:
        raise _damaged(shard, header, "its bytes are not those that its header names")
    return body


def _damaged(shard: Shard, header: Header, why: str) -> ArchiveDamagedError:
    key = body_key(shard.id, header.height, header.root)
    return ArchiveDamagedError(f"body {header.height} of shard {shard.id} ({key}): {why}")


async def announcement_of(archive: Archive, shard: Shard, header: Header) -> Announcement:
    """Return what to say of a block that exists, from the archive.

    Details, sources and ids of its rejections are lost.

    Raises:
        ArchiveDamagedError: as `read_rows`.
    """
    rejections: tuple[Rejection, ...] = ()
    if header.accepted < header.leaves:
        rows = (await read_rows(archive, shard, header, ANNOUNCED)).to_pylist()
        rejections = tuple(
            Rejection(
                topic=row["topic"],
                partition=row["partition"],
                offset=row["offset"],
                reason=row["status"].removeprefix(REJECTED_PREFIX),
                detail="",
                digest=row["digest"],
                attribution=Attribution(key_id_of(row["signature"])),
            )
            for row in rows
            if row["status"] != ACCEPTED
        )
    return Announcement(
        shard=shard.id,
        height=header.height,
        header_key=header_key(shard.id, header.height),
        body_key=body_key(shard.id, header.height, header.root),
        leaves=header.leaves,
        accepted=header.accepted,
        rejections=rejections,
        time=header.time,
    )


async def require_nothing_lost(reader: LogReader, sealed_to: Iterable[tuple[Partition, int]]) -> None:
    """Raise unless the log still has every record that is not sealed yet.

    Raises:
        RecordsLostError: retention removed some.
        LogTruncatedError: a topic ends before what is sealed, so new records would go unseen.
    """
    beginnings, ends = await reader.beginnings(), await reader.ends()
    for (topic, partition), offset in sealed_to:
        at = topic, partition
        if beginnings[at] > offset:
            raise RecordsLostError(
                topic=topic, partition=partition, sealed_to=offset, beginning=beginnings[at]
            )
        if ends[at] < offset:
            raise LogTruncatedError(topic=topic, partition=partition, sealed_to=offset, end=ends[at])
