"""Emergency accesses to a patient's data: when each has to be reviewed, and what became of it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from salus.events.contexts.consent import EmergencyReason, GlassBreakReviewed, GlassBroken, ReviewGround
from salus.events.contexts.consent_oversight import ReviewOverdue
from salus.events.patient_rights import REVIEW_HOURS_MAX

Outcome = Literal["justified", "unjustified"]
# Reviewed emergency accesses that are still listed; the ledger has all of them.
REVIEWED_MAX = 1000
_REVIEW_WITHIN = re.compile(r"review-within-([1-9][0-9]{0,2})h")


class GlassBreak(msgspec.Struct, frozen=True, omit_defaults=True):
    """An emergency access, by whom and for which member, and what became of it.

    `due` is when its review is. `is_overdue` tells whether it was stated that nobody had reviewed it then.
    """

    decision: str
    principal: str
    outcome: Outcome | None = None
    member: str | None = None
    object: str = ""
    reason: EmergencyReason | None = None
    broken_at: datetime | None = None
    due: datetime | None = None
    steward: str | None = None
    is_overdue: bool = False
    reviewer: str | None = None
    ground: ReviewGround | None = None

    @property
    def organisation(self) -> str:
        """The member that the principal acted for, or the principal itself."""
        return self.member or self.principal


def review_due(obligations: Iterable[str], *, at: datetime) -> datetime:
    """Return when an emergency access has to be reviewed: the law's time, or what a policy makes shorter."""
    hours = [int(found[1]) for each in obligations if (found := _REVIEW_WITHIN.fullmatch(each))]
    return at + timedelta(hours=min([REVIEW_HOURS_MAX, *hours]))


def evolve_emergencies(
    known: tuple[GlassBreak, ...], event: GlassBroken | GlassBreakReviewed | ReviewOverdue
) -> tuple[GlassBreak, ...]:
    """Return the emergency accesses that are listed after an event."""
    match event:
        case GlassBroken() if any(broken.decision == event.decision for broken in known):
            return known
        case GlassBroken():
            return (*known, _broken(event))
        case _:
            return _listed(tuple(_after(broken, event) for broken in known))


def _broken(event: GlassBroken) -> GlassBreak:
    return GlassBreak(
        event.decision,
        event.principal,
        member=event.request.behalf,
        object=event.object,
        reason=event.reason,
        broken_at=event.broken_at,
        due=due_of(event),
        steward=event.steward,
    )


def due_of(event: GlassBroken) -> datetime:
    """Return when the review is due; of a release that stated no time, by the end of the access."""
    if event.review_due is not None:
        return event.review_due
    try:
        return event.valid_until + timedelta(hours=REVIEW_HOURS_MAX)
    except OverflowError:
        # A fold takes whatever stands on the topic.
        return event.valid_until


def _after(broken: GlassBreak, event: GlassBreakReviewed | ReviewOverdue) -> GlassBreak:
    if broken.decision != event.decision or broken.outcome is not None:
        return broken
    if isinstance(event, ReviewOverdue):
        return msgspec.structs.replace(broken, is_overdue=True)
    judged = {"outcome": event.outcome, "reviewer": event.reviewer, "ground": event.ground}
    return msgspec.structs.replace(broken, **judged)


def _listed(known: tuple[GlassBreak, ...]) -> tuple[GlassBreak, ...]:
    """Return all that await review, and the last REVIEWED_MAX of the others."""
    reviewed = [broken.decision for broken in known if broken.outcome is not None]
    old = set(reviewed[: max(0, len(reviewed) - REVIEWED_MAX)])
    return tuple(broken for broken in known if broken.decision not in old)
