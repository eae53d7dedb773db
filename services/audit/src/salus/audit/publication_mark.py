"""Up to where each shard is published, as the database keeps it for the next start.

Others may be able to write there. So a mark counts only with audit's signature, and a process that knows more
than the database says goes by what it knows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from salus.audit.domain.network import Surroundings
from salus.audit.domain.progress import Progress
from salus.audit.metrics import MARKS_LOST
from salus.audit.ports import Outputs, Published, Trail

# For so long /readyz says that a mark was lost.
LOST_TOLD_S = 300.0

_log = structlog.get_logger()


class LostMarkError(Exception):
    """Somebody else changed in the database up to where a shard is published."""

    def __init__(self, shard: int) -> None:
        super().__init__(f"somebody changed in the database up to where shard {shard} is published")
        self.shard = shard


@dataclass
class Marks:
    """Reads and writes the marks of all shards, and notices what somebody else did to them.

    `learn` brings the keys up to date by which audit's own signatures are known, or raises OutOfReachError.
    """

    trail: Trail
    outputs: Outputs
    around: Surroundings
    learn: Callable[[], Awaitable[object]]
    clock: Callable[[], float] = time.monotonic
    # What the database says, as it was last read or written, and the highest own mark that was there.
    _rows: dict[int, Published | None] = field(default_factory=dict)
    _known: dict[int, int] = field(default_factory=dict)
    _lost: dict[int, float] = field(default_factory=dict)

    def check(self) -> None:
        """Raise LostMarkError if a mark was lost not long ago."""
        for shard, at in self._lost.items():
            if self.clock() - at < LOST_TOLD_S:
                raise LostMarkError(shard)

    async def first(self, shard: int) -> int:
        """Return at a start up to where a shard is published, 0 if audit did not sign it.

        It is signed again with the present key: the one that signed it may be on its way out.
        """
        self._known[shard] = 0
        self._rows[shard] = mark = await self.trail.published(shard)
        if mark is None:
            return 0
        if not await self._is_own(shard, mark):
            self._tell(shard, "audit did not sign up to where this is published, or its key ended")
            return 0
        self._known[shard] = mark.height
        await self._put(shard, mark.height)
        return mark.height

    async def compare(self, shard: int, progress: Progress) -> None:
        """Learn what another replica published; tell, and mend, a mark that is less than was there."""
        mark, known = await self.trail.published(shard), self._known[shard]
        if mark == self._rows[shard] or (await self.trail.tip(shard)).height == 0:
            return
        self._rows[shard] = mark
        if mark is not None and mark.height >= known and await self._is_own(shard, mark):
            self._known[shard] = mark.height
            progress.raise_to(mark.height)
        elif mark is not None or known > 0:
            self._tell(shard, "somebody changed in the database up to where this is published")
            await self._put(shard, progress.mark)

    async def keep(self, shard: int, progress: Progress) -> None:
        """Write up to where a shard is published, unless that is written, or another replica was first."""
        if progress.mark > self._known[shard]:
            await self._put(shard, progress.mark)

    async def _put(self, shard: int, height: int) -> None:
        proof = await asyncio.to_thread(self.outputs.sign, self._statement(shard, height))
        mark, before = Published(height, proof), self._rows[shard]
        if mark == before or await self.trail.set_published(shard, mark, before=before):
            self._rows[shard], self._known[shard] = mark, height

    async def _is_own(self, shard: int, mark: Published) -> bool:
        return await self.is_own(self._statement(shard, mark.height), mark.proof)

    async def is_own(self, statement: bytes, proof: bytes) -> bool:
        """Tell whether audit signed a statement, with a key that counts; raises as `learn`."""
        if self.outputs.is_own(statement, proof):
            return True
        # A key of another start is known only from the identity topic.
        await self.learn()
        return self.outputs.is_own(statement, proof)

    def _tell(self, shard: int, what: str) -> None:
        _log.error(what, shard=shard)
        MARKS_LOST.inc()
        self._lost[shard] = self.clock()

    def _statement(self, shard: int, height: int) -> bytes:
        around = self.around
        parts = (around.origin, around.ocsf_topic, around.fhir_topic, str(shard), str(height))
        return "\n".join(("salus.health/audit-published/v1", *parts, "")).encode()
