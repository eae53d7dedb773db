"""Judges again, by the ledger alone, who had the right to what consent and storage say they did for them.

Whoever holds a service's key can sign requests with an account of his own and serve them himself. A right
follows from what stands elsewhere on the ledger: who stewards a patient (storage's topic), which parties are
she (consent's), who they are (identity's). Topics are sealed by different shards at different times. So an
event is judged as it comes, and again as soon as something comes that it rests on: what is found in the end
goes by what was taken, and not by which partition came first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Literal

from msgspec import structs

from salus.archive.askers import Askers
from salus.archive.entitlement_store import Case, EntitlementStore
from salus.archive.lacks import LackOfRight
from salus.archive.patient_facts import PatientFacts
from salus.archive.permit_parties import PermitParties
from salus.archive.served_requests import (
    CONSENT_TOPIC,
    AnyServed,
    ServedCase,
    ServedDecision,
    ServedEmergency,
    ServedProhibition,
    ServedProposal,
    ServedRead,
    ServedRegistration,
    ServedRevocation,
    ServedRun,
    ServedUnlink,
    ServedUpload,
    ServedVerdict,
    ServedWithdrawal,
)
from salus.events.bearer import CLOCK_SKEW_S
from salus.events.keyring import KeyRing

# A service looks up a right, then states what it did, and others know of it once that is on its topic: all
# within this time, clocks' differences included.
STATED_WITHIN_S = 60


@dataclass(frozen=True, slots=True)
class Unentitled:
    """What was done without a right. `is_pending`: what gives it may be on its topic, and not sealed yet."""

    run: ServedRun
    served: AnyServed
    why: str
    is_pending: bool


class Entitlements:
    """Takes what consent and storage stated, and says what of it nobody had a right to.

    What changes a subject is taken only if it took effect, and each partition is taken in its order.
    `is_whole` says that all of consent's is taken before storage's transfers: then transfers that were right
    need not be kept. `folder` is where the file is (`scratch_database`).
    """

    def __init__(self, ring: KeyRing, *, is_whole: bool = False, folder: Path | None = None) -> None:
        self._store = EntitlementStore(folder)
        self._askers = Askers(ring, leeway=timedelta(seconds=STATED_WITHIN_S))
        self._facts = PatientFacts(self._askers)
        self._permits = PermitParties(self._askers)
        self._is_whole = is_whole
        self._number = 0
        # The latest time that a record of a topic was appended.
        self._newest: dict[str, float] = defaultdict(lambda: -inf)
        self.lacking = 0

    def close(self) -> None:
        """Forget everything."""
        self._store.close()

    def take(self, run: ServedRun, served: AnyServed) -> None:
        """Take the next event of a partition; of `run` only the place counts."""
        self._number += 1
        self._newest[run.topic] = max(self._newest[run.topic], served.appended)
        place = structs.replace(run, served=b"")
        case = Case(self._number, place, served, self._facts.then(served))
        self._decide(case)
        if self._facts.evolve(served) or self._permits.evolve(served):
            self._gather(served)
        self._judge(case)
        self._judge_again()

    def know(self, ring: KeyRing, *, since: float = -inf) -> None:
        """Judge by a ring that knows all that the one before did, and what was appended from `since` on."""
        self._askers.ring = ring
        self._store.lacks_again()
        # A role that was lost ends the decisions that rested on it.
        self._store.transfers_again(after=since + STATED_WITHIN_S)
        self._judge_again()

    def unentitled(self) -> Iterator[Unentitled]:
        """Yield what was done without a right, in the order of taking."""
        for case, lack in self._store.lacks():
            yield Unentitled(case.run, case.served, lack.why, self._is_pending(case, lack))

    def _is_pending(self, case: Case, lack: LackOfRight) -> bool:
        if lack.missing is None:
            return False
        return case.served.appended + STATED_WITHIN_S > self._newest[lack.missing]

    def _decide(self, case: Case) -> None:
        """Keep a decision, unless one of the same id was appended before it: that one counts.

        A service states each once. So nobody can have what was done under a decision judged again for
        each further one of its id.
        """
        if not isinstance(said := case.served, ServedDecision):
            return
        before = self._store.decided(said.decision)
        if before is not None and _appended(before[0]) <= _appended(case):
            return
        if self.lacking:
            self._store.lacks_under_again(said.decision)
        self._store.decide(case, said)
        if before is not None:
            there, other = before
            self._store.transfers_under_again(other)
            self._judge(there)

    def _gather(self, served: AnyServed) -> None:
        """Gather what rests on this event, which changed something."""
        match served:
            case ServedRegistration() | ServedProposal() if self.lacking:
                self._store.lacks_of_patient_again(served.patient)
            case ServedEmergency() if self.lacking:
                self._store.lacks_of_emergency_again(served.patient, served.decision)
            case ServedCase() | ServedVerdict() if self.lacking:
                self._store.lacks_of_case_again(served.patient, served.case)
            case ServedRevocation() | ServedProhibition() | ServedUnlink():
                # What was decided before may have ended before transfers that stand on another partition.
                self._store.epoch_again(served.patient, served.epoch - 1)
            case _:
                pass

    def _judge_again(self) -> None:
        for case in self._store.again():
            self._judge(case)

    def _judge(self, case: Case) -> None:
        lack = self._lack_of(case)
        self.lacking -= self._store.drop_lack(case)
        if lack is not None:
            self._store.keep_lack(case, lack)
            self.lacking += 1
        elif not self._is_whole and self._rests_on_decision(case.served):
            self._store.keep_transfer(case)

    def _rests_on_decision(self, served: AnyServed) -> bool:
        match served:
            case ServedRead():
                return True
            case ServedUpload():
                return not self._facts.keeps_record(served)
            case _:
                return False

    def _lack_of(self, case: Case) -> LackOfRight | None:
        match case.served:
            case ServedDecision() as served:
                return self._of_statement(served)
            case ServedRead() as served:
                return self._of_decision(served, action="read", named=served.object)
            case ServedUpload() as served if self._rests_on_decision(served):
                return self._of_decision(served, action="write", named=served.object)
            case ServedUpload():
                return None
            case ServedWithdrawal() as served:
                return self._permits.lack_of(served)
            case served:
                return self._facts.lack_of(served, case.then)

    def _of_statement(self, served: ServedDecision) -> LackOfRight | None:
        first = self._store.decision(served.decision)
        if first is None or _is_the_same(first, served):
            return self._facts.of_person(served)
        return LackOfRight("a decision under the id of another")

    def _of_decision(
        self, served: ServedRead | ServedUpload, *, action: Literal["read", "write"], named: str | None
    ) -> LackOfRight | None:
        """Return None if a decision allowed the transfer, and had not ended when it was asked for."""
        if served.decision is None:
            return LackOfRight("stored without a decision, by somebody who does not act for the steward")
        said = self._store.decision(served.decision)
        if said is None:
            return LackOfRight("done under a decision that is not on the ledger", missing=CONSENT_TOPIC)
        return self._why_not(said, served, action=action, named=named)

    def _why_not(
        self, said: ServedDecision, served: ServedRead | ServedUpload, *, action: str, named: str | None
    ) -> LackOfRight | None:
        ends = self._facts.end_of(said)
        if not said.allowed:
            why = "is a denial"
        elif said.by != served.by:
            why = "was given to somebody else"
        elif said.action != action or said.patient != served.patient or named not in (None, said.object):
            why = "is about another action, object or patient"
        elif isinstance(served, ServedRead) and _is_told_otherwise(said, served):
            why = "was for another purpose, or about an emergency where none is told"
        elif served.asked > said.valid_until + CLOCK_SKEW_S:
            why = "had expired"
        elif ends is not None and served.asked > ends + STATED_WITHIN_S:
            why = "was void, for a right had been taken back"
        elif said.time > served.time + STATED_WITHIN_S:
            why = "was taken afterwards"
        elif self._askers.has_other_roles(said, served):
            why = "rested on roles that were others by then"
        else:
            return None
        return LackOfRight(f"done under a decision that {why}")


def _is_told_otherwise(said: ServedDecision, served: ServedRead) -> bool:
    """Tell whether a read is said to have been for what its decision was not: reports go by what is said."""
    is_told = served.purpose is not None
    return is_told and (served.purpose, served.break_glass) != (said.purpose, said.break_glass)


def _is_the_same(first: ServedDecision, again: ServedDecision) -> bool:
    """Tell whether a decision is the first one of its id, or of no effect beside it.

    The very event may be accepted again, long after it was. And who asks at once several times what may be
    asked again has one decision: each statement of it claims a name, which the first one has.
    """
    return first.event == again.event or not set(first.claims).isdisjoint(again.claims)


def _appended(case: Case) -> tuple[float, int, int]:
    """Return what orders decisions of one id: the broker's time, which no service chooses, then the place."""
    return case.served.appended, case.run.partition, case.served.offset
