"""Where scrubbing stands, and what became of each alarm that it raised: values, and rules over them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import assert_never

import msgspec

from salus.anchoring.ports import StatedAt
from salus.archive.report import Finding
from salus.events.effect import Applied, Outcome, Refused, Unknown, WithoutEffect

FORMAT = "salus-scrub/3"
# After the ledger refused one, alarms are told at most so often, and the same one each time after twice as
# long, up to the maximum: what the ledger refuses for ever is no storm, and keeps no other from being told.
RETELL_AFTER = timedelta(seconds=30)
RETELL_AFTER_MAX = timedelta(hours=1)
# An alarm that is not known to be on the ledger by then is named in /readyz.
OPEN_MAX = timedelta(minutes=5)
# Found at a pass's end; those about blocks were found on the way, those about the log before. A listing takes
# its time and shards hand over meanwhile, so these count once two passes have found them.
OF_A_WHOLE_PASS = frozenset(
    {"entry-order", "coverage-gap", "coverage-overlap", "handover-broken", "head-wrong"}
)
_NAMESPACE = uuid.UUID("a41ff5d3-6c2d-4b8c-9a63-0f0b6f9d0c55")


class Known(msgspec.Struct, frozen=True):
    """A damaged object: what is wrong with it, the passes that saw it first and last, and its alarm.

    `since` is when it began to count. `told_at` is when it was told last, and `told` where that event stands
    until the ledger has refused it; `refusals` says how often that was, and `refused` why at last.
    """

    finding: Finding
    first: int
    last: int
    since: datetime
    told: StatedAt | None = None
    told_at: datetime | None = None
    accepted: bool = False
    refusals: int = 0
    refused: str = ""

    @property
    def counts(self) -> bool:
        """Whether it is certain enough to be told."""
        return self.finding.code not in OF_A_WHOLE_PASS or self.first < self.last

    @property
    def is_open(self) -> bool:
        """Whether it has to be on the ledger, and is not known to be."""
        return self.counts and not self.accepted

    @property
    def id(self) -> str:
        """The id of the event that tells it: another one each time that the ledger has refused it."""
        name = f"{self.finding.bucket} {self.finding.key} {self.first}"
        return str(uuid.uuid5(_NAMESPACE, f"{name} {self.refusals}" if self.refusals else name))

    @property
    def due_at(self) -> datetime:
        """When it may be told, as far as its own refusals go."""
        if self.told_at is None or not self.refusals:
            return self.since
        return self.told_at + min(RETELL_AFTER_MAX, RETELL_AFTER * (1 << min(self.refusals - 1, 16)))

    def seen_by(self, number: int, *, at: datetime) -> Known:
        """Return it as a pass leaves it that found it again."""
        seen = msgspec.structs.replace(self, last=number)
        return seen if self.counts or not seen.counts else msgspec.structs.replace(seen, since=at)

    def stated(self, told: StatedAt, *, at: datetime) -> Known:
        """Return it once its event stands on the topic."""
        return msgspec.structs.replace(self, told=told, told_at=at)

    def after(self, outcome: Outcome, *, at: datetime) -> Known:
        """Return it once somebody looked what became of its event, or tried to publish it."""
        match outcome:
            case Applied():
                return msgspec.structs.replace(self, accepted=True, refused="")
            case Refused() | WithoutEffect():
                told_at = at if self.told is None else self.told_at
                why, times = str(outcome.reason), self.refusals + 1
                return msgspec.structs.replace(self, told=None, told_at=told_at, refusals=times, refused=why)
            case Unknown():
                return self
            case _:
                assert_never(outcome)


class State(msgspec.Struct, frozen=True):
    """Where scrubbing stands: the number of this pass and how far it is, and what is known to be damaged."""

    format: str = FORMAT
    number: int = 0
    began: datetime | None = None
    ended: datetime | None = None
    reached: dict[int, int] = {}
    known: tuple[Known, ...] = ()
    more: dict[str, int] = {}

    @property
    def findings(self) -> int:
        """How many objects are known to be damaged, told one by one or not."""
        return len(self.known) + sum(self.more.values())

    @property
    def open(self) -> tuple[Known, ...]:
        """What has to be on the ledger and is not known to be."""
        return tuple(known for known in self.known if known.is_open)

    def changed(self, event_id: str, change: Callable[[Known], Known]) -> State:
        """Return the state in which one is otherwise; the same if it is not known any more."""
        known = (change(one) if one.id == event_id else one for one in self.known)
        return msgspec.structs.replace(self, known=tuple(known))

    def next_to_tell(self, *, at: datetime) -> Known | None:
        """Return the alarm that is to be told now.

        The ledger first: of the log's objects most are made anew from it. While the ledger refuses alarms,
        the next is told once it is known what became of the last, and no sooner than RETELL_AFTER.
        """
        if any(known.refused for known in self.open):
            last = max(known.told_at for known in self.known if known.told_at is not None)
            if at < last + RETELL_AFTER or any(known.told is not None for known in self.open):
                return None
        due = (known for known in self.open if known.told is None and known.due_at <= at)
        return min(due, key=lambda k: (k.refusals > 0, k.finding.bucket != "ledger"), default=None)

    @property
    def refused(self) -> str | None:
        """Return which alarm the ledger refused, and why."""
        for known in self.open:
            if known.refused:
                times = f"the ledger refused an alarm {known.refusals} times ({known.refused})"
                return f"{times}; it is told again as damage-found {known.id} ({known.finding.code})"
        return None

    def late(self, *, at: datetime, why: str) -> str | None:
        """Return which alarm is not known to be on the ledger for long, and `why`."""
        late = [known for known in self.open if known.since + OPEN_MAX <= at]
        if not late:
            return None
        since = late[0].since.isoformat(timespec="seconds")
        first = f"damage-found {late[0].id} ({late[0].finding.code}) of {since}"
        return f"{len(late)} alarms are not known to be on the ledger, first {first}: {why}"
