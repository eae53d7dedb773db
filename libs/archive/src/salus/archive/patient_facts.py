"""What rights to a patient's data rest on, folded from what consent and storage did; that is judged by it."""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from math import inf
from sys import intern

import msgspec

from salus.archive.askers import Askers
from salus.archive.lacks import LackOfRight
from salus.archive.served_requests import (
    STORAGE_TOPIC,
    AnyServed,
    Served,
    ServedCase,
    ServedDecision,
    ServedDestruction,
    ServedEmergency,
    ServedErasure,
    ServedGrant,
    ServedLifting,
    ServedLink,
    ServedOverdue,
    ServedProhibition,
    ServedRegistration,
    ServedReview,
    ServedRevocation,
    ServedUnlink,
    ServedUpload,
    ServedVerdict,
)
from salus.archive.told_moments import untrue_moment
from salus.events.epochs import next_epoch
from salus.events.patient_rights import (
    APPROVED_HOURS_MAX,
    EMERGENCY_SECONDS_MAX,
    REVIEW_HOURS_MAX,
    Act,
    Permission,
    Relation,
    keeps_records_for,
    lifted_from,
    may_erase,
    objection,
    permission_of,
    relation_to,
)

# By how much a service's clock may be ahead of the broker's.
STATED_AHEAD_S = 60


@dataclass(slots=True)
class _Patient:
    """One patient; `epochs` has when each epoch after the first began, `key` is the id of the first key."""

    steward: str | None = None
    key: str | None = None
    linked: frozenset[str] | set[str] = frozenset()
    erased: bool = False
    epochs: array[float] | None = None


