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
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from operator import itemgetter
from typing import Literal

from salus.archive.blocks import parse_key
from salus.archive.check_assigned import check_assigned
from salus.archive.check_blocks import BlockChecker, Checked, Span, Stretch
from salus.archive.check_log import LogChecker, LogState
from salus.archive.deep import IdentityEvent, Judge, identity_events
from salus.archive.kept_memory import keep_freed_memory
from salus.archive.report import (
    Counts,
    Finding,
    OnProgress,
    Progress,
    Report,
    about_header,
    stray_note,
)
from salus.archive.resuming import Memory
from salus.archive.trust import Founder, Trust
from salus.ledger.base import base64_of
from salus.ledger.block import body_key, header_key, parse_block_origin
from salus.ledger.check_coverage import CoverageChecker
from salus.ledger.tiles import ENTRIES, TILE_WIDTH, entries_path, tile_width
from salus.objects import ObjectStore, open_store

BLOCKS_A_STRETCH = 32
# Below this many blocks, starting processes costs more than it saves.
BLOCKS_FOR_WORKERS_MIN = 4 * BLOCKS_A_STRETCH


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


@dataclass(slots=True)
class Listing:
    """The objects of the ledger bucket: heights with a header, and bodies, by shard.

    `marks` has, for each shard and height, a digest of how the store lists its objects; `judged_by` is one of
    the identity events by which a deep check judges.
    """

    headers: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    bodies: dict[int, dict[int, set[bytes]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    marks: dict[tuple[int, int], bytes] = field(default_factory=dict)
    judged_by: bytes = b""
    findings: list[Finding] = field(default_factory=list)

    def mark(self, span: Span) -> bytes:
        """Return a digest of how the store lists the objects of a stretch, and of what they are judged by."""
        shard, start, stop = span
        listed = b"".join(self.marks.get((shard, h), b"") for h in range(start, stop))
        return sha256(listed + self.judged_by).digest()


async def fsck(  # noqa: PLR0913  # how thoroughly, how fast, and on what it goes on
    source: StoreAddress | Stores,
    trust: Trust,
    *,
    workers: int = 0,
    deep: bool = False,
    on_progress: OnProgress = lambda _: None,
    memory: Memory | None = None,
) -> Report:
    """Check everything and return the report.

    Args:
        source: the store's address; buckets that are already open can only be checked in this process.
        trust: whose signatures count.
        workers: processes to use; 0 checks in this process.
        deep: judge every event's signature again, by the identity state that its block recorded.
        on_progress: called now and then, in this process.
        memory: what an interrupted run found whole (`salus.archive.resuming`), and what this one does.

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
    listing = await list_ledger(stores.ledger, set(verifiers))
    shards = {verifier.name: shard for shard, verifier in verifiers.items()}
    findings = [*log.findings, *listing.findings, *(memory.begin(log) if memory else ())]
    identities = await identity_events(stores.ledger, verifiers, listing.headers, log) if deep else None
    if identities is not None:
        listing.judged_by = sha256(repr([(e.offset, e.value) for e in identities]).encode()).digest()
    stretches = [_recalled(stretch, listing, memory) for stretch in cut(listing, log, shards)]
    counts = log.counts
    hashes: dict[tuple[int, int], bytes] = {}
    covered: dict[tuple[int, int], CoverageChecker | None] = {}
    total = sum(len(stretch.heights) for stretch in stretches)
    work = _Work(trust, identities)
    if workers and isinstance(source, StoreAddress) and total >= BLOCKS_FOR_WORKERS_MIN:
        results = _check_in_workers(work, source, stretches, workers)
    else:
        results = _check_here(work, stores, stretches)
    async for checked in results:
        findings += checked.findings
        if memory:
            memory.remember(listing.mark(checked.span), checked)
        hashes |= {(checked.shard, height): h for height, h in checked.hashes.items()}
        covered[checked.shard, checked.start] = checked.coverage
        _add(counts, checked.counts)
        on_progress(Progress("blocks", counts.blocks, total, counts.rows))
    findings += check_order(log, hashes, shards, listing)
    seen = [of for _, of in sorted(covered.items(), key=itemgetter(0))]
    findings += check_coverage(seen, shards, log, trust.founders)
    ok = not any(finding.severity == "error" for finding in findings)
    return Report(
        ok=ok, findings=findings, counts=counts, size=log.size, seconds=round(time.monotonic() - began, 3)
    )


async def list_ledger(objects: ObjectStore, shards: set[int]) -> Listing:
    """Return what is in the ledger bucket."""
    listing = Listing()
    strangers: dict[int, str] = {}
    async for entry in objects.list(on_stray=lambda s: listing.findings.append(stray_note("ledger", s))):
        parsed = parse_key(entry.key)
        if parsed is not None and parsed[0] not in shards:
            strangers.setdefault(parsed[0], entry.key)
            continue
        if parsed is None:
            if not entry.key.startswith("_salus/"):
                detail = "not an object of this network's ledger"
                listing.findings.append(_note("unknown-object", entry.key, detail))
            continue
        shard, height, root = parsed
        listed = repr((entry.key, entry.size, entry.etag)).encode()
        before = listing.marks.get((shard, height), b"")
        listing.marks[shard, height] = sha256(before + listed).digest()
        if root is None:
            listing.headers[shard].add(height)
        else:
            listing.bodies[shard][height].add(root)
    for shard, key in sorted(strangers.items()):
        detail = f"network.json does not name shard {shard}; if it was added later, take the present file"
        listing.findings.append(
            Finding(
                severity="error", code="unknown-shard", bucket="ledger", key=key, detail=detail, shard=shard
            )
        )
    return listing


def cut(listing: Listing, log: LogState, shards: dict[str, int]) -> list[Stretch]:
    """Return the stretches of each chain, from height 0 to the highest that archive or log know of."""
    logged: dict[int, dict[int, tuple[int, bytes]]] = defaultdict(dict)
    for index, (place, leaf) in enumerate(zip(log.places, log.hashes, strict=True)):
        if place is not None and leaf is not None and place[0] in shards:
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


def check_order(
    log: LogState, hashes: dict[tuple[int, int], bytes], shards: dict[str, int], listing: Listing
) -> list[Finding]:
    """Check that the log holds each chain from height 0 on, in order, once; and the head's account of it."""
    found: list[Finding] = []
    by_hash = {leaf: at for at, leaf in hashes.items()}
    following: dict[int, int] = defaultdict(int)
    last: dict[int, bytes] = {}
    for index, (place, leaf) in enumerate(zip(log.places, log.hashes, strict=True)):
        if leaf is None:
            continue
        at = (shards.get(place[0], -1), place[1]) if place else by_hash.get(leaf)
        if at is None:
            continue
        shard, height = at
        if shard < 0 or height != following[shard]:
            key = entries_path(index // TILE_WIDTH, tile_width(ENTRIES, index // TILE_WIDTH, log.size))
            detail = f"entry {index} is block {height} of shard {shard}, where {following[shard]} is next"
            found.append(Finding(severity="error", code="entry-order", bucket="log", key=key, detail=detail))
        following[shard] = height + 1
        last[shard] = leaf
    found += _check_chains(log, following, last)
    for shard, heights in listing.headers.items():
        newer = sorted(h for h in heights if h >= following[shard])
        if newer:
            detail = f"blocks {newer[0]} to {newer[-1]} are not in the log yet"
            found.append(_note("not-anchored", header_key(shard, newer[0]), detail, shard=shard))
    found += _unreferenced(listing)
    return found


def check_coverage(
    stretches: Sequence[CoverageChecker | None],
    shards: dict[str, int],
    log: LogState,
    founders: Sequence[Founder] = (),
) -> list[Finding]:
    """Check that the shards together cover every offset once, and every hand-over between them.

    In the log the block that gave comes first. Nothing is said if a header is unknown. What was given and
    not taken yet is worth knowing, no error.
    """
    checker = CoverageChecker()
    for stretch in stretches:
        if stretch is None:
            return []
        checker.merge(stretch)
    found = [*check_assigned(checker, founders, shards)]
    found += [
        _about_block("error", f.code, f.where, f.detail, shards) for f in checker.findings(growing=shards)
    ]
    for block, (topic, partition), offset, to in checker.pending():
        detail = f"{topic} {partition} is given at offset {offset} to {to}, which has not taken it yet"
        found.append(_about_block("info", "handover-pending", block, detail, shards))
    for taking in checker.unseen(shards):
        detail = f"it takes from {taking.giver}, which was sealed after this check began"
        found.append(_about_block("info", "handover-pending", taking.block, detail, shards))
    index_of = {place: index for index, place in enumerate(log.places) if place}
    for taking in checker.took:
        index = index_of.get(parse_block_origin(taking.block), -1)
        if index >= 0 and index_of.get(parse_block_origin(taking.giver), index) >= index:
            detail = f"entry {index} of the log takes from {taking.giver}, which is not before it"
            found.append(_about_block("error", "entry-order", taking.block, detail, shards))
    return found


def _about_block(
    severity: Literal["error", "info"], code: str, block: str, detail: str, shards: dict[str, int]
) -> Finding:
    origin, height = parse_block_origin(block)
    return about_header(shards[origin], height, code, detail, severity=severity)


def _check_chains(log: LogState, following: dict[int, int], last: dict[int, bytes]) -> list[Finding]:
    """The head's next heights are those that its log comes to."""
    head = log.head
    if head is None or head.size != log.size or None in log.hashes or None in log.places:
        return []
    told = {shard: (chain.next, chain.last) for shard, chain in head.chains.items()}
    counted = {str(s): (following[s], base64_of(last[s])) for s in last}
    if told == counted:
        return []
    detail = "the next heights in the head are not those of the log's entries"
    return [Finding(severity="error", code="head-wrong", bucket="log", key="_salus/head", detail=detail)]


def _unreferenced(listing: Listing) -> list[Finding]:
    """Bodies without a header are left behind by a sequencer that died or lost a race; they harm nobody."""
    return [
        _note("unreferenced-body", body_key(shard, height, root), "no header names this body", shard=shard)
        for shard, heights in listing.bodies.items()
        for height, roots in heights.items()
        if height not in listing.headers[shard]
        for root in sorted(roots)
    ]


@dataclass(frozen=True, slots=True)
class _Work:
    """What every worker needs to check stretches."""

    trust: Trust
    identities: Sequence[IdentityEvent] | None

    def checker(self, stores: Stores) -> BlockChecker:
        judge = Judge(self.trust, self.identities) if self.identities is not None else None
        return BlockChecker(stores.ledger, stores.log, self.trust.shards, judge)


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
    loop = asyncio.get_running_loop()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin, initargs=(work, address)
    ) as pool:
        with _deaf_to_ctrl_c():
            tasks = [loop.run_in_executor(pool, _check, stretch) for stretch in stretches]
        try:
            for task in asyncio.as_completed(tasks):
                yield await task
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


def _note(code: str, key: str, detail: str, *, shard: int | None = None) -> Finding:
    return Finding(severity="info", code=code, bucket="ledger", key=key, detail=detail, shard=shard)
