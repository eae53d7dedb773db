"""The detectors: what a publication of entries has to say to a SOC besides the entries.

They judge what the trail has of the ledger, and read nothing of Kafka. What an actor was refused before is
asked of the trail each time, so there is no state of their own to lose, to fill or to write to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from salus.audit.domain.detection import RULES, Json, key_of
from salus.audit.domain.entry import TrailEntry
from salus.audit.domain.network import Surroundings
from salus.audit.domain.ocsf import ocsf_of
from salus.audit.domain.probing import (
    RULE,
    ProbingRule,
    Refusal,
    first_burst,
    periods_of,
    probing_finding,
    refusal_of,
)
from salus.audit.metrics import FINDINGS, UNDETECTED
from salus.audit.ports import Message, Trail

# Findings of probing that are remembered, so that none is sent again for each further refusal. One that was
# forgotten comes again with the same uid.
TOLD_MAX = 10_000

_log = structlog.get_logger()


class RuleFailedError(Exception):
    """A rule failed at an entry, so that a finding may be missing."""


@dataclass
class Detectors:
    """Finds what entries amount to, alone and with what is in the trail."""

    trail: Trail
    rule: ProbingRule
    around: Surroundings
    _told: dict[str, None] = field(default_factory=dict)
    _trouble: str | None = None

    def __post_init__(self) -> None:
        for name in (RULE, *(each.name for each in RULES)):
            FINDINGS.labels(rule=name)

    async def check(self) -> None:
        """Raise RuleFailedError if a rule failed, and none has found anything since; for /readyz."""
        if self._trouble is not None:
            raise RuleFailedError(self._trouble)

    async def findings(self, entries: Sequence[TrailEntry]) -> list[Json]:
        """Return what these entries amount to. They are in the trail, or are about to be put there.

        The same entries give the same findings again, with the same uids, but for those of probing that were
        noted; raises OutOfReachError.
        """
        # One cause is told once, however many entries it has.
        alone = {found["metadata"]["uid"]: found for entry in entries for found in self._alone(entry)}
        return [*alone.values(), *await self._probing(entries)]

    def note(self, findings: Sequence[Json]) -> None:
        """Note that findings are published."""
        for finding in findings:
            rule, uid = finding["metadata"]["event_code"], finding["metadata"]["uid"]
            FINDINGS.labels(rule=rule).inc()
            _log.warning("finding", rule=rule, uid=uid)
            if rule == RULE:
                self._told[uid] = None
        while len(self._told) > TOLD_MAX:
            del self._told[next(iter(self._told))]

    def _alone(self, entry: TrailEntry) -> Iterator[Json]:
        """Yield the findings of one entry; a rule that fails is named and counted, and the others go on."""
        for each in RULES:
            try:
                if not each.applies(entry):
                    continue
                finding = each.finding(ocsf_of(entry, self.around))
            except Exception as error:  # noqa: BLE001  # no fault in a rule stops what is published
                self._trouble = f"{each.name}: {type(error).__name__} at {entry.uid}"
                UNDETECTED.inc()
                _log.error("a rule failed", at=self._trouble, exc_info=error)
            else:
                self._trouble = None
                yield finding

    async def _probing(self, entries: Sequence[TrailEntry]) -> list[Json]:
        """Return a finding for each period in which these refusals complete a burst, or let others do so."""
        given = list(filter(None, map(refusal_of, entries)))
        periods = {period for refusal in given for period in periods_of(refusal, self.rule)}
        asked = [period for period in periods if period.uid not in self._told]
        if not asked:
            return []
        # What is about to be put into the trail counts as it is given.
        known: dict[str, list[Refusal]] = defaultdict(list)
        for refusal in [*await self.trail.refusals(asked), *given]:
            known[refusal.actor].append(refusal)
        asked.sort(key=lambda period: (period.number, period.actor))
        bursts = ((period, first_burst(period, known[period.actor])) for period in asked)
        return [probing_finding(period, burst, self.around) for period, burst in bursts if burst is not None]


def message_of(finding: Json, around: Surroundings) -> Message:
    """Return a finding as it is published."""
    return Message(
        topic=around.ocsf_topic,
        key=key_of(finding),
        value=msgspec.json.encode(finding),
        uid=finding["metadata"]["uid"],
        content_type="application/json",
    )
