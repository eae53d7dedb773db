"""Re-hashes the whole ledger from the object store up and names exactly what is wrong or missing.

Nothing but the two buckets and network.json is needed. The log comes first, then every block of every
chain, over all cores; what the log says of a header repairs our view of a damaged one, so that one damage
is one finding.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from itertools import islice
from math import inf
from operator import itemgetter

from salus.archive.blocks import BlockArchive
from salus.archive.check_blocks import BlockChecker, Checked, Stretch
from salus.archive.check_chains import check_coverage, check_order, check_void
from salus.archive.check_duplicates import DuplicateChecker
from salus.archive.check_log import LogChecker, LogState
from salus.archive.deep import IdentityTopic, Judge, identity_events, rightly_accepted, whole_ring
from salus.archive.deep_rights import RightsJudge
from salus.archive.duplicates import WINDOW_OF_THE_FORMAT, WindowSize
from salus.archive.finality import check_extends, judged
from salus.archive.header_times import HeaderTimes
from salus.archive.identity_positions import IdentityPositions
from salus.archive.kept_memory import keep_freed_memory
from salus.archive.listing import Listing, list_ledger
from salus.archive.repetitions import Repetitions
from salus.archive.report import Counts, Finding, OnProgress, Progress, Report
from salus.archive.resuming import Memory
from salus.archive.trust import Trust
from salus.events.contexts import CATALOGUE
from salus.ledger.check_coverage import CoverageChecker
from salus.ledger.checkpoint import Checkpoint
from salus.objects import ObjectStore, open_store

BLOCKS_A_STRETCH = 32
# Below this many blocks, starting processes costs more than it saves.
BLOCKS_FOR_WORKERS_MIN = 4 * BLOCKS_A_STRETCH
# Stretches under way or waiting to be taken in their order, for each worker.
AHEAD = 4


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """Where the two buckets are, in a form that travels to worker processes."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str
    ledger_bucket: str
    log_bucket: str

    def open(self) -> Stores:
        """Return the two buckets."""
        ledger, log = (
            open_store(
                endpoint=self.endpoint,
                access_key=self.access_key,
                secret_key=self.secret_key,
                region=self.region,
                bucket=bucket,
            )
            for bucket in (self.ledger_bucket, self.log_bucket)
        )
        return Stores(ledger, log)


@dataclass(frozen=True, slots=True)
class Stores:
    """The ledger bucket and the log bucket."""

    ledger: ObjectStore
    log: ObjectStore


async def fsck(  # noqa: PLR0913  # how thoroughly, how fast, and on what it goes on
    source: StoreAddress | Stores,
    trust: Trust,
    *,
    workers: int = 0,
    deep: bool = False,
    on_progress: OnProgress = lambda _: None,
    memory: Memory | None = None,
    window: WindowSize = WINDOW_OF_THE_FORMAT,
    extends: Checkpoint | None = None,
) -> Report:
    """Check everything and return the report.

    Args:
        source: the store's address; buckets that are already open can only be checked in this process.
        trust: whose signatures count.
        workers: processes to use; 0 checks in this process.
        deep: judge every event's signature again, by the identity state that its block recorded, and who had
            the right to what consent and storage did for them; name every event that was accepted again.
        on_progress: called now and then, in this process.
        memory: what an interrupted run found whole (`salus.archive.resuming`), and what this one does.
        extends: an older checkpoint that the log signed, which this one must extend.
        window: how far back the network's sequencers recognise duplicates.

    Raises:
        ObjectsError: the store is away; nothing is concluded from what could not be read.
        ValueError: `deep` with a network file that names no root of identity.
    """
    began = time.monotonic()
    stores = source.open() if isinstance(source, StoreAddress) else source
    verifiers = trust.shards
    by_origin = {verifier.name: verifier for verifier in verifiers.values()}
    log = await LogChecker(
        stores.log, trust.log, by_origin, lambda done, total: on_progress(Progress("log", done, total))
    ).check()
    listing = await list_ledger(stores.ledger, verifiers)
    shards = {verifier.name: shard for shard, verifier in verifiers.items()}
    checkpoint, findings = judged(log, trust)
    findings += [*log.findings, *listing.findings, *(memory.begin(log) if memory else ())]
    findings += check_extends(log, extends) if extends else ()
    identities = await identity_events(stores.ledger, verifiers, listing.headers, log) if deep else None
    if identities is not None:
        identities = rightly_accepted(trust, identities, CATALOGUE)
        listing.judged_by = _digest_of(identities)
    stretches = [_recalled(stretch, listing, memory) for stretch in cut(listing, log, shards, trust.ended)]
    total = sum(len(stretch.heights) for stretch in stretches)
    work = _Work(trust, identities)
    if workers and isinstance(source, StoreAddress) and total >= BLOCKS_FOR_WORKERS_MIN:
        results = _check_in_workers(work, source, stretches, workers)
    else:
        results = _check_here(work, stores, stretches)
    counts, across = log.counts, _AcrossStretches(work, BlockArchive(stores.ledger), window, deep=deep)
    async for checked in results:
        await across.take(checked)
        findings += checked.findings
        if memory:
            memory.remember(listing.mark(checked.span), checked)
        _add(counts, checked.counts)
        on_progress(Progress("blocks", counts.blocks, total, counts.rows))
    findings += await across.findings(findings)
    findings += [
        *check_order(log, across.hashes, shards, listing),
        *check_coverage(across.covered(), shards, log, trust.founders, ended=trust.ended),
        *check_void(log, listing, trust.ended, shards),
    ]
    ok = not any(finding.severity == "error" for finding in findings)
    return Report(
        ok=ok,
        findings=findings,
        counts=counts,
        size=log.size,
        seconds=round(time.monotonic() - began, 3),
        checkpoint=checkpoint,
    )


