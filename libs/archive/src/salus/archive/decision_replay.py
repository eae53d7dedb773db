"""Decides again, by the ledger alone, what the consent service decided, and says where it does not follow.

A decision names the positions of all topics that its state rests on, and the policy set. So whoever has the
blocks folds up to exactly there, by the law that the service decides by (`salus.access`), and compares. The
holder of the service's key can state any decision; that it does not follow, he cannot hide.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from salus.access.actors import Asking
from salus.access.cedar import CedarPolicies
from salus.access.decisions import Answer, Basis, Question, decided, inputs_digest, inputs_of, patients_among
from salus.access.grants import GrantIndex
from salus.access.law import answer_of
from salus.access.parsed_policies import PolicySetError
from salus.access.permits import Permit, evolve_permit
from salus.access.policy_check import usable
from salus.access.policy_files import contents_of, digest_of
from salus.access.state import (
    PatientState,
    PolicyState,
    SubjectState,
    evolve,
    evolve_policies,
    evolve_subject,
    is_of_its_files,
)
from salus.archive.body import ACCEPTED
from salus.archive.columns import columns_of_body
from salus.archive.decision_store import Change, DecisionStore, Place, is_before
from salus.archive.permit_replay import StatedUse, ends_of_permit, is_allowed, moment_of, use_differences
from salus.archive.replay import SealedBlock
from salus.archive.replayed_decision import Changed, Difference, Outcome, Replayed, shown
from salus.archive.served_requests import CONSENT_TOPIC, STORAGE_TOPIC
from salus.archive.stated_times import IDENTITY_TOPIC, STATE_TOPICS, StatedTimes
from salus.events.catalogue import Catalogue
from salus.events.contexts.consent import AccessDecided, PolicySetAdopted, PolicySetProposed
from salus.events.contexts.consent_permits import PermitUsed, PermitUseDenied
from salus.events.contexts.storage import SubjectErased, SubjectRegistered
from salus.events.effect import Applied, claims_of, effect_of
from salus.events.envelope import Event, decode_event
from salus.events.errors import RejectedError
from salus.events.keyring import KeyRing
from salus.events.state_positions import Partition, ends_of
from salus.ledger.records import appended_at

# What a decision says that follows from its state; the rest is what was asked.
COMPARED = (
    "policy_set",
    "inputs",
    "allowed",
    "reasons",
    "obligations",
    "valid_until",
    "break_glass",
    "consents",
    "pending",
    "epoch",
)
Decides = AccessDecided | PermitUsed | PermitUseDenied
StatesPolicies = PolicySetAdopted | PolicySetProposed
_TOPICS = frozenset({CONSENT_TOPIC, STORAGE_TOPIC})
IDENTITY: Partition = IDENTITY_TOPIC, 0
_COLUMNS = ("topic", "partition", "offset", "timestamp", "status", "type", "value")
# Subjects whose states are kept at hand, and policy sets that are parsed.
SUBJECTS_MAX = 1000


@dataclass(slots=True)
class _Known:
    """A subject's state after its first so many changes."""

    changes: list[Change]
    taken: list[int] = field(default_factory=list)
    patient: PatientState = field(default_factory=PatientState)
    subject: SubjectState = field(default_factory=SubjectState)
    policies: PolicyState = field(default_factory=PolicyState)
    permit: Permit = field(default_factory=Permit)
    grants: GrantIndex = field(default_factory=lambda: GrantIndex(PatientState()))


@dataclass(frozen=True, slots=True)
class _Again:
    """What follows from a decision's state: in what it differs; `is_whole` if all of it was compared."""

    differences: tuple[Difference, ...] = ()
    why: str | None = None
    is_whole: bool = False
    instead: Changed | None = None

    @property
    def outcome(self) -> Outcome:
        if self.differences:
            return "differs"
        return "same" if self.is_whole else "not-replayed"


