"""Marks the entries that nobody had a right to, and publishes what the marks say and what is taken back.

Others may be able to write to the database. So a mark says only with audit's signature that it was published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import structlog

from salus.audit.domain.entry import Place
from salus.audit.handlers import Alarm
from salus.audit.ports import RightsMark, Trail
from salus.audit.publication import Publisher

_log = structlog.get_logger()


@dataclass
class RightsPublication:
    """Brings marks and topics to what was judged. A crash in between publishes again, with the same ids."""

    trail: Trail
    publisher: Publisher
    alarm: Alarm
    # What audit is known to have signed.
    _believed: set[tuple[str, RightsMark]] = field(default_factory=set)

    async def apply(self, wanted: Mapping[str, RightsMark], *, known: Collection[str]) -> None:
        """Put what is wanted, and take back what is not known any more; publish both."""
        marks = await self.trail.rights.marks()
        gone = {uid: RightsMark("withdrawn", mark.why) for uid, mark in marks.items() if uid not in known}
        new = {uid: mark for uid, mark in {**wanted, **gone}.items() if not _is_as(marks.get(uid), mark)}
        if new:
            await self.trail.rights.set_marks(new)
            without = len(new.keys() & wanted.keys())
            _log.error(
                "rights were judged again", without_a_right=without, with_one_after_all=len(new) - without
            )
        marks |= new
        self._believed &= marks.items()
        await self._take_back(gone)
        await self._tell({uid: mark for uid, mark in marks.items() if uid not in gone})

    async def _tell(self, marks: Mapping[str, RightsMark]) -> None:
        """Publish what the marks say, once: the entry again, as a correction, and a finding.

        The entry's block goes first.
        """
        for uid, mark in marks.items():
            found = None if await self._is_told(uid, mark) else await self.trail.leaf(uid)
            if found is None or not self._has_published(found.entry.place):
                continue
            await self.publisher.correct([found.entry])
            await self.alarm.without_right(found.entry)
            proof = await asyncio.to_thread(self.publisher.outputs.sign, self._statement(uid, mark))
            told = replace(mark, proof=proof)
            await self.trail.rights.set_marks({uid: told})
            self._believed.add((uid, told))

    async def _take_back(self, uids: Collection[str]) -> None:
        """Publish once more, as a correction, what turned out to have been done with a right; then forget it.

        Whether the mark was published is not asked: a crash may have come before it said so.
        """
        for uid in uids:
            found = await self.trail.leaf(uid)
            if found is not None:
                if not self._has_published(found.entry.place):
                    continue
                await self.publisher.correct([found.entry])
            await self.trail.rights.set_marks({}, without=[uid])

    def _has_published(self, place: Place) -> bool:
        return self.publisher.has_published(place.shard, place.height)

    async def _is_told(self, uid: str, mark: RightsMark) -> bool:
        if (uid, mark) in self._believed:
            return True
        statement, proof = self._statement(uid, mark), mark.proof
        if proof is None or not await self.publisher.marks.is_own(statement, proof):
            return False
        self._believed.add((uid, mark))
        return True

    def _statement(self, uid: str, mark: RightsMark) -> bytes:
        around = self.publisher.around
        parts = (around.origin, around.ocsf_topic, around.fhir_topic, uid, mark.verdict, mark.why)
        return "\n".join(("salus.health/audit-right-judged/v1", *parts, "")).encode()


def _is_as(there: RightsMark | None, wanted: RightsMark) -> bool:
    return there is not None and (there.verdict, there.why) == (wanted.verdict, wanted.why)
