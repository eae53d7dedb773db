"""Orders the effects of sealing: gather, judge, write the body, create the header, announce."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256

import pyarrow as pa

from salus.archive.blocks import BODY_BYTES_MAX
from salus.archive.body import SCHEMA, decode_body, encode_table
from salus.archive.duplicates import DuplicateWindow, WindowSize
from salus.archive.errors import BodyError
from salus.ledger.block import body_key, check_succession, header_key, sign_header
from salus.ledger.note import Signers
from salus.ledger.records import Records
from salus.messaging import MissingRecordsError
from salus.sequencer.clock_check import LOOK_AGAIN_MS, ClockCheck, described
from salus.sequencer.domain import Cursor, Draft, Partition, Tip, block_time, draft_block
from salus.sequencer.errors import ArchiveDamagedError, ClockTurnedError, LogRefusedError, OvertakenError
from salus.sequencer.foreign_blocks import ForeignBlocks, Sealed
from salus.sequencer.gathering import Gatherer, Limits, Stop, Stretch
from salus.sequencer.handing_over import LOOK_EVERY_MS, Lookout, Outlook, Watch
from salus.sequencer.intake import traces_in
from salus.sequencer.log_ends import stated_ends
from salus.sequencer.ports import (
    Announcement,
    Announcements,
    Archive,
    Clock,
    Identities,
    Log,
    LogReader,
    Observer,
    Offload,
)
from salus.sequencer.restoring import Chain, Shard, announcement_of, require_nothing_lost

LAG_ANSWER_S_MAX = 2.0
# Clocks are corrected by less than this all the time.
CLOCK_BACK_MAX = timedelta(seconds=60)


@dataclass(slots=True)
class Progress:
    """What others in this process may look at: nothing is decided by it."""

    tip: Tip | None = None
    reader: LogReader | None = None
    halted: str | None = None
    # Where the present stretch of sealing began, and what the shard is to seal; None: not read back yet.
    starts: Mapping[Partition, int] = field(default_factory=dict)
    outlook: Outlook | None = None
    # What all shards together are to seal; none: not read back yet.
    assigned: Collection[Partition] = ()
    # Why no block is dated now; None: nothing speaks against it.
    clock_off: str | None = None
    # Where records were gone from the log, as readers before the present one saw.
    missing: Mapping[Partition, MissingRecordsError] = field(default_factory=dict)
    # Which parts do not answer or refuse, and why.
    away: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sequencer:
    """One shard's sequencer: what it seals, with which key, and the ports it works through."""

    shard: Shard
    signer: Signers
    archive: Archive
    log: Log
    identities: Identities
    announcements: Announcements
    observer: Observer
    clock: Clock
    offload: Offload
    limits: Limits
    window: WindowSize = field(default_factory=WindowSize)
    clock_check: ClockCheck = field(default_factory=ClockCheck)
    progress: Progress = field(default_factory=Progress)
    sealed: Sealed = field(default_factory=Sealed)


@dataclass(slots=True)
class Drafted:
    """A decided block, when its first record arrived on the clock's second hand, and some of its traces.

    `decided` is what the clock said when it was decided.
    """

    draft: Draft
    table: pa.Table
    began_ms: float
    traces: tuple[bytes, ...]
    decided: datetime

    def take_table(self) -> pa.Table:
        """Return the body's rows and let go of them: they are most of the memory, and needed once."""
        taken, self.table = self.table, SCHEMA.empty_table()
        return taken


async def run(sequencer: Sequencer, stop: Stop) -> None:
    """Seal blocks until told to stop, starting over from the archive whenever another was first.

    Raises:
        HaltError: going on would lose records or contradict the archive.
    """
    lookout = Lookout(sequencer.shard, sequencer.archive)
    chain: Chain | None = None
    while not stop.is_set():
        try:
            chain = await seal_stretch(sequencer, lookout, chain or await restored(sequencer), stop)
        except OvertakenError as error:
            sequencer.observer.overtaken(height=error.height)
            chain = None


