"""Checks a stretch of one chain: header signatures, succession, bodies. Runs in a worker process."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from itertools import zip_longest

from salus.archive.accepted_pairs import AcceptedPairs, accepted_pairs
from salus.archive.blocks import BlockArchive, body_bytes_max
from salus.archive.check_body import Blamed, check_body
from salus.archive.deep import Judge
from salus.archive.errors import DamagedError
from salus.archive.header_times import time_off
from salus.archive.log import LogReader
from salus.archive.report import Counts, Finding, about_header
from salus.archive.served_kinds import runs_of_body
from salus.archive.served_requests import ServedRun, holds_served, rights_rest_on
from salus.events.catalogue import Catalogue
from salus.ledger.block import Header, body_key, check_succession, open_header
from salus.ledger.check_coverage import CoverageChecker
from salus.ledger.errors import BlockError
from salus.ledger.hashing import hash_each
from salus.ledger.key_periods import Keys
from salus.ledger.merkle import leaf_hash
from salus.objects import NotFoundError, ObjectStore, TooLargeError

# Bodies read together, to be hashed side by side; the next ones are read while these are checked.
BODIES_TOGETHER = 16
# Beyond so many bytes the processor's caches and a worker's memory count for more.
BYTES_TOGETHER_MAX = 64 * 1024 * 1024
# Side by side all take as long as the longest of them would.
_IDLE_MAX = 1.5
# What opening a header can fail with, as findings are called.
_HEADER_CODES = {"malformed-header": "header-unreadable", "origin": "chain-broken"}


# A body that is larger than its header says, by no more than this, is read to say what is wrong with it.
CHANGED_BYTES_MORE = 64 * 1024
_Body = bytes | TooLargeError | None

Span = tuple[int, int, int]
"""A shard, the first height of a stretch, and the one after its last."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Heights of one shard to check, and where the log has them: height to (log index, leaf hash).

    `sound` is the digest of the headers whose bodies need not be read again (b"": whatever the headers are).
    """

    shard: int
    heights: range
    logged: Mapping[int, tuple[int, bytes]]
    sound: bytes | None = None


@dataclass(slots=True)
class Checked:
    """What a stretch came to: the leaf hash of each header object that is its shard's, by height.

    `stop` is the height after its last; `spared` says that its bodies were not checked again. `served` is
    what they hold of consent and storage, if events are judged; None if what rights rest on cannot be read.
    `coverage` is what the headers of the whole stretch cover, None if one of them is unknown. `pairs` is what
    each body that was checked and is whole accepts, `times_off` by how much a header's time is far from its
    records. `known` are the headers, wherever they were found.
    """

    shard: int
    start: int
    stop: int
    spared: bool = False
    coverage: CoverageChecker | None = None
    hashes: dict[int, bytes] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    served: list[ServedRun] | None = field(default_factory=list)
    pairs: dict[int, AcceptedPairs] = field(default_factory=dict)
    times_off: dict[int, timedelta] = field(default_factory=dict)
    known: list[Header] = field(default_factory=list)

    @property
    def span(self) -> Span:
        """The heights that were checked."""
        return self.shard, self.start, self.stop

    @property
    def headers(self) -> bytes:
        """A digest of the headers."""
        return sha256(b"".join(leaf for _, leaf in sorted(self.hashes.items()))).digest()


@dataclass(frozen=True, slots=True)
class _Known:
    """A header that can be trusted, wherever it was found."""

    header: Header
    note: bytes


class BlockChecker:
    """Checks stretches of chains in two buckets."""

    def __init__(
        self,
        ledger: ObjectStore,
        log: ObjectStore,
        verifiers: Mapping[int, Keys],
        judge: Judge | None,
        catalogue: Catalogue,
    ) -> None:
        self._objects = ledger
        self._archive = BlockArchive(ledger)
        self._log = LogReader(log)
        self._verifiers = verifiers
        self._judge = judge
        self._catalogue = catalogue

    async def check(self, stretch: Stretch) -> Checked:
        """Check every block of the stretch; raises ObjectsError if the store goes away."""
        result = Checked(stretch.shard, stretch.heights.start, stretch.heights.stop)
        near = range(max(stretch.heights.start - 1, 0), stretch.heights.stop)
        notes = await asyncio.gather(*(self._archive.header(stretch.shard, height) for height in near))
        known = {
            height: await self._known(stretch, height, note, result)
            for height, note in zip(near, notes, strict=True)
        }
        result.coverage = _coverage([known[height] for height in stretch.heights])
        result.spared = not result.findings and stretch.sound in {b"", result.headers}
        for height in stretch.heights:
            result.counts.blocks += 1
            block = known[height]
            if block is not None:
                self._check_succession(stretch.shard, known.get(height - 1), block, result)
                result.counts.spared += result.spared
        blocks = [block for height in stretch.heights if (block := known[height])]
        result.known = [block.header for block in blocks]
        if len(blocks) < len(stretch.heights):
            result.served = None
        if result.spared:
            # Rights are judged by the whole ledger in every run, so this much is read again.
            judged = self._judge is not None
            blocks = [block for block in blocks if judged and holds_served(block.header)]
        await self._check_bodies(stretch.shard, blocks, result)
        return result

    async def _check_bodies(self, shard: int, blocks: Sequence[_Known], result: Checked) -> None:
        groups = _groups([block.header for block in blocks])
        reading = self._read(shard, groups[0] if groups else [])
        try:
            for group, following in zip_longest(groups, groups[1:], fillvalue=()):
                bodies = await reading
                digests = _digests(bodies)
                reading = self._read(shard, following)
                # The store is asked before this process is busy.
                await asyncio.sleep(0)
                for at, (header, digest) in enumerate(zip(group, digests, strict=True)):
                    self._check_body(shard, header, bodies[at], digest, result)
                    bodies[at] = None
        finally:
            reading.cancel()

    def _read(self, shard: int, headers: Sequence[Header]) -> asyncio.Future[list[_Body]]:
        return asyncio.gather(*(self._body(shard, header) for header in headers))

    async def _known(
        self, stretch: Stretch, height: int, note: bytes | None, result: Checked
    ) -> _Known | None:
        """Return the header, out of the log if the archive's own is bad; findings for our heights only."""
        shard = stretch.shard
        verifier = self._verifiers[shard]
        logged = stretch.logged.get(height)
        ours = height in stretch.heights
        try:
            known = _opened(note, height, verifier)
        except BlockError as error:
            if ours:
                code = _HEADER_CODES.get(error.code, error.code)
                result.findings.append(about_header(shard, height, code, error.detail))
            return await self._from_log(logged, height, verifier)
        if ours:
            result.hashes[height] = leaf_hash(known.note)
            if logged is not None and logged[1] != result.hashes[height]:
                detail = f"the log has something else of this height, at index {logged[0]}"
                result.findings.append(about_header(shard, height, "entry-wrong", detail))
        return known

    async def _from_log(self, logged: tuple[int, bytes] | None, height: int, verifier: Keys) -> _Known | None:
        if logged is None:
            return None
        try:
            async for note in self._log.entries(logged[0], logged[0] + 1):
                header = open_header(note, verifier)
                return _Known(header, note) if header.height == height else None
        except (DamagedError, BlockError):
            pass
        return None

    def _check_succession(self, shard: int, before: _Known | None, block: _Known, result: Checked) -> None:
        if before is None and block.header.height > 0:
            # What is before it is damaged beyond repair, and was found so.
            return
        try:
            check_succession((before.header, before.note) if before else None, block.header)
        except BlockError as error:
            detail = f"{error.code}: {error.detail}"
            result.findings.append(about_header(shard, block.header.height, "chain-broken", detail))

    async def _body(self, shard: int, header: Header) -> _Body:
        bytes_max = body_bytes_max(header) + CHANGED_BYTES_MORE
        try:
            return await self._objects.get(body_key(shard, header.height, header.root), bytes_max=bytes_max)
        except NotFoundError:
            return None
        except TooLargeError as error:
            return error

    def _check_body(self, shard: int, header: Header, data: _Body, digest: bytes, result: Checked) -> None:
        if isinstance(data, TooLargeError):
            result.findings.append(Blamed(shard, header).finding("body-hash", str(data)))
            _miss_served(header, result)
            return
        if data is None:
            result.findings.append(Blamed(shard, header).finding("body-missing", "there is no such body"))
            _miss_served(header, result)
            return
        if result.spared and len(data) == header.body_bytes and digest == header.body_sha256:
            self._add_served(shard, header, data, (), result)
            return
        result.counts.rows += header.leaves
        result.counts.body_bytes += len(data)
        found = check_body(shard, header, data, digest=digest)
        result.findings += found
        if found:
            _miss_served(header, result)
            return
        result.pairs[header.height] = accepted_pairs(data)
        if (off := time_off(header, data)) is not None:
            result.times_off[header.height] = off
        if self._judge is not None:
            judged, refuted = self._judge.check(shard, header, data)
            result.counts.judged += judged
            result.findings += refuted
            self._add_served(shard, header, data, refuted, result)

    def _add_served(
        self, shard: int, header: Header, data: bytes, refuted: Sequence[Finding], result: Checked
    ) -> None:
        if result.served is not None and holds_served(header):
            wrong = {finding.row for finding in refuted if finding.code == "verdict-wrong"}
            result.served += runs_of_body(shard, header, data, self._catalogue, without=wrong)


