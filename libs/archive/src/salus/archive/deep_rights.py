"""Judges again, by the ledger alone, who had the right to what consent and storage say they did for them.

Whoever holds a service's key can sign requests with an account of his own and serve them himself. A right
follows from what stands elsewhere on the ledger: who stewards a patient (storage's topic), which parties are
she (consent's), who they are (identity's). Topics are sealed by different shards at different times, so
nothing is judged before all blocks were seen: storage's changes first, which rest on identity alone, then
consent's, then what was read and stored under its decisions. Whether a decision follows from the policies is
not judged here, nor, of what was opened in an event, whether that event names the decision's object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from salus.archive.check_blocks import Checked
from salus.archive.patient_facts import LackOfRight, PatientFacts
from salus.archive.report import Finding, note_of
from salus.archive.served_changes import ServedChanges
from salus.archive.served_requests import (
    CONSENT_TOPIC,
    STORAGE_TOPIC,
    AnyServed,
    ServedDecision,
    ServedRead,
    ServedRun,
    ServedUpload,
)
from salus.archive.served_store import ServedStore, Stated
from salus.events.bearer import CLOCK_SKEW_S
from salus.events.keyring import KeyRing
from salus.ledger.block import header_key

# A service looks up a right, then states what it did, and others know of it once that is on its topic: all
# within this time, clocks' differences included.
STATED_WITHIN_S = 60
# A service whose key was stolen may have done anything; so many findings say enough.
FINDINGS_MAX = 1000
_Found = tuple[ServedRun, AnyServed, LackOfRight]


class RightsJudge:
    """Takes what all blocks hold, in any order, then judges by the parties that `ring` knows in the end."""

    def __init__(self, ring: KeyRing) -> None:
        self._store = ServedStore()
        self._facts = PatientFacts(ring, leeway_s=STATED_WITHIN_S)
        # The latest time that is stated on a topic, once it was folded.
        self._newest: dict[str, float] = {}
        self._unread: Finding | None = None

    def take(self, checked: Checked) -> None:
        """Take what a stretch of blocks holds; nothing of it stays there."""
        if checked.served is None:
            self._unread = _unjudged("a block is damaged", checked.shard, checked.start)
        else:
            self._store.add(checked.served)
            checked.served.clear()

    def findings(self) -> list[Finding]:
        """Return what was done without a right, once everything was taken."""
        torn = self._store.torn()
        if torn is not None:
            # A shard that was listed before another may lack what that one goes on from.
            self._unread = _unjudged("a block between others is missing", torn.shard, torn.height)
        if self._unread is not None:
            return [self._unread]
        found: list[Finding] = []
        pending: list[Finding] = []
        for run, served, lack in self._lacks():
            if not self._may_be_on_its_way(served, lack):
                found.append(_finding("error", "unentitled", run, served, lack))
            elif len(pending) < FINDINGS_MAX:
                pending.append(_finding("info", "rights-pending", run, served, lack))
            if len(found) == FINDINGS_MAX:
                break
        return found + pending

    def _may_be_on_its_way(self, served: AnyServed, lack: LackOfRight) -> bool:
        """Tell whether what would give the right may be on its topic, and not sealed yet."""
        if lack.missing is None:
            return False
        return served.time + STATED_WITHIN_S > self._newest[lack.missing]

    def _lacks(self) -> Iterator[_Found]:
        storage = ServedChanges(self._store, STORAGE_TOPIC)
        consent = ServedChanges(self._store, CONSENT_TOPIC)
        yield from _judged(storage.in_effect(), self._facts.fold_storage)
        self._newest[STORAGE_TOPIC] = storage.newest
        yield from _judged(consent.in_effect(), self._facts.fold_consent)
        self._newest[CONSENT_TOPIC] = consent.newest
        others = (one for one in self._store.served(CONSENT_TOPIC) if isinstance(one[1], ServedDecision))
        yield from _judged(others, self._of_decided)
        done = (one for one in self._store.served(STORAGE_TOPIC) if not storage.is_idle(*one))
        yield from _judged(done, self._of_transfer)

    def _of_decided(self, served: AnyServed) -> LackOfRight | None:
        if not isinstance(served, ServedDecision):
            return None
        self._store.decide(served)
        return self._facts.of_emergency(served)

    def _of_transfer(self, served: AnyServed) -> LackOfRight | None:
        match served:
            case ServedRead():
                return self._of_decision(served, action="read", named=served.object)
            case ServedUpload() if not self._facts.keeps_record(served):
                return self._of_decision(served, action="write", named=served.object)
            case _:
                return None

    def _of_decision(
        self, served: ServedRead | ServedUpload, *, action: Literal["read", "write"], named: str | None
    ) -> LackOfRight | None:
        """Return None if a decision allowed the transfer, and had not ended when it was asked for."""
        if served.decision is None:
            return LackOfRight("stored without a decision, by somebody who does not act for the steward")
        decisions = self._store.decisions(served.decision)
        if not decisions:
            return LackOfRight("done under a decision that is not on the ledger", missing=CONSENT_TOPIC)
        lacks = [self._why_not(said, served, action=action, named=named) for said in decisions]
        return None if None in lacks else lacks[0]

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
        elif served.asked > said.valid_until + CLOCK_SKEW_S:
            why = "had expired"
        elif ends is not None and served.asked > ends + STATED_WITHIN_S:
            why = "was void, for a right had been taken back"
        elif said.time > served.time + STATED_WITHIN_S:
            why = "was taken afterwards"
        else:
            return None
        return LackOfRight(f"done under a decision that {why}")


def _judged(stated: Iterable[Stated], judge: Callable[[AnyServed], LackOfRight | None]) -> Iterator[_Found]:
    for run, served in stated:
        lack = judge(served)
        if lack is not None:
            yield run, served, lack


def _unjudged(why: str, shard: int, height: int) -> Finding:
    detail = f"{why}, so who had a right to what consent and storage did is not judged"
    return note_of("rights-unjudged", header_key(shard, height), detail, shard=shard)


def _finding(
    severity: Literal["error", "info"], code: str, run: ServedRun, served: AnyServed, lack: LackOfRight
) -> Finding:
    return Finding(
        severity=severity,
        code=code,
        bucket="ledger",
        key=run.key,
        detail=lack.why,
        shard=run.shard,
        height=run.height,
        row=served.row,
        topic=run.topic,
        partition=run.partition,
        offset=served.offset,
        event=served.event,
    )
