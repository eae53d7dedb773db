"""Judges again, all the time, who had the right to what consent and storage did, and says where nobody had.

It is the judge of a deep fsck (`salus.archive.entitlements`), who takes each block's events once they are
indexed. Nothing waits for it. After a start it takes all events anew, from the trail's database: what it
knows is in memory and in a file that is gone with the process.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from math import inf
from pathlib import Path
from typing import TypeVar

import msgspec
import structlog

from salus.archive.entitlements import Entitlements, Unentitled
from salus.archive.served_requests import ServedRun
from salus.audit.domain.blocks import BlockRefusedError
from salus.audit.domain.identity_history import IdentityHistory
from salus.audit.domain.served import decoded_run
from salus.audit.handlers import Bell, Follower
from salus.audit.metrics import RIGHTS_JUDGED, RIGHTS_PENDING, UNENTITLED
from salus.audit.ports import DamagedTrailError, OutOfReachError, RightsMark, Trail
from salus.audit.rights_publication import RightsPublication
from salus.runtime.supervisor import failed, succeeded

# What gives a right can be sealed by another shard a moment later.
SETTLED_S = 15.0
PENDING_S = 120.0
# A shard that does not come to its end, as one that stands still, is waited for no longer.
ENDS_S_MAX = 600.0
RUNS_AT_ONCE_MAX = 500
RETRY_S = 1.0
# Of the time, so much at most goes into comparing what was found with the marks.
SHARE_MAX = 0.1
PAUSE_S_MAX = 30.0

Row = tuple[int, int, int]
"""A row of a block: shard, height and index."""

_T = TypeVar("_T")
_log = structlog.get_logger()


class MissingRunError(Exception):
    """What stands beside a block of the trail is missing, so nothing after it is judged."""


@dataclass
class RightsReview:
    """Runs until cancelled. `read_identity` returns who is who, up to the end of what the ledger has."""

    trail: Trail
    read_identity: Callable[[], Awaitable[IdentityHistory]]
    follower: Follower
    publication: RightsPublication
    folder: Path | None = None
    clock: Callable[[], float] = time.monotonic
    _judge: Entitlements | None = None
    # By what was judged last: how many identity events, their digest, and the repairs of the trail.
    _learned: tuple[int, bytes, int] | None = None
    # By partition: the key of the last run that was taken, and the offset after it.
    _taken: dict[str, tuple[str, int]] = field(default_factory=dict)
    _since: dict[tuple[Row, bool], float] = field(default_factory=dict)
    _uids: dict[Row, str] = field(default_factory=dict)
    _note: str | None = None
    _trouble: str | None = None
    # The judge's file belongs to one thread: whoever is cancelled leaves it at work.
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "rights"))

    async def run(self, *, grown: Bell, poll_s: float) -> None:
        """Judge until cancelled; a part that is away, or a row to be repaired, is waited for."""
        while True:
            try:
                while await self.take():
                    succeeded()
                began = self.clock()
                await self.say()
            except (OutOfReachError, BlockRefusedError, DamagedTrailError, MissingRunError) as error:
                # Of a block that does not verify, the indexer tells.
                failed(error)
                if str(error) != self._trouble:
                    _log.warning("judging rights waits", error=str(error))
                self._trouble = str(error)
                await asyncio.sleep(RETRY_S)
                continue
            self._trouble = None
            succeeded()
            await asyncio.sleep(min((self.clock() - began) / SHARE_MAX, PAUSE_S_MAX))
            await grown.wait(poll_s)

    async def check(self) -> str | None:
        """Return what was done without a right, if anything was; for /readyz."""
        return self._note

    async def take(self) -> bool:
        """Judge the next events of each partition; tell whether there may be more."""
        judge = await self._up_to_date()
        more = False
        for place in await self.trail.rights.places():
            key, following = self._taken.get(place, ("", None))
            runs = await self.trail.rights.runs(place, after=key, limit=RUNS_AT_ONCE_MAX)
            for start in runs:
                run = _decoded(place, start[1])
                if following is not None and run.first > following:
                    raise MissingRunError(f"{place} from {following} on is missing beside the trail")
                if following is None or run.first == following:
                    # Of what two blocks cover, the first counts.
                    await self._do(partial(_take, judge, run))
                    following = run.next
                self._taken[place] = start[0], following
            more |= len(runs) == RUNS_AT_ONCE_MAX
        return more

    async def _up_to_date(self) -> Entitlements:
        """Return the judge, who knows the parties; after a repair a new one, for whom all is new."""
        history = await self.read_identity()
        events = history.events
        learned = events, history.digest_after(events), self.trail.stored.repairs
        if self._judge is None or self._learned is None or self._learned[2] != learned[2]:
            if self._judge is not None:
                await self._do(self._judge.close)
            self._taken, self._since = {}, {}
            self._judge = await self._do(lambda: Entitlements(history.ring, folder=self.folder))
        elif learned != self._learned:
            judge, (before, digest, _) = self._judge, self._learned
            # It may be another one of the same events: another replica noted them first.
            goes_on = history.digest_after(before) == digest
            since = history.appended_after(before) if goes_on else -inf
            await self._do(lambda: judge.know(history.ring, since=since))
        self._learned = learned
        return self._judge

    async def say(self) -> None:
        """Mark what was done without a right, take marks away that are wrong, and publish both."""
        judge = self._judge
        found = await self._do(lambda: list(judge.unentitled())) if judge and judge.lacking else []
        by_row = {(each.run.shard, each.run.height, each.served.row): each for each in found}
        due = self._due(by_row)
        self._show(due, pending=len(found) - sum(not each.is_pending for each in due.values()))
        wanted = {await self._uid(row): _mark_of(each) for row, each in due.items()}
        await self.publication.apply(wanted, known={await self._uid(row) for row in by_row})

    def _due(self, found: Mapping[Row, Unentitled]) -> dict[Row, Unentitled]:
        """Return what was found long enough ago, with all that the ledger had to say since."""
        now, ends = self.clock(), self.follower.ends_reached()
        self._since = {
            (row, each.is_pending): self._since.get((row, each.is_pending), now)
            for row, each in found.items()
        }
        due = {}
        for row, each in found.items():
            since = self._since[row, each.is_pending]
            is_settled = now - since >= (PENDING_S if each.is_pending else SETTLED_S)
            if is_settled and (ends > since or now - since >= ENDS_S_MAX):
                due[row] = each
        return due

    def _show(self, due: Mapping[Row, Unentitled], *, pending: int) -> None:
        wrong = [each for each in due.values() if not each.is_pending]
        UNENTITLED.set(len(wrong))
        RIGHTS_PENDING.set(pending)
        self._note = None
        if wrong:
            run, served = wrong[0].run, wrong[0].served
            where = f"{run.topic} {run.partition} {served.offset}"
            self._note = f"{len(wrong)} done without a right, the first at {where}: {wrong[0].why}"

    async def _uid(self, row: Row) -> str:
        if row not in self._uids:
            found = await self.trail.at(*row)
            if found is None:
                shard, height, index = row
                raise DamagedTrailError(f"shard {shard} block {height} row {index}", ["entry"])
            self._uids[row] = found.entry.uid
        return self._uids[row]

    async def _do(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except OSError as error:
            # Its own text has the path, and /readyz shows this.
            raise OutOfReachError(f"the file of judging rights: {error.strerror}") from error
        except sqlite3.Error as error:
            raise OutOfReachError(f"the file of judging rights: {error}") from error


def _take(judge: Entitlements, run: ServedRun) -> None:
    served = run.decoded()
    for each in served:
        judge.take(run, each)
    RIGHTS_JUDGED.inc(len(served))


def _decoded(place: str, kept: bytes) -> ServedRun:
    try:
        return decoded_run(kept)
    except msgspec.DecodeError:
        raise DamagedTrailError(f"what stands beside the trail of {place}", ["run"]) from None


def _mark_of(each: Unentitled) -> RightsMark:
    return RightsMark("rights-pending" if each.is_pending else "unentitled", each.why)