class DecisionReplay:
    """Takes all blocks in the order of their partitions, then decides again what a range of them decided.

    `within` tells of a block's height and a record's time whether a decision is to be replayed; what it rests
    on is taken from everywhere. `known_sets` are policy sets whose texts need not be on the ledger.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        within: Callable[[int, datetime], bool] = lambda _height, _appended: True,
        known_sets: Sequence[Mapping[str, bytes]] = (),
        folder: Path | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._within = within
        self._store = DecisionStore(folder)
        self._reached: dict[Partition, int] = {}
        self._times = StatedTimes(self._store)
        self._subjects: OrderedDict[str, _Known] = OrderedDict()
        self._known_sets: Mapping[str, Mapping[str, bytes]] = {
            digest_of(files): files for files in known_sets
        }
        self._parsed: dict[str, CedarPolicies | str] = {}
        self.unread = 0

    def close(self) -> None:
        """Forget everything."""
        self._store.close()

    def counted(self) -> int:
        """Return how many decisions are to be replayed."""
        return self._store.counted()

    def take(self, block: SealedBlock) -> None:
        """Take what a block holds of consent and storage; raises BodyError if it cannot be read."""
        for r in block.header.ranges:
            self._reached[r.topic, r.partition] = r.next
        if not any(r.topic in STATE_TOPICS and r.first < r.next for r in block.header.ranges):
            return
        columns = columns_of_body(block.body, names=_COLUMNS)
        self._times.note(columns, self._reached)
        for row, topic in enumerate(columns["topic"]):
            if topic not in _TOPICS or columns["status"][row] != ACCEPTED:
                continue
            place = Place(
                block.shard,
                block.header.height,
                row,
                topic,
                columns["partition"][row],
                columns["offset"][row],
            )
            self._take_row(place, columns["value"][row], appended_at(columns["timestamp"][row]))

    def _take_row(self, place: Place, value: bytes, appended: datetime) -> None:
        try:
            event = decode_event(value, self._catalogue)
        except RejectedError:
            self.unread += 1
            return
        data = event.data
        took_effect = self._take_effect(place, event, value)
        # What changes nothing was told to somebody all the same.
        counts = took_effect or not event.type.changes
        if isinstance(data, Decides) and counts and self._within(place.height, appended):
            position = ends_of(data.state_positions).get(IDENTITY, 0)
            self._store.add_decision(place, position=position, appended=appended.timestamp(), value=value)

    def _take_effect(self, place: Place, event: Event, value: bytes) -> bool:
        """Take what an event did, and tell whether it took effect: a use that did not allowed nothing.

        What changes nothing claims names as well: a request for which a denial stands makes no use.
        """
        topic, subject, data = place.topic, event.envelope.subject, event.data
        effect = effect_of(
            event,
            version=self._store.version(topic, subject),
            is_claimed=lambda name: self._store.is_claimed(topic, name),
            # Who asked had the right or not: with consent and storage it has its effect.
            is_entitled=lambda: True,
        )
        if not isinstance(effect, Applied):
            return False
        version = effect.version if event.type.changes else None
        self._store.applied(topic, subject, version=version, names=claims_of(event))
        if not event.type.changes:
            return True
        if topic == CONSENT_TOPIC or isinstance(data, SubjectRegistered | SubjectErased):
            self._store.add_change(subject, (topic, place.partition), place.offset, value)
        if isinstance(data, StatesPolicies) and is_of_its_files(data):
            self._store.add_text(data.policy_set, value)
        return True

    def results(
        self, ring_at: Callable[[int], KeyRing], *, other: CedarPolicies | None = None
    ) -> Iterator[Replayed]:
        """Yield what comes of each decision, in the order of the identity topic's positions that they name.

        `ring_at` returns the key ring at a position; the positions never go back.
        """
        for position, place, appended, value in self._store.decisions():
            event = decode_event(value, self._catalogue)
            yield self._replayed(place, event, ring_at(position), other, appended=appended)

    def _replayed(
        self, place: Place, event: Event, ring: KeyRing, other: CedarPolicies | None, *, appended: float
    ) -> Replayed:
        data = event.data
        assert isinstance(data, Decides)  # noqa: S101  # only these were kept
        ends = ends_of(data.state_positions)
        beyond = sorted(at for at, end in ends.items() if end > self._reached.get(at, 0))
        own = place.topic, place.partition
        if ends.get(own, 0) > place.offset:
            # It cannot rest on itself, nor on what followed: so much is false, whatever is sealed later.
            said, follows = (f"{place.topic} {place.partition} before {n}" for n in (ends[own], place.offset))
            again = _Again((Difference("state_positions", said, f"{follows} at most, where it stands"),))
        elif beyond:
            topic, partition = beyond[0]
            again = _Again(why=f"its state rests on records of {topic} {partition} that are in no block here")
        else:
            if isinstance(data, AccessDecided):
                again, at = self._again(event.envelope.source, data, ring, other), data.decided_at
            else:
                again, at = self._use_again(place, data, ring), moment_of(data)
            if late := self._times.differences(at, ends, appended=appended):
                again = replace(again, differences=(*late, *again.differences))
        return Replayed(
            outcome=again.outcome,
            shard=place.shard,
            height=place.height,
            row=place.row,
            topic=place.topic,
            partition=place.partition,
            offset=place.offset,
            event=event.envelope.id,
            **_said(data),
            differences=again.differences,
            why=again.why,
            instead=again.instead,
        )

    def _again(self, service: str, data: AccessDecided, ring: KeyRing, other: CedarPolicies | None) -> _Again:
        if (barred := _barred(ring, data.principal)) is not None:
            return _Again((Difference("principal", data.principal, barred),))
        ends = ends_of(data.state_positions)
        of_patient, policies = self._folded(data.patient, ends), self._folded(service, ends).policies
        state, subject, at = of_patient.patient, of_patient.subject, data.decided_at
        question = Question(
            principal=Asking.of(ring.caller(data.principal), data.request),
            action=data.action,
            object=data.object,
            patient=data.patient,
            purpose=data.purpose,
            break_glass=data.emergency,
        )
        patients = patients_among(state.dids, ring.parties)
        known: dict[str, Any] = {
            "state": state,
            "patients": patients,
            "subject": subject,
            "at": at,
            "grants": of_patient.grants,
        }
        inputs = inputs_of(question, **known)

        def answer_by(by: CedarPolicies) -> Answer:
            verdict = by.evaluate(inputs)
            return answer_of(question, verdict, **known)

        basis = Basis(data.decision, policies.policy_set, inputs_digest(inputs), at, ends, state.epoch)
        by = self._policies(policies.policy_set)
        if isinstance(by, str):
            # Without the policies so much is known.
            said = _differences(data, {"policy_set": basis.policy_set, "inputs": basis.inputs})
            return _Again(said, why=by)
        follows = decided(question, answer_by(by), basis)
        # A case that a decision opens is named by it, and is in no state before.
        names = COMPARED if data.pending and follows.case is None else (*COMPARED, "case")
        differences = _differences(data, {name: getattr(follows, name) for name in names})
        instead = answer_by(other) if other else None
        return _Again(
            differences,
            why=self._doubt(data, ring) if differences else None,
            is_whole=True,
            instead=Changed(instead.allowed, instead.reasons) if instead else None,
        )

    def _use_again(self, place: Place, data: StatedUse, ring: KeyRing) -> _Again:
        if (barred := _barred(ring, data.principal)) is not None:
            return _Again((Difference("principal", data.principal, barred),))
        ends = ends_of(data.state_positions)
        permit = self._folded(data.permit, ends_of_permit(data, place, ends)).permit
        of_patient = _Known([]) if data.patient is None else self._folded(data.patient, ends)
        differences = use_differences(
            data,
            permit=permit,
            asking=Asking.of(ring.caller(data.principal), data.request),
            state=of_patient.patient,
            subject=of_patient.subject,
        )
        return _Again(differences, is_whole=True)

    def _doubt(self, data: AccessDecided, ring: KeyRing) -> str | None:
        """Return what may explain a difference besides a false decision; it stays a difference."""
        if ring.lacking:
            return f"no package here declares the role {', '.join(sorted(ring.lacking))}"
        places = Counter(change.at for change in self._known(data.patient).changes)
        if len(places) > len({topic for topic, _ in places}):
            return "events about the patient stand on several partitions of one topic, which have no order"
        return None

    def _folded(self, subject: str, ends: Mapping[Partition, int]) -> _Known:
        """Return a subject's states from its changes before these ends; it goes on from those of before."""
        known = self._known(subject)
        wanted = [change.number for change in known.changes if is_before(change, ends)]
        if known.taken != wanted[: len(known.taken)]:
            known = _Known(known.changes)
            self._subjects[subject] = known
        for value in self._store.values(wanted[len(known.taken) :]):
            data = decode_event(value, self._catalogue).data
            known.patient = evolve(known.patient, data)
            known.subject = evolve_subject(known.subject, data)
            known.policies = evolve_policies(known.policies, data)
            known.permit = evolve_permit(known.permit, data)
        if wanted != known.taken:
            known.taken, known.grants = wanted, GrantIndex(known.patient)
        return known

    def _known(self, subject: str) -> _Known:
        known = self._subjects.get(subject)
        if known is None:
            known = _Known(self._store.changes(subject))
            self._subjects[subject] = known
            if len(self._subjects) > SUBJECTS_MAX:
                self._subjects.popitem(last=False)
        self._subjects.move_to_end(subject)
        return known

    def _policies(self, policy_set: str) -> CedarPolicies | str:
        """Return a policy set, or why it cannot be used here."""
        if policy_set not in self._parsed:
            self._parsed[policy_set] = self._parse(policy_set)
        return self._parsed[policy_set]

    def _parse(self, policy_set: str) -> CedarPolicies | str:
        files = self._known_sets.get(policy_set)
        kept = None if files is not None else self._store.text(policy_set)
        if kept is not None:
            data = decode_event(kept, self._catalogue).data
            files = (
                contents_of(data.files) if isinstance(data, PolicySetAdopted | PolicySetProposed) else None
            )
        if files is None:
            why = f"the text of policy set {policy_set[:12]} is not on the ledger"
            return why if policy_set else "no policy set was in force"
        try:
            return usable(files)
        except PolicySetError as error:
            return f"policy set {policy_set[:12]} cannot be used by this version: {error}"


def _said(data: AccessDecided | StatedUse) -> dict[str, Any]:
    """Return what a decision says, as a result repeats it; a permit follows no policy set."""
    if isinstance(data, AccessDecided):
        names = ("decision", "allowed", "reasons", "policy_set")
        return {name: getattr(data, name) for name in names}
    name = data.use if isinstance(data, PermitUsed) else data.permit
    reasons = data.reasons if isinstance(data, PermitUseDenied) else ()
    return {"decision": name, "allowed": is_allowed(data), "reasons": reasons, "policy_set": ""}


def _barred(ring: KeyRing, did: str) -> str | None:
    """Return why nobody of that DID could ask for anything."""
    if did not in ring.parties:
        return "nobody of that DID was registered"
    return None if ring.may_ask(did) else f"its member was {ring.membership_of(did).value}"


def _differences(said: AccessDecided, follows: Mapping[str, object]) -> tuple[Difference, ...]:
    pairs = ((name, getattr(said, name), value) for name, value in follows.items())
    return tuple(Difference(name, shown(one), shown(two)) for name, one, two in pairs if one != two)