def _miss_served(header: Header, result: Checked) -> None:
    if rights_rest_on(header):
        result.served = None


def _groups(headers: Sequence[Header]) -> list[list[Header]]:
    """Return the headers in groups whose bodies are read together."""
    groups: list[list[Header]] = []
    size = 0
    for header in headers:
        size += header.body_bytes
        if not groups or len(groups[-1]) == BODIES_TOGETHER or size > BYTES_TOGETHER_MAX:
            groups.append([])
            size = header.body_bytes
        groups[-1].append(header)
    return groups


def _digests(bodies: Sequence[_Body]) -> list[bytes]:
    """Return the SHA-256 of each body, of one that was not read that of no bytes."""
    whole = [body if isinstance(body, bytes) else b"" for body in bodies]
    sizes = [len(body) for body in whole]
    if len(whole) * max(sizes, default=0) <= _IDLE_MAX * sum(sizes):
        return hash_each(b"", whole)
    return [sha256(body).digest() for body in whole]


def _opened(note: bytes | None, height: int, verifier: Keys) -> _Known:
    """Return the header; raises BlockError with the code of the finding."""
    if note is None:
        raise BlockError("header-missing", "there is no header at this height")
    header = open_header(note, verifier)
    if header.height != height:
        raise BlockError("chain-broken", f"it is the header of height {header.height}")
    return _Known(header, note)


def _coverage(blocks: Sequence[_Known | None]) -> CoverageChecker | None:
    coverage = CoverageChecker()
    for block in blocks:
        if block is None:
            return None
        coverage.add(block.header)
    return coverage
