"""Compares the trail with the ledger again and again, slowly, and says aloud what differs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import structlog

from salus.audit.domain.blocks import BlockRefusedError
from salus.audit.domain.comparison import Difference
from salus.audit.handlers import Alarm
from salus.audit.metrics import COMPARED, COMPARED_AT, DIFFERENCES
from salus.audit.ports import OutOfReachError, Trail
from salus.audit.reconciliation import OnStep, Reconciler, Step
from salus.runtime.supervisor import failed, resting, succeeded

RETRY_S = 1.0
# The task says that it lives so often, however long the pace has it wait.
PAUSE_S_MAX = 60.0
# Of more, the first are kept: who changed so much is seen by them.
DIFFERENCES_KEPT = 1000
ALARMS_MAX = 100

_log = structlog.get_logger()


class TrailDiffersError(Exception):
    """The trail is not what the ledger makes it; the sentence is shown in /readyz."""


class Known(msgspec.Struct, frozen=True):
    """A difference, and when it was first seen."""

    difference: Difference
    since: datetime


class Outcome(msgspec.Struct, frozen=True):
    """What is known of the comparison: when a whole one last ended, and what differs."""

    ended: datetime | None = None
    known: tuple[Known, ...] = ()


@dataclass(frozen=True, slots=True)
class Pace:
    """So many rows a second at most, and from one pass to the next at least so long."""

    rows_per_s_max: int
    interval_s_min: float


class Comparison:
    """Runs passes until cancelled. A difference is known until a whole pass does not find it any more.

    What is known survives a restart; a pass does not, and begins anew.
    """

    def __init__(  # what it works with
        self,
        reconciler: Reconciler,
        trail: Trail,
        alarm: Alarm,
        pace: Pace,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.outcome = Outcome()
        self._reconciler = reconciler
        self._trail = trail
        self._alarm = alarm
        self._pace = pace
        self._now = now
        self._slow: asyncio.Task[int] | None = None
        self._asked = 0
        self._none_asked = asyncio.Event()
        self._none_asked.set()

    async def run(self) -> None:
        """Compare until cancelled; what is away is waited for."""
        loaded = False
        while True:
            try:
                if not loaded:
                    await self._load()
                    loaded = True
                is_whole = await self._compare_slowly()
            except (OutOfReachError, BlockRefusedError) as error:
                # Of a block that does not verify, the indexer tells.
                failed(error)
                _log.warning("the comparison waits", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            succeeded()
            if is_whole:
                await asyncio.sleep(self._pace.interval_s_min)
            else:
                with resting():
                    await self._none_asked.wait()

    async def check(self) -> None:
        """Raise TrailDiffersError if the trail is known to differ; for /readyz."""
        if known := self.outcome.known:
            more = f", and {len(known) - 1} more" if len(known) > 1 else ""
            first = known[0]
            since = first.since.isoformat(timespec="seconds")
            raise TrailDiffersError(
                f"{first.difference}{more}, seen since {since}; run `salus audit reconcile`"
            )

    async def compare(self, on_step: OnStep, *, repair: bool = False, by: str | None = None) -> int:
        """Make one whole pass now, and return how many rows differed; raises as `Reconciler.run`.

        The slow pass ends, and begins anew afterwards: whoever asks waits for others who ask, and no longer.
        What was repaired is told, and not known after. `by` is who asked for the repair: the first row of a
        pass that is put right is a finding that says so.
        """
        self._asked += 1
        self._none_asked.clear()
        if self._slow is not None:
            self._slow.cancel()
        try:
            return await self._compare(on_step, repair=repair, by=by)
        finally:
            self._asked -= 1
            if self._asked == 0:
                self._none_asked.set()

    async def _compare_slowly(self) -> bool:
        """Make one whole pass at its pace; return whether it came to its end before somebody asked."""
        if self._asked:
            return False
        self._slow = asyncio.create_task(self._compare(self._paced))
        try:
            await asyncio.wait([self._slow])
            if self._slow.cancelled():
                return False
            self._slow.result()
        finally:
            self._slow.cancel()
            await asyncio.gather(self._slow, return_exceptions=True)
            self._slow = None
        return True

    async def _compare(self, on_step: OnStep, *, repair: bool = False, by: str | None = None) -> int:
        began, is_told = self._now(), False
        still: set[Difference] = set()

        async def step(done: Step) -> None:
            nonlocal is_told
            await self._take(done.differences)
            still.update({each.difference for each in self.outcome.known} & set(done.differences))
            if repair and by is not None and done.differences and not is_told:
                is_told = await self._tell_repair(by, done.differences[0], at=began)
            COMPARED.inc(done.rows)
            succeeded()
            await on_step(done)

        found = await self._reconciler.run(step, repair=repair)
        left = () if repair else tuple(known for known in self.outcome.known if known.difference in still)
        await self._note(Outcome(self._now(), left))
        return found

    async def _paced(self, step: Step) -> None:
        left_s = step.rows / self._pace.rows_per_s_max
        while left_s > 0:
            await asyncio.sleep(min(left_s, PAUSE_S_MAX))
            left_s -= PAUSE_S_MAX
            succeeded()

    async def _take(self, differences: Iterable[Difference]) -> None:
        """Know of differences at once, and say so."""
        known = {each.difference: each for each in self.outcome.known}
        new = [each for each in differences if each not in known]
        for difference in new:
            _log.error("the trail differs from the ledger", what=str(difference))
            if len(known) < DIFFERENCES_KEPT:
                known[difference] = Known(difference, self._now())
        if new:
            await self._note(Outcome(self.outcome.ended, tuple(known.values())))
        for each in list(known.values())[:ALARMS_MAX]:
            try:
                await self._alarm.differs(each.difference, since=each.since)
            except OutOfReachError as error:
                _log.warning("the alarm waits", error=str(error))
                return

    async def _tell_repair(self, by: str, first: Difference, *, at: datetime) -> bool:
        try:
            await self._alarm.repaired(by, first, at=at)
        except OutOfReachError as error:
            _log.warning("who repairs is told later", error=str(error))
            return False
        return True

    async def _load(self) -> None:
        data = await self._trail.stored.outcome()
        try:
            outcome = msgspec.json.decode(data, type=Outcome) if data is not None else Outcome()
        except (msgspec.DecodeError, UnicodeDecodeError):
            _log.error("what the comparison had found is not readable: it begins anew")
            outcome = Outcome()
        self._show(outcome)

    async def _note(self, outcome: Outcome) -> None:
        self._show(outcome)
        await self._trail.stored.set_outcome(msgspec.json.encode(outcome))

    def _show(self, outcome: Outcome) -> None:
        self.outcome = outcome
        DIFFERENCES.set(len(outcome.known))
        if outcome.ended is not None:
            COMPARED_AT.set(outcome.ended.timestamp())
