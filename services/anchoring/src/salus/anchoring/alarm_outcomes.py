"""Says whether the ledger accepted an event of ours, as anybody can see it in the log."""

from __future__ import annotations

from dataclasses import dataclass

from salus.anchoring.event_index import EventIndexError
from salus.anchoring.event_lookup import EventLookup
from salus.anchoring.ports import StatedAt
from salus.anchoring.runner import Runner
from salus.archive.body import ACCEPTED
from salus.archive.errors import ArchiveError, NoSuchRecordError
from salus.archive.receipts import Anchored, ReceiptMaker
from salus.client import EventName
from salus.events.effect import Applied, Outcome, Refused, Unknown
from salus.events.errors import Reason
from salus.objects import ObjectsError

_DUPLICATE = f"rejected:{Reason.DUPLICATE}"


@dataclass(frozen=True)
class LedgerOutcomes:
    """Looks into the published log: at the leaf of an event, and for its name if it was sent twice."""

    runner: Runner
    lookup: EventLookup
    maker: ReceiptMaker

    async def outcome(self, name: EventName, stated: StatedAt) -> Outcome:
        """Return what became of an event: nobody can tell before a published checkpoint covers it."""
        entry = self.runner.find(stated.position)
        if entry is None:
            return Unknown("no published checkpoint covers its position")
        shard, height = self.runner.anchor.index.block_at(entry)
        try:
            block = await self.maker.block(Anchored(shard, height, entry))
            row = block.find(stated.position)
        except NoSuchRecordError:
            return Refused("no record stands at its position")
        except (ArchiveError, ObjectsError) as error:
            return Unknown(f"its block cannot be read: {type(error).__name__}")
        if block.digests[row] != stated.digest:
            return Refused("another record stands at its position")
        status = block.statuses[row]
        if status == ACCEPTED:
            return Applied(0)
        return await self._sent_before(name) if status == _DUPLICATE else Refused(_reason(status))

    async def _sent_before(self, name: EventName) -> Outcome:
        """Return what became of an event that may be the repetition of one that was accepted."""
        try:
            behind = self.lookup.behind
            found = await self.lookup.find(name, 0)
        except EventIndexError:
            return Unknown("the index of events cannot be read")
        if found is not None:
            return Applied(0)
        return Unknown("the index of events is behind the log") if behind else Refused(Reason.DUPLICATE)


def _reason(status: str) -> str:
    return status.removeprefix("rejected:")