class _AcrossStretches:
    """What is checked over all blocks of all shards; stretches come in any order."""

    def __init__(self, work: _Work, archive: BlockArchive, window: WindowSize, *, deep: bool) -> None:
        trust, identities = work.trust, work.identities
        self._duplicates = DuplicateChecker(archive, trust.shards, window)
        self._times, self._positions = HeaderTimes(), IdentityPositions()
        self._repetitions = Repetitions(archive, trust.shards) if deep else None
        self._rights = None if identities is None else RightsJudge(whole_ring(trust, identities, CATALOGUE))
        self.hashes: dict[tuple[int, int], bytes] = {}
        self._covered: dict[tuple[int, int], CoverageChecker | None] = {}

    async def take(self, checked: Checked) -> None:
        """Take what was found of a stretch; what it repeats of others is added to its findings."""
        checked.findings += await self._duplicates.take(checked)
        self._times.take(checked.shard, checked.times_off.items())
        self._positions.take(checked.shard, checked.known)
        if self._repetitions:
            self._repetitions.take(checked)
        if self._rights:
            self._rights.take(checked)
        self.hashes |= {(checked.shard, height): h for height, h in checked.hashes.items()}
        self._covered[checked.shard, checked.start] = checked.coverage

    async def findings(self, before: Sequence[Finding]) -> list[Finding]:
        """Return what is found once all are taken, besides what was found before."""
        found = [*(self._rights.findings() if self._rights else ())]
        found += await self._repetitions.notes() if self._repetitions else ()
        found += self._times.notes()
        return [*found, *self._positions.findings([*before, *found])]

    def covered(self) -> list[CoverageChecker | None]:
        """Return which records each stretch has, in the order of shards and heights."""
        return [of for _, of in sorted(self._covered.items(), key=itemgetter(0))]


def _digest_of(topic: IdentityTopic) -> bytes:
    """Return a digest of all that rows are judged by: what is judged under another one is judged again."""
    rows = sha256(repr([event.row for event in topic.events]).encode()).digest()
    return sha256(rows + CATALOGUE.digest).digest()


def cut(listing: Listing, log: LogState, shards: dict[str, int], ended: Mapping[str, int]) -> list[Stretch]:
    """Return the stretches of each chain, from height 0 to its end, or the highest that is known of."""
    logged: dict[int, dict[int, tuple[int, bytes]]] = defaultdict(dict)
    for index, (place, leaf) in enumerate(zip(log.places, log.hashes, strict=True)):
        if place is None or leaf is None or place[1] >= ended.get(place[0], inf):
            continue
        if place[0] in shards:
            logged[shards[place[0]]].setdefault(place[1], (index, leaf))
    stretches = []
    for shard in sorted(shards.values()):
        end = max([*listing.headers[shard], *logged[shard], -1]) + 1
        for start in range(0, end, BLOCKS_A_STRETCH):
            heights = range(start, min(start + BLOCKS_A_STRETCH, end))
            near = range(max(start - 1, 0), heights.stop)
            known = {h: logged[shard][h] for h in near if h in logged[shard]}
            stretches.append(Stretch(shard, heights, known))
    return stretches


@dataclass(frozen=True, slots=True)
class _Work:
    """What every worker needs to check stretches."""

    trust: Trust
    identities: IdentityTopic | None

    def checker(self, stores: Stores) -> BlockChecker:
        judge = Judge(self.trust, self.identities, CATALOGUE) if self.identities is not None else None
        return BlockChecker(stores.ledger, stores.log, self.trust.shards, judge, CATALOGUE)


def _recalled(stretch: Stretch, listing: Listing, memory: Memory | None) -> Stretch:
    """Return the stretch with what is remembered of it."""
    if memory is None:
        return stretch
    span = (stretch.shard, stretch.heights.start, stretch.heights.stop)
    return replace(stretch, sound=memory.recall(span, listing.mark(span)))


async def _check_here(work: _Work, stores: Stores, stretches: Sequence[Stretch]) -> AsyncIterator[Checked]:
    checker = work.checker(stores)
    for stretch in stretches:
        yield await checker.check(stretch)


async def _check_in_workers(
    work: _Work, address: StoreAddress, stretches: Sequence[Stretch], workers: int
) -> AsyncIterator[Checked]:
    """Yield what the stretches come to, in their order; a bounded number of results waits."""
    loop = asyncio.get_running_loop()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(work, address)
    ) as pool:
        with _deaf_to_ctrl_c():
            coming = iter(stretches)
            # The first starts the processes.
            tasks = deque(
                loop.run_in_executor(pool, _check, stretch) for stretch in islice(coming, AHEAD * workers)
            )
        try:
            while tasks:
                yield await tasks.popleft()
                tasks.extend(loop.run_in_executor(pool, _check, stretch) for stretch in islice(coming, 1))
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Let processes that start here ignore Ctrl-C, which reaches all of a terminal's: ours ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


_checker: BlockChecker | None = None


def _begin(work: _Work, address: StoreAddress) -> None:
    """Open the store once in each worker process."""
    keep_freed_memory()
    global _checker  # noqa: PLW0603  # a worker process has one checker for its whole life
    _checker = work.checker(address.open())


def _check(stretch: Stretch) -> Checked:
    if _checker is None:
        raise RuntimeError("the worker was not begun")
    return asyncio.run(_checker.check(stretch))


def _add(counts: Counts, more: Counts) -> None:
    counts.blocks += more.blocks
    counts.rows += more.rows
    counts.body_bytes += more.body_bytes
    counts.judged += more.judged
    counts.spared += more.spared