async def restored(sequencer: Sequencer) -> Chain:
    """Return the chain as the archive has it; its last block is announced once more.

    Raises:
        HaltError: the archive is damaged, the log is another one than was sealed, or a block is wrong.
    """
    chain = await ForeignBlocks(
        sequencer.shard,
        sequencer.archive,
        sequencer.log,
        sequencer.identities,
        sequencer.observer,
        sequencer.offload,
        sequencer.window,
        sequencer.sealed,
    ).restored()
    sequencer.observer.restored(
        height=chain.cursor.height - 1 if chain.tip else None, window=len(chain.window)
    )
    if chain.tip is not None:
        ahead = chain.tip.header.time - sequencer.clock.now()
        if ahead > CLOCK_BACK_MAX:
            # No later block may be dated before it, so it cannot be put right: a person has to know.
            sequencer.observer.dated_ahead(height=chain.tip.header.height, seconds=ahead.total_seconds())
        # Whoever created the last header may have died before announcing it.
        last = await announcement_of(sequencer.archive, sequencer.shard, chain.tip.header)
        await sequencer.announcements.announce(last)
    sequencer.progress.tip = chain.tip
    return chain


async def seal_stretch(sequencer: Sequencer, lookout: Lookout, chain: Chain, stop: Stop) -> Chain:
    """Hand over what is due, or else seal until told to stop or a hand-over is due; return the chain then.

    Raises:
        OvertakenError, HaltError: as `seal_blocks`.
    """
    identities, clock, progress = sequencer.identities, sequencer.clock, sequencer.progress
    ring = await identities.catch_up()
    chain, draft = await lookout.due(chain, ring, now=clock.now())
    progress.starts, progress.outlook = chain.cursor.next, lookout.outlook
    progress.assigned = lookout.assigned
    if draft is not None:
        return await seal_handover(sequencer, draft, chain, stop)
    if not chain.cursor.next:
        await clock.pause(LOOK_EVERY_MS)
        return chain
    try:
        async with sequencer.log.open(chain.cursor.next) as reader:
            progress.reader = reader
            watch = Watch(lookout, chain.cursor, stop, identities, clock)
            return await seal_blocks(replace(sequencer, identities=watch), reader, chain, watch)
    finally:
        if progress.reader is not None:
            progress.missing = {**progress.reader.missing, **progress.missing}
        progress.reader = None


async def seal_handover(sequencer: Sequencer, draft: Draft, chain: Chain, stop: Stop) -> Chain:
    """Seal the block that gives and takes, and return the chain after it; as it was, if told to stop before.

    A crash before its header exists leaves everything where it was. After that the partitions are taken, or
    given, for everybody; whoever restores this chain reads it there.
    """
    now = await block_moment(sequencer, stop)
    if now is None:
        return chain
    draft = replace(draft, time=block_time(now, cursor=chain.cursor))
    drafted = Drafted(draft, SCHEMA.empty_table(), sequencer.clock.monotonic_ms(), (), now)
    tip = await seal_block(sequencer, drafted, _known(chain.tip))
    chain.window.end_block()
    return Chain(tip, draft.cursor(), chain.window)


