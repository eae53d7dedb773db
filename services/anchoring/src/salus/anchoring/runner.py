"""Keeps anchoring going: wakes on announcements and on a slow poll, outlasts a store that is away."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog
from opentelemetry import context

from salus.anchoring.cosigning import OK, Cosigning
from salus.anchoring.handlers import Anchor, Published, Standing
from salus.anchoring.metrics import Metrics
from salus.anchoring.ports import Announcements
from salus.anchoring.resting import Rest
from salus.anchoring.tracing import LINKS_MAX, appending, continuing
from salus.archive.errors import ArchiveError, HeadError
from salus.archive.receipts import RecordPosition
from salus.client import ClientError
from salus.crypto.errors import CryptoError
from salus.messaging import MessagingError
from salus.objects import ObjectsError
from salus.runtime.supervisor import failed, resting, succeeded

PAUSE_FIRST_S = 0.1
PAUSE_MAX_S = 5.0

_log = structlog.get_logger()


class Runner:
    """Runs one Anchor.

    `published` is what the API serves, `trouble` what keeps it from going on, and `unfinal` why the last
    checkpoint is not final, if witnesses have to cosign it.
    """

    def __init__(
        self,
        anchor: Anchor,
        metrics: Metrics,
        *,
        poll_interval_s: float,
        checkpoint_interval_s: float,
        cosigning: Cosigning | None = None,
    ) -> None:
        self.anchor = anchor
        self.trouble: str | None = "not started"
        self.unfinal: str | None = "no checkpoint has been cosigned yet" if cosigning else None
        self.cosigning = cosigning
        self.caught_up = False
        self._metrics = metrics
        self._poll_interval_s = poll_interval_s
        self._checkpoint_interval_s = checkpoint_interval_s
        self._rest = Rest(checkpoint_interval_s)
        self._wake = asyncio.Event()
        self._moved = asyncio.Condition()
        self._announced: dict[int, int] = {}
        self._traceparents: list[bytes] = []
        self._traced = context.get_current()
        anchor.on_moved = self._tell

    @property
    def published(self) -> Published | None:
        """The published head, None before the first success."""
        return self.anchor.published

    @property
    def damaged(self) -> int:
        """How many objects of the archive scrubbing found damaged or missing."""
        return self._metrics.damaged

    def find(self, record: RecordPosition) -> int | None:
        """Return the log entry whose block covers the record, if the published checkpoint covers it."""
        entry = self.anchor.index.find(record.topic, record.partition, record.offset)
        if entry is None or self.published is None or entry >= self.published.head.size:
            return None
        return entry

    @property
    def lag_blocks(self) -> int:
        """How many announced blocks are not in the log yet."""
        chains = self.anchor.latest.head.chains if self.anchor.latest else {}
        done = {shard: chains[str(shard)].next if str(shard) in chains else 0 for shard in self._announced}
        return sum(max(0, height + 1 - done[shard]) for shard, height in self._announced.items())

    def wake(self, *, shard: int, height: int, leaves: int = 0, traceparent: bytes | None = None) -> None:
        """Say that a block was announced; the archive is looked at without waiting for the poll.

        Nobody has verified it, so of shards and blocks that do not exist nothing is kept.
        """
        self._rest.heard(leaves)
        if traceparent is not None and len(self._traceparents) < LINKS_MAX:
            self._traceparents.append(traceparent)
        if self.anchor.knows(shard, height):
            self._announced[shard] = max(height, self._announced.get(shard, -1))
        self._wake.set()

    async def run(self) -> None:
        """Anchor until cancelled; what goes wrong is logged, shown in `trouble`, and tried again."""
        pause_s = PAUSE_FIRST_S
        while True:
            try:
                await self._round()
                succeeded()
                pause_s = PAUSE_FIRST_S
            except (ObjectsError, HeadError, CryptoError) as error:
                self.say(f"{type(error).__name__}: {error}")
                failed(error)
                await asyncio.sleep(pause_s)
                pause_s = min(PAUSE_MAX_S, 2 * pause_s)

    async def finalise(self, cosigning: Cosigning) -> None:
        """Have the latest checkpoint cosigned, publish it once it is in place, and again, until cancelled.

        The log grows meanwhile: a checkpoint that was not cosigned by enough is given up for a later one.
        """
        clock = asyncio.get_running_loop().time
        pause_s = PAUSE_FIRST_S
        recalled = False
        while True:
            with resting():
                standing = await self._next_to_finalise()
            if self.published is not None and not recalled:
                cosigning.recall(self.published.head.checkpoint.encode())
                recalled = True
            began = clock()
            try:
                note = await cosigning.cosign(
                    standing.checkpoint, standing.head.checkpoint.encode(), standing.tile
                )
                if cosigning.is_final(note):
                    await self._in_place(standing.head.size)
                    await self.anchor.publish_final(standing, note)
                    self._say_unfinal(None)
                    pause_s = PAUSE_FIRST_S
                else:
                    self._say_unfinal(cosigning.missing)
            except (ObjectsError, ArchiveError) as error:
                self._say_unfinal(f"{type(error).__name__}: {error}")
            self._metrics.observe_witnesses({name: a == OK for name, a in cosigning.answers.items()})
            await self._tell()
            if self.unfinal is None:
                succeeded()
                await asyncio.sleep(max(0.0, began + self._checkpoint_interval_s - clock()))
            else:
                failed(self.unfinal)
                await asyncio.sleep(pause_s)
                pause_s = min(PAUSE_MAX_S, 2 * pause_s)

    async def _next_to_finalise(self) -> Standing:
        def found() -> Standing | None:
            committed, published = self.anchor.committed, self.published
            behind = published is None or (
                committed is not None and published.head.size < committed.head.size
            )
            return committed if behind else None

        async with self._moved:
            standing = await self._moved.wait_for(found)
        if standing is None:
            raise AssertionError("a condition that held does not hold")
        return standing

    async def _in_place(self, size: int) -> None:
        """Wait until tiles and bundles of that size can be read."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.anchor.latest and self.anchor.latest.head.size >= size)

    async def wait_beyond(self, size: int) -> Published:
        """Wait until a checkpoint of more than `size` entries is published, and return it."""
        async with self._moved:
            await self._moved.wait_for(lambda: self.published and self.published.head.size > size)
        if self.published is None:
            raise AssertionError("a condition that held does not hold")
        return self.published

    async def announce(self, announcements: Announcements) -> None:
        """Announce each new checkpoint until cancelled; if Kafka is away, only the latest in the end."""
        size = -1
        pause_s = PAUSE_FIRST_S
        while True:
            with resting():
                standing = await self.wait_beyond(size)
            try:
                with continuing(self._traced):
                    head = standing.head
                    await announcements.announce(size=head.size, checkpoint=head.checkpoint)
            except (MessagingError, ClientError) as error:
                failed(error)
                _log.warning("a checkpoint could not be announced", error=str(error))
                await asyncio.sleep(pause_s)
                pause_s = min(PAUSE_MAX_S, 2 * pause_s)
                continue
            size, pause_s = standing.head.size, PAUSE_FIRST_S
            succeeded()

    async def _round(self) -> None:
        """Append all there is, then sleep until woken; without a wake-up, look whether the head moved.

        A look that finds nothing costs the store as much as one that finds a block, so there is none after an
        append that has all that was announced; what was not announced is found at the next one.
        """
        clock = asyncio.get_running_loop().time
        began = clock()
        while await self._append() or self.anchor.standing is None:
            await self._tell()
            await self._rest.after(clock() - began)
            if self.anchor.has_all(self._announced):
                break
            began = clock()
        else:
            self._forget_untrue()
        self.caught_up = True
        await self._tell()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_interval_s):
                await self._wake.wait()
        if self._wake.is_set():
            self._wake.clear()
        else:
            await self.anchor.refresh()

    def _forget_untrue(self) -> None:
        """Forget what was announced beyond the archive's end: a block is there before it is announced.

        Else whoever may write to the topic makes the log seem behind for ever.
        """
        head = self.anchor.standing.head if self.anchor.standing is not None else None
        if head is not None and not self._wake.is_set():
            self._announced = {
                shard: min(height, head.next_height(shard) - 1) for shard, height in self._announced.items()
            }

    async def _append(self) -> int:
        self._rest.begin()
        woken_by, self._traceparents = self._traceparents, []
        with appending(woken_by) as traced:
            if woken_by:
                # The checkpoint may be announced before `append` returns.
                self._traced = traced
            appended = await self.anchor.append(self._announced)
        if appended:
            self._traced = traced
        self.say(None)
        return appended

    async def _tell(self) -> None:
        if (standing := self.anchor.latest) is not None:
            self._metrics.observe(standing.head, stalled=self.anchor.stalled, lag_blocks=self.lag_blocks)
        if self.published is not None:
            self._metrics.observe_final(self.published.head.size)
            if standing is not None and self.published.head.size == standing.head.size:
                # After a restart there may be nothing to ask the witnesses for.
                self._say_unfinal(None)
        async with self._moved:
            self._moved.notify_all()

    def _say_unfinal(self, why: str | None) -> None:
        if why != self.unfinal:
            if why is None:
                _log.info(
                    "checkpoints are final again", size=self.published.head.size if self.published else 0
                )
            else:
                _log.error("no checkpoint becomes final", why=why)
        self.unfinal = why

    def say(self, trouble: str | None) -> None:
        """Take note of what keeps anchoring from going on, or that nothing does any more."""
        if trouble != self.trouble:
            if trouble is None:
                _log.info("anchoring", size=self.published.head.size if self.published else 0)
            else:
                _log.error("anchoring stands still", why=trouble)
        self.trouble = trouble