class Then(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was so when an event was stated, and may be otherwise later.

    Whether who asked was linked to the patient, who was her steward, which key she had and whether she was
    erased by what her topic said; and who had the emergency access that is reviewed or called overdue, when
    its review was due, and whether it was reviewed.
    """

    is_linked: bool = False
    steward: str | None = None
    key: str | None = None
    erased: bool = False
    principal: str | None = None
    due: float | None = None
    is_reviewed: bool = False


@dataclass(slots=True)
class _Awaited:
    """Whose emergency access or case it is, when a person is to look at it, and whether one did.

    A case that was approved at `approved` allows what was asked for until `until`. Of an emergency access
    everybody is told `what` it is about and why, and that it ends at `until`.
    """

    by: str
    due: float
    what: tuple[str, str] | None = None
    is_reviewed: bool = False
    approved: float = inf
    until: float | None = None


class PatientFacts:
    """Folds the changes on storage's topic and on consent's, each patient's of one topic in their order.

    `askers` says what a party was when a service may have looked, and has the time that services have.
    """

    def __init__(self, askers: Askers) -> None:
        self._askers = askers
        self._leeway = askers.leeway
        self._patients: dict[str, _Patient] = {}
        # By patient and decision.
        self._emergencies: dict[tuple[str, str], _Awaited] = {}
        self._cases: dict[tuple[str, str], _Awaited] = {}

    def then(self, served: AnyServed) -> Then:
        """Return what is so right before an event."""
        patient = self._patients.get(served.patient)
        if patient is None:
            return Then()
        then = Then(served.by in patient.linked, patient.steward, patient.key, patient.erased)
        awaited = self._awaited(served)
        if awaited is None:
            return then
        return msgspec.structs.replace(
            then, principal=awaited.by, due=awaited.due, is_reviewed=awaited.is_reviewed
        )

    def _awaited(self, served: AnyServed) -> _Awaited | None:
        """Return what a person decided, or is said to have left too long."""
        match served:
            case ServedReview():
                return self._emergencies.get((served.patient, served.decision))
            case ServedVerdict():
                return self._cases.get((served.patient, served.case))
            case ServedOverdue():
                named = served.patient, served.decision
                return self._emergencies.get(named) or self._cases.get(named)
            case _:
                return None

    def evolve(self, served: AnyServed) -> bool:
        """Fold a change that took effect; tell whether what was judged before may rest on what is new by it.

        That is so once for each steward, emergency access, case, verdict and epoch, however often they are
        stated.
        """
        match served:
            case ServedRegistration():
                patient = self._patient(served.patient)
                is_new = patient.steward is None
                # Many patients have one steward.
                patient.steward = patient.steward or intern(served.steward)
                patient.key = patient.key or served.key
                return is_new
            case ServedErasure():
                patient = self._patient(served.patient)
                # An erasure by another key destroys nothing, and storage's state does not take it.
                patient.erased = patient.erased or patient.key == served.key
            case ServedLink():
                patient = self._patient(served.patient)
                patient.linked = patient.linked if isinstance(patient.linked, set) else set()
                patient.linked.add(served.did)
            case ServedUnlink():
                patient = self._patient(served.patient)
                if isinstance(patient.linked, set):
                    patient.linked.discard(served.did)
                return self._begin_epoch(served)
            case ServedRevocation() | ServedProhibition():
                return self._begin_epoch(served)
            case _:
                return self._evolve_awaited(served)
        return False

    def _evolve_awaited(self, served: AnyServed) -> bool:
        """Fold what a person is to look at, and that one did; as `evolve` does."""
        match served:
            case ServedEmergency():
                self._patient(served.patient)
                known = len(self._emergencies)
                named = served.patient, served.decision
                what = (served.object, served.reason)
                told = _Awaited(served.by, served.due, what=what, until=served.until)
                self._emergencies.setdefault(named, told)
                return len(self._emergencies) > known
            case ServedCase():
                self._patient(served.patient)
                known = len(self._cases)
                self._cases.setdefault((served.patient, served.case), _Awaited(served.by, served.due))
                return len(self._cases) > known
            case ServedReview():
                if (awaited := self._awaited(served)) is not None:
                    awaited.is_reviewed = True
            case ServedVerdict():
                awaited = self._awaited(served)
                if awaited is not None and not awaited.is_reviewed:
                    awaited.is_reviewed, awaited.until = True, served.until
                    awaited.approved = inf if served.until is None else served.time
                    return True
            case _:
                pass
        return False

    def lack_of(self, served: AnyServed, then: Then) -> LackOfRight | None:
        """Return why whoever asked for a change had no right to it, or what is told of it that is not so.

        Whoever had the right has it also by more facts, and by a ring that knows more: that adds moments, and
        it is enough that the act was right at one.
        """
        lack = self._of_right(served, then)
        return lack or untrue_moment(served, leeway_s=self._leeway.total_seconds())

    def _of_right(self, served: AnyServed, then: Then) -> LackOfRight | None:
        match served:
            case ServedRegistration():
                return self._of_registration(served)
            case ServedErasure():
                return self._of_erasure(served, then)
            case ServedDestruction():
                return _of_destruction(served, then)
            case ServedEmergency() | ServedCase():
                return self._of_alarm(served)
            case ServedOverdue():
                return _of_escalation(served, then)
            case _:
                return self._of_consent(served, then)

    def _of_consent(self, served: AnyServed, then: Then) -> LackOfRight | None:  # noqa: C901  # one per act
        act: Act
        about: str | None
        match served:
            case ServedGrant():
                act, about = Act.GRANT, served.grantee
            case ServedRevocation():
                act, about = Act.REVOKE, None
            case ServedProhibition():
                act, about = Act.FORBID, served.party
            case ServedLifting():
                act, about = Act.LIFT, served.party
            case ServedLink():
                act, about = Act.LINK, served.did
            case ServedUnlink():
                act, about = Act.UNLINK, served.did
            case ServedReview():
                if then.principal is None:
                    return LackOfRight(f"{Act.REVIEW}: the patient had none of that id")
                act, about = Act.REVIEW, then.principal
            case ServedVerdict():
                if then.principal is None:
                    return LackOfRight(f"{Act.DECIDE}: the patient had none of that id")
                if served.until is not None and served.until > self._ended(served.time, APPROVED_HOURS_MAX):
                    return LackOfRight("an approval that ends later than the law says")
                act, about = Act.DECIDE, then.principal
            case _:
                return None
        return self._of_act(act, served, then, about=about)

    def keeps_record(self, served: ServedUpload) -> bool:
        """Tell whether who asked acts for the patient's steward."""
        who, steward = self._askers.who(served), self._steward(served)
        return who is not None and steward is not None and keeps_records_for(who, steward)

    def end_of(self, said: ServedDecision) -> float | None:
        """Return when a decision became void because a right was taken back; None: it did not."""
        patient = self._patients.get(said.patient)
        began = None if patient is None else patient.epochs
        return began[said.epoch] if began is not None and said.epoch < len(began) else None

    def _patient(self, patient: str) -> _Patient:
        return self._patients.setdefault(patient, _Patient())

    def _steward(self, served: Served) -> str | None:
        patient = self._patients.get(served.patient)
        return None if patient is None else patient.steward

    def _ended(self, since: float, hours: int) -> float:
        """Return when so many hours have passed, by any clock that a service may have."""
        return since + hours * 3600 + self._leeway.total_seconds()

    def _begin_epoch(self, served: ServedRevocation | ServedProhibition | ServedUnlink) -> bool:
        patient = self._patient(served.patient)
        known = 0 if patient.epochs is None else len(patient.epochs)
        if next_epoch(known, served.epoch) == known:
            return False
        patient.epochs = patient.epochs or array("d")
        patient.epochs.append(served.time)
        return True

    def _of_registration(self, served: ServedRegistration) -> LackOfRight | None:
        who, steward = self._askers.who(served), self._askers.ring.parties.get(served.steward)
        if steward is None or steward.kind != "member":
            return LackOfRight("a patient registered with a steward that is no member")
        if who is None or not keeps_records_for(who, steward.did):
            return LackOfRight("a patient registered by somebody who does not act for the steward")
        return None

    def _of_erasure(self, served: ServedErasure, then: Then) -> LackOfRight | None:
        who, steward = self._askers.who(served), then.steward
        if who is None or steward is None or not may_erase(who, steward):
            return LackOfRight("a patient erased for neither the steward nor its privacy officer")
        if served.key != then.key:
            return LackOfRight("a patient erased by a key that is not hers")
        return None

    def _of_act(self, act: Act, served: Served, then: Then, *, about: str | None) -> LackOfRight | None:
        # The id of a consent or a prohibition begins with its patient's.
        of_patient = served.patient.removeprefix("urn:uuid:") + "."
        named = _named(served)
        if named is not None and not named.startswith(of_patient):
            return LackOfRight(f"{act}: what it names is another patient's")
        if self._askers.who(served) is None:
            return LackOfRight(f"{act}: who asked is not registered, or its member was suspended")
        steward = self._steward(served)
        for who in self._askers.as_they_were(served):
            relation = relation_to(who, linked=(who.did,) if then.is_linked else (), steward=steward)
            concerned = lifted_from(who, about) if act is Act.LIFT else about
            permission = permission_of(act, who, about=concerned, relation=relation)
            if permission is Permission.GIVEN:
                return None
        unknown = relation is Relation.OTHER and steward is None
        return LackOfRight(f"{act}: {_sentence(act, permission)}", missing=STORAGE_TOPIC if unknown else None)

    def _of_alarm(self, served: ServedEmergency | ServedCase) -> LackOfRight | None:
        """Return why the right person would not look in time, by what was told."""
        is_emergency = isinstance(served, ServedEmergency)
        what = "an emergency access" if is_emergency else "a case"
        # A release that stated no time counts from the end of the access.
        lasts = EMERGENCY_SECONDS_MAX if is_emergency else 0
        if served.due > self._ended(served.time + lasts, REVIEW_HOURS_MAX):
            return LackOfRight(f"{what} whose review is due later than the law says")
        steward = self._steward(served)
        if served.steward is not None and served.steward != steward:
            missing = STORAGE_TOPIC if steward is None else None
            return LackOfRight(f"{what} that another than the steward is to review", missing)
        return None

    def _of_approval(self, served: ServedDecision, name: str) -> LackOfRight | None:
        case = self._cases.get((served.patient, name))
        if case is None or case.by != served.by:
            return LackOfRight("an access allowed as a case that was not its asker's")
        leeway = self._leeway.total_seconds()
        if case.until is None or not case.approved - leeway <= served.time <= case.until + leeway:
            return LackOfRight("an access allowed by a person who had not, or whose word had ended")
        return None

    def of_person(self, served: ServedDecision) -> LackOfRight | None:
        """Return why an access should not have been allowed that a person is told of, or has allowed."""
        if served.allowed and served.case is not None:
            return self._of_approval(served, served.case)
        if not (served.allowed and served.break_glass):
            return None
        told = self._emergencies.get((served.patient, served.decision))
        if told is None or told.by != served.by:
            return LackOfRight("an emergency access that nobody was told of")
        # Replicas that are asked at once under one key say an end each, by their own clocks.
        ended = inf if told.until is None else told.until + self._leeway.total_seconds()
        if told.what != (served.object, served.emergency) or served.valid_until > ended:
            return LackOfRight("an emergency access of which another object, reason or end was told")
        return None


def _of_destruction(served: ServedDestruction, then: Then) -> LackOfRight | None:
    if not then.erased:
        return LackOfRight("a key said to be destroyed of a patient who was not erased")
    if served.key != then.key:
        return LackOfRight("a key said to be destroyed that is not the patient's")
    return None


def _of_escalation(served: ServedOverdue, then: Then) -> LackOfRight | None:
    """Return why a review is not overdue that is said to be."""
    if then.principal is None:
        return LackOfRight("a review said to be overdue of an access that the patient had none of")
    if then.is_reviewed:
        return LackOfRight("a review said to be overdue that had been made")
    if then.due is not None and then.due != served.due:
        return LackOfRight("a review said to be overdue that was due at another time")
    # The broker's clock says it, which is not the service's.
    if served.appended + STATED_AHEAD_S < served.due:
        return LackOfRight("a review said to be overdue before it was due")
    return None


def _named(served: Served) -> str | None:
    """Return the consent or the prohibition that an act is to end."""
    match served:
        case ServedRevocation():
            return served.consent
        case ServedLifting():
            return served.prohibition
        case _:
            return None


def _sentence(act: Act, permission: Permission) -> str:
    if permission is Permission.OWN:
        return "it is about who asked"
    return f"who asked had no right to it ({objection(act, permission)})"