async def seal_blocks(sequencer: Sequencer, reader: LogReader, chain: Chain, stretch: Stretch) -> Chain:
    """Seal block after block until the stretch ends, and return the chain then.

    The next block is fetched while one is judged and those before it are being written. Blocks are judged one
    after the other, for each adds to the window of duplicates, and headers are created strictly one after the
    other: each waits for the one it names.

    Raises:
        OvertakenError: nothing in memory counts any more.
        HaltError: see `require_nothing_lost`.
    """
    await require_nothing_lost(reader, chain.cursor.next.items())
    gatherer = Gatherer(reader, sequencer.clock, sequencer.limits, stretch)
    cursor, tip = chain.cursor, _known(chain.tip)
    in_flight: deque[asyncio.Future[Tip | None]] = deque()
    try:
        async with asyncio.TaskGroup() as group, gatherer:
            while drafted := await draft_next_block(sequencer, gatherer, cursor, chain.window, stretch):
                if len(in_flight) == sequencer.limits.in_flight_max:
                    await in_flight.popleft()
                cursor = drafted.draft.cursor()
                tip = group.create_task(seal_block(sequencer, drafted, tip))
                in_flight.append(tip)
        return Chain(await tip, cursor, chain.window)
    except BaseExceptionGroup as errors:
        # A failed block takes those behind it along; the gravest error tells most.
        raise min(errors.exceptions, key=lambda e: isinstance(e, OvertakenError)) from errors


async def draft_next_block(
    sequencer: Sequencer, gatherer: Gatherer, cursor: Cursor, window: DuplicateWindow, stop: Stop
) -> Drafted | None:
    """Fetch and judge the next block; None once `stop` is set. Nothing is written.

    The identity topic is read to its end after the last record was fetched: whoever published a key
    before using it finds the key known. From then on until the block is judged nobody else reads it.
    """
    try:
        gathered = await gatherer.next_batch()
    except LogRefusedError:
        # What was gathered of this batch is not sealed: the log must have it still.
        await require_nothing_lost(gatherer.reader, cursor.next.items())
        raise
    if gathered is None:
        return None
    with sequencer.observer.stage("identity"):
        ring = await sequencer.identities.catch_up()
    if stop.is_set():
        # An assignment that was stated meanwhile may give away what is in this batch.
        return None
    now = await block_moment(sequencer, stop, gathered.batch.records)
    if now is None:
        return None
    ends = await stated_ends(gatherer.reader, gathered.batch, cursor, sequencer.clock)
    with sequencer.observer.stage("judge"):
        draft, table = await sequencer.offload(
            partial(draft_block, gathered.batch, ends=ends, cursor=cursor, ring=ring, window=window, now=now)
        )
    return Drafted(draft, table, gathered.began_ms, traces_in(gathered.batch.records), now)


async def block_moment(sequencer: Sequencer, stop: Stop, parts: Sequence[Records] = ()) -> datetime | None:
    """Return the time by which to date a block of these records, once another clock agrees; None: stop.

    Nothing is written meanwhile, and readiness says why.
    """
    clock, progress, observer = sequencer.clock, sequencer.progress, sequencer.observer
    while not stop.is_set():
        now, ahead = await sequencer.clock_check.look(sequencer.archive, clock, parts)
        if ahead is None:
            if progress.clock_off is not None:
                progress.clock_off = None
                observer.clock_off(seconds=0)
            return now
        if progress.clock_off is None:
            observer.clock_off(seconds=round(ahead.total_seconds()))
        progress.clock_off = described(ahead)
        await clock.pause(LOOK_AGAIN_MS)
    return None


async def seal_block(
    sequencer: Sequencer, drafted: Drafted, previous: asyncio.Future[Tip | None]
) -> Tip | None:
    """Write one block and return it as the tip that the next one names.

    A crash
    - before the body is written leaves nothing;
    - after it leaves a body that no header names, which harms nobody: the next sequencer seals the same
      records again, perhaps cut otherwise;
    - after the header is created, the commit point, leaves a block that nobody was told of. `run`
      announces the last header when it starts, and no header follows one that is not announced.

    Raises:
        OvertakenError: another sequencer created this height's header first, or the clock was set back.
        ArchiveDamagedError: another body lies under this block's name.
    """
    draft, archive, observer = drafted.draft, sequencer.archive, sequencer.observer
    with observer.block(draft.height, drafted.traces):
        with observer.stage("encode"):
            body = await sequencer.offload(partial(encode_table, drafted.take_table()))
        with observer.stage("body"):
            length, digest = await _written(sequencer, draft, body)
        before = await previous
        require_present(drafted, sequencer.clock.now())
        with observer.stage("header"):
            # A key may be in an HSM, which takes its time.
            tip = await sequencer.offload(partial(_signed, sequencer, draft, before, length, digest))
            if not await archive.create(header_key(sequencer.shard.id, draft.height), tip.note):
                raise OvertakenError(height=draft.height)
        sequencer.progress.tip, sequencer.sealed.to = tip, draft.height + 1
        block = _announcement(sequencer.shard, draft)
        observer.sealed(block, draft, age_ms=sequencer.clock.monotonic_ms() - drafted.began_ms)
        with observer.stage("announce"):
            await sequencer.announcements.announce(block)
    return tip


