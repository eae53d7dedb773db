"""Denied-access probing: so many refusals of one actor within so many seconds.

Time is cut into periods as long as the rule's window. A refusal *completes* a burst if, with those that were
appended before it, it makes as many as the rule names within one window. An actor has at most one finding for
each period: that of the first refusal in it that completes a burst.

More refusals can only complete more bursts, and a finding is named by actor and period alone. So whichever
order refusals become known in, and however often they are judged again, the same findings come out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from salus.audit.domain.detection import BEHAVIOURAL_ANALYTIC, Json, finding_of, finding_uid
from salus.audit.domain.entry import Severity, TrailEntry
from salus.audit.domain.network import Surroundings
from salus.audit.domain.ocsf import milliseconds, product_of

RULE = "denied-access-probing"


@dataclass(frozen=True, slots=True)
class ProbingRule:
    """So many refusals of one actor within so many seconds are probing."""

    refusals: int
    window_s: int

    @property
    def window_ms(self) -> int:
        """The window in milliseconds."""
        return self.window_s * 1000


@dataclass(frozen=True, slots=True, order=True)
class Refusal:
    """One refusal: when the broker appended it, its leaf hash, who was refused, and whose data."""

    at_ms: int
    uid: str
    actor: str = field(compare=False)
    member: str | None = field(default=None, compare=False)
    patient: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Period:
    """One window's length of an actor's time; `number` counts them since the epoch."""

    actor: str
    number: int
    rule: ProbingRule

    @property
    def cause(self) -> str:
        """What names its finding beside rule and actor."""
        return f"{self.rule.refusals} in {self.rule.window_s} s from {self.number * self.rule.window_ms}"

    @property
    def uid(self) -> str:
        """The uid of its finding."""
        return finding_uid(RULE, self.actor, self.cause)


def refusal_of(entry: TrailEntry) -> Refusal | None:
    """Return the refusal that an entry is, or None: somebody who is known was refused access to data."""
    if entry.facts.outcome != "refused" or entry.actor is None:
        return None
    at_ms = milliseconds(entry.place.appended_at)
    return Refusal(at_ms, entry.uid, entry.actor, entry.member, entry.facts.patient)


def periods_of(refusal: Refusal, rule: ProbingRule) -> tuple[Period, Period]:
    """Return the periods in which a refusal can complete a burst, or have a later one complete it."""
    actor, number = refusal.actor, refusal.at_ms // rule.window_ms
    return Period(actor, number, rule), Period(actor, number + 1, rule)


def first_burst(period: Period, refusals: Iterable[Refusal]) -> Sequence[Refusal] | None:
    """Return the refusals of the first burst that is completed in a period, oldest first, or None.

    Enough to know of an actor are the first ones in the period, and the last ones in the one before it: as
    many as the rule names. Of two with one uid the latter counts.
    """
    rule = period.rule
    ordered = sorted({refusal.uid: refusal for refusal in refusals}.values())
    for end in range(rule.refusals, len(ordered) + 1):
        burst = ordered[end - rule.refusals : end]
        in_period = burst[-1].at_ms // rule.window_ms == period.number
        if in_period and burst[-1].at_ms - burst[0].at_ms < rule.window_ms:
            return burst
    return None


def probing_finding(period: Period, burst: Sequence[Refusal], around: Surroundings) -> Json:
    """Return the finding of a burst that is completed in a period."""
    rule, last = period.rule, burst[-1]
    user = {"uid": period.actor} | ({"org": {"uid": last.member}} if last.member else {})
    told = {
        "time": last.at_ms,
        "metadata": {"uid": last.uid, "product": product_of(around)},
        "actor": {"user": user},
        "unmapped": {"patient": last.patient},
    }
    return finding_of(
        rule=RULE,
        cause=period.cause,
        title="Somebody probes for access",
        text=f"{rule.refusals} refusals of one actor within {rule.window_s} s, or more.",
        severity=Severity.HIGH,
        analytic=BEHAVIOURAL_ANALYTIC,
        last=told,
        related=tuple(refusal.uid for refusal in burst),
    )
