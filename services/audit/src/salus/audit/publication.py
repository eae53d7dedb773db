"""What is published of the trail: whole blocks, each compared with its header, in each shard's order.

What the detectors find in a block goes out with it, under the same mark: a crash repeats both or neither.

A block that cannot be published holds up those after it in its shard, and nothing else. At a start with many
blocks to publish, the newest go first, and the history beside them: no event of now waits for old ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import msgspec
import structlog

from salus.audit.detectors import Detectors, message_of
from salus.audit.domain.entry import TrailEntry
from salus.audit.domain.fhir import audit_event_of
from salus.audit.domain.network import Surroundings
from salus.audit.domain.ocsf import ocsf_of
from salus.audit.domain.progress import Progress
from salus.audit.handlers import Bell
from salus.audit.metrics import BLOCKS_UNPUBLISHED, ENTRIES_PUBLISHED
from salus.audit.ports import (
    DamagedHeaderError,
    DamagedTrailError,
    Ledger,
    Message,
    OutOfReachError,
    Outputs,
    Trail,
)
from salus.audit.publication_mark import Marks
from salus.ledger.block import Header, open_header
from salus.ledger.errors import BlockError
from salus.ledger.key_periods import Keys
from salus.ledger.merkle import leaf_hash, root_of
from salus.runtime.supervisor import failed, succeeded

PUBLISHED_AT_ONCE_MAX = 500
# Of small blocks so many go out together, with one mark.
BLOCKS_AT_ONCE_MAX = 50
RETRY_S = 1.0

_LEAF_HASH = re.compile("[0-9a-f]{64}")
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Waiting:
    """Why something is not published, and when it is tried again."""

    error: OutOfReachError | DamagedTrailError
    until: float


@dataclass
class Publisher:
    """Publishes what is indexed."""

    ledger: Ledger
    trail: Trail
    shards: Mapping[int, Keys]
    outputs: Outputs
    around: Surroundings
    marks: Marks
    detectors: Detectors
    clock: Callable[[], float] = time.monotonic
    # By shard and height; without a height it is the shard itself.
    waiting: dict[tuple[int, int | None], Waiting] = field(default_factory=dict)
    _progress: dict[int, Progress] = field(default_factory=dict)
    _left: dict[int, int] = field(default_factory=dict)

    async def run(self, *, grown: Bell, poll_s: float) -> None:
        """Publish until cancelled; a part that is away, or a row to be repaired, is waited for."""
        while True:
            any_left = await self.round()
            if not self.waiting:
                succeeded()
            if not any_left:
                await grown.wait(min(poll_s, RETRY_S) if self.waiting else poll_s)

    async def check(self) -> None:
        """Raise what keeps a block from being published, or that a mark was lost; for /readyz."""
        for each in self.waiting.values():
            if isinstance(each.error, DamagedTrailError):
                raise each.error
        self.marks.check()

    async def round(self) -> bool:
        """Publish what comes next of each shard; tell whether there was any.

        What fails is in `waiting`, and is tried again after RETRY_S; all else goes on.
        """
        any_left = False
        for shard in tuple(self.shards):
            any_left |= await self._try(shard, None, partial(self._publish_next, shard))
        return any_left

    async def _publish_next(self, shard: int) -> bool:
        """Publish the next blocks of a shard; tell whether there were any.

        Topics first, then the mark: a crash in between publishes the same messages again, with the same
        ids, and leaves no gap.
        """
        progress = self._progress.get(shard) or await self._start(shard)
        await self.marks.compare(shard, progress)
        due = progress.due((await self.trail.tip(shard)).height, limit=BLOCKS_AT_ONCE_MAX)
        firsts = [run[0] for run in due]
        for stale in [at for at in self.waiting if at[0] == shard and at[1] not in (None, *firsts)]:
            del self.waiting[stale]
        any_left = False
        for run in due:
            done: list[int] = []
            if await self._try(shard, run[0], partial(self._publish_run, shard, run, done)):
                for height in done:
                    progress.note(height)
                any_left = True
        await self.marks.keep(shard, progress)
        self._left[shard] = progress.left((await self.trail.tip(shard)).height)
        BLOCKS_UNPUBLISHED.set(sum(self._left.values()))
        return any_left

    async def _start(self, shard: int) -> Progress:
        mark, tip = await self.marks.first(shard), await self.trail.tip(shard)
        progress = Progress.from_mark(mark, tip=tip.height)
        if progress.head > mark:
            # The database may say more than there is: nothing would ever be published from there on.
            await self._header(shard, progress.head)
            _log.warning("the history is published beside the newest", shard=shard, height=mark)
        self._progress[shard] = progress
        return progress

    async def _publish_run(self, shard: int, run: Sequence[int], done: list[int]) -> bool:
        """Publish blocks that follow one another, as many as fit into one publication, or the first alone.

        `done` says which. One that cannot be published ends the run before it, and is the next one's first.
        """
        entries = await self._entries(shard, run[0])
        done.append(run[0])
        for height in run[1:]:
            try:
                more = await self._entries(shard, height)
            except (OutOfReachError, DamagedTrailError):
                break
            if len(entries) + len(more) > PUBLISHED_AT_ONCE_MAX:
                break
            entries += more
            done.append(height)
        for start in range(0, len(entries), PUBLISHED_AT_ONCE_MAX):
            some = entries[start : start + PUBLISHED_AT_ONCE_MAX]
            await self._publish(some, messages_of)
            ENTRIES_PUBLISHED.inc(len(some))
        return True

    async def _try(self, shard: int, height: int | None, work: Callable[[], Awaitable[bool]]) -> bool:
        """Do it unless it failed a moment ago; tell what it tells, and False if it fails."""
        place = (shard, height)
        before = self.waiting.get(place)
        if before is not None and self.clock() < before.until:
            return False
        try:
            is_done = await work()
        except (OutOfReachError, DamagedTrailError) as error:
            failed(error)
            if before is None or str(before.error) != str(error):
                tell = _log.error if isinstance(error, DamagedTrailError) else _log.warning
                tell("publishing waits", shard=shard, height=height, error=str(error))
            self.waiting[place] = Waiting(error, self.clock() + RETRY_S)
            return False
        self.waiting.pop(place, None)
        return is_done

    def has_published(self, shard: int, height: int) -> bool:
        """Tell whether a block is known to be published."""
        progress = self._progress.get(shard)
        return progress is not None and progress.has(height)

    async def correct(self, entries: Sequence[TrailEntry]) -> None:
        """Publish what entries say that were not as the ledger makes them, and may be published so.

        Raises:
            OutOfReachError: Kafka is away.
        """
        for start in range(0, len(entries), PUBLISHED_AT_ONCE_MAX):
            some = entries[start : start + PUBLISHED_AT_ONCE_MAX]
            await self._publish(some, corrections_of)

    async def _publish(
        self,
        entries: Sequence[TrailEntry],
        of: Callable[[TrailEntry, Surroundings], Sequence[Message]],
    ) -> None:
        """Publish what entries say, and what they amount to: no mark is set before both are acknowledged."""
        messages = await asyncio.to_thread(self._messages, entries, of)
        findings = await self.detectors.findings(entries)
        await self.outputs.publish([*messages, *(message_of(each, self.around) for each in findings)])
        self.detectors.note(findings)

    async def _entries(self, shard: int, height: int) -> list[TrailEntry]:
        header, note = await self._header(shard, height)
        found = await self.trail.block(shard, height, limit=header.leaves + 1)
        entries = [each.entry for each in found]
        _require_leaves_of(header, note, entries, shard=shard, height=height)
        return entries

    async def _header(self, shard: int, height: int) -> tuple[Header, bytes]:
        """Return the header of a block that is indexed, and its note."""
        note = await self.ledger.header(shard, height)
        if note is None:
            raise DamagedHeaderError(shard=shard, height=height, why="is missing")
        try:
            return open_header(note, self.shards[shard]), note
        except BlockError as error:
            why = f"does not verify ({error.code})"
            raise DamagedHeaderError(shard=shard, height=height, why=why) from None

    def _messages(
        self,
        entries: Sequence[TrailEntry],
        of: Callable[[TrailEntry, Surroundings], Sequence[Message]],
    ) -> list[Message]:
        return [message for each in entries for message in of(each, self.around)]


def _require_leaves_of(
    header: Header, note: bytes, entries: Sequence[TrailEntry], *, shard: int, height: int
) -> None:
    """Raise DamagedTrailError unless these are the leaves of the block, all of them and no others."""
    sealed = {(header.time, leaf_hash(note).hex())}
    is_whole = (
        header.height == height
        and [entry.place.index for entry in entries] == list(range(header.leaves))
        and {(entry.place.sealed_at, entry.place.header_hash) for entry in entries} <= sealed
        and all(map(_LEAF_HASH.fullmatch, (entry.uid for entry in entries)))
        and root_of([bytes.fromhex(entry.uid) for entry in entries]) == header.root
    )
    if not is_whole:
        raise DamagedTrailError(f"shard {shard} block {height}", ["leaves"])


def messages_of(entry: TrailEntry, around: Surroundings) -> tuple[Message, Message]:
    """Return what is published about an entry: OCSF for the SOC, FHIR for health systems."""
    # By actor for those who watch what people do, by patient for those who keep a patient's record.
    return (
        Message(
            topic=around.ocsf_topic,
            key=entry.actor or entry.uid,
            value=msgspec.json.encode(ocsf_of(entry, around)),
            uid=entry.uid,
            content_type="application/json",
        ),
        Message(
            topic=around.fhir_topic,
            key=entry.facts.patient or entry.actor or entry.uid,
            value=msgspec.json.encode(audit_event_of(entry, around)),
            uid=entry.uid,
            content_type="application/fhir+json",
        ),
    )


def corrections_of(entry: TrailEntry, around: Surroundings) -> tuple[Message, Message]:
    """Return what is published of an entry that was changed, and may be published as it never was.

    Readers pass over a uid that they have seen, so these have one of their own. The FHIR id is the same as
    before, so that the resource takes the false one's place.
    """
    content = hashlib.sha256(msgspec.json.encode(entry)).hexdigest()
    uid = hashlib.sha256(f"salus.health/correction/v1\n{entry.uid}\n{content}\n".encode()).hexdigest()
    ocsf = ocsf_of(entry, around)
    ocsf["metadata"]["uid"] = uid
    ocsf["unmapped"]["corrects"] = entry.uid
    event, resource = messages_of(entry, around)
    return replace(event, value=msgspec.json.encode(ocsf), uid=uid), replace(resource, uid=uid)