async def _written(sequencer: Sequencer, draft: Draft, body: bytes) -> tuple[int, bytes]:
    """Write the body, hashing it meanwhile; return length and SHA-256 of what is there now."""
    key = body_key(sequencer.shard.id, draft.height, draft.root)
    hashing = sequencer.offload(partial(sha256, body))
    there, hashed = await asyncio.gather(write_body(sequencer.archive, key, body), hashing)
    if there is not body:
        hashed = await sequencer.offload(partial(sha256, there))
    return len(there), hashed.digest()


def require_present(drafted: Drafted, now: datetime) -> None:
    """Raise ClockTurnedError if the clock was set back since the block was decided.

    A store that refuses requests of a wrong time holds a block back until the clock is right again; its
    time, by which keys were judged and which no later block may be before, would then be far off.
    """
    if drafted.decided > now + CLOCK_BACK_MAX:
        raise ClockTurnedError(height=drafted.draft.height)


async def write_body(archive: Archive, key: str, body: bytes) -> bytes:
    """Write a body under its name, once, and return the body that is there now.

    A body is named by its root, and another version of the encoder may have written the same rows in other
    bytes before. A header may name those by now, so they stay, and ours names them too.

    Raises:
        ArchiveDamagedError: what is there has other rows.
    """
    if await archive.create(key, body):
        return body
    found = await archive.read(key, bytes_max=BODY_BYTES_MAX)
    try:
        if found is not None and decode_body(found).equals(decode_body(body)):
            return found
    except BodyError as error:
        raise ArchiveDamagedError(f"{key}: {error}") from error
    raise ArchiveDamagedError(f"{key} holds other rows than its name says")


def _signed(
    sequencer: Sequencer, draft: Draft, before: Tip | None, body_bytes: int, body_sha256: bytes
) -> Tip:
    header = draft.header(
        origin=sequencer.signer.name,
        identity_partition=sequencer.shard.identity,
        previous=None if before is None else before.note,
        body_bytes=body_bytes,
        body_sha256=body_sha256,
    )
    check_succession(None if before is None else (before.header, before.note), header)
    return Tip(header, sign_header(header, sequencer.signer))


def _announcement(shard: Shard, draft: Draft) -> Announcement:
    return Announcement(
        shard=shard.id,
        height=draft.height,
        header_key=header_key(shard.id, draft.height),
        body_key=body_key(shard.id, draft.height, draft.root),
        leaves=draft.leaves,
        accepted=draft.accepted,
        rejections=draft.rejections,
        time=draft.time,
    )


def _known(tip: Tip | None) -> asyncio.Future[Tip | None]:
    known: asyncio.Future[Tip | None] = asyncio.get_running_loop().create_future()
    known.set_result(tip)
    return known


async def lag_of(progress: Progress) -> dict[Partition, int]:
    """Return how many offsets each partition is behind its end; nothing while the log does not answer."""
    if progress.reader is None:
        return {}
    try:
        async with asyncio.timeout(LAG_ANSWER_S_MAX):
            ends = await progress.reader.ends()
    except TimeoutError:
        return {}
    sealed = {} if progress.tip is None else progress.tip.header.next_offsets
    return {at: end - sealed.get(at, 0) for at, end in ends.items()}
