"""What rights to a patient's data rest on, folded from what consent and storage did; that is judged by it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from sys import intern

from salus.archive.served_requests import (
    STORAGE_TOPIC,
    AnyServed,
    Served,
    ServedDecision,
    ServedDestruction,
    ServedEmergency,
    ServedErasure,
    ServedGrant,
    ServedLink,
    ServedRegistration,
    ServedReview,
    ServedRevocation,
    ServedUnlink,
    ServedUpload,
)
from salus.events.epochs import next_epoch
from salus.events.keyring import KeyRing
from salus.events.patient_rights import (
    Act,
    Permission,
    Relation,
    Somebody,
    keeps_records_for,
    may_erase,
    objection,
    permission_of,
    relation_to,
)


@dataclass(frozen=True, slots=True)
class LackOfRight:
    """Why somebody had no right; `missing` is the topic that what gives it is not on."""

    why: str
    missing: str | None = None


@dataclass(slots=True)
class _Patient:
    """One patient; `epochs` has when each epoch after the first began."""

    steward: str | None = None
    linked: tuple[str, ...] = ()
    erased: bool = False
    epochs: tuple[float, ...] = ()


class PatientFacts:
    """Folds storage's topic, then consent's.

    Roles count that a party held within `leeway_s` before or after: a service looks first and states then,
    by its own clock.
    """

    def __init__(self, ring: KeyRing, *, leeway_s: float) -> None:
        self._ring = ring
        self._leeway = timedelta(seconds=leeway_s)
        self._patients: dict[str, _Patient] = {}
        # Who had which emergency access, by patient and decision.
        self._emergencies: dict[tuple[str, str], str] = {}

    def fold_storage(self, served: AnyServed) -> LackOfRight | None:
        """Fold a change on storage's topic; return why whoever asked for it had no right to it."""
        match served:
            case ServedRegistration():
                patient = self._patient(served.patient)
                # Many patients have one steward.
                patient.steward = patient.steward or intern(served.steward)
                return self._of_registration(served)
            case ServedErasure():
                self._patient(served.patient).erased = True
                who, steward = self._who(served), self._steward(served)
                if who is None or steward is None or not may_erase(who, steward):
                    return LackOfRight("a patient erased for neither the steward nor its privacy officer")
                return None
            case ServedDestruction() if not self._patient(served.patient).erased:
                return LackOfRight("a key said to be destroyed of a patient who was not erased")
            case _:
                return None

    def fold_consent(self, served: AnyServed) -> LackOfRight | None:
        """Fold what stands on consent's topic; return why whoever asked for it had no right to it."""
        lack = self._of_consent(served)
        self._evolve(served)
        return lack

    def _of_consent(self, served: AnyServed) -> LackOfRight | None:
        match served:
            case ServedGrant():
                return self._of_act(Act.GRANT, served, about=served.grantee)
            case ServedRevocation():
                return self._of_act(Act.REVOKE, served, about=None, names=served.consent)
            case ServedLink():
                return self._of_act(Act.LINK, served, about=served.did)
            case ServedUnlink():
                return self._of_act(Act.UNLINK, served, about=served.did)
            case ServedReview():
                return self._of_review(served)
            case _:
                return None

    def _evolve(self, served: AnyServed) -> None:
        match served:
            case ServedLink():
                patient = self._patient(served.patient)
                patient.linked = tuple({*patient.linked, served.did})
            case ServedUnlink():
                patient = self._patient(served.patient)
                patient.linked = tuple(did for did in patient.linked if did != served.did)
                self._begin_epoch(served)
            case ServedRevocation():
                self._begin_epoch(served)
            case ServedEmergency():
                self._emergencies[served.patient, served.decision] = served.by
            case _:
                pass

    def keeps_record(self, served: ServedUpload) -> bool:
        """Tell whether who asked acts for the patient's steward."""
        who, steward = self._who(served), self._steward(served)
        return who is not None and steward is not None and keeps_records_for(who, steward)

    def end_of(self, said: ServedDecision) -> float | None:
        """Return when a decision became void because a right was taken back; None: it did not."""
        patient = self._patients.get(said.patient)
        began = () if patient is None else patient.epochs
        return began[said.epoch] if said.epoch < len(began) else None

    def _patient(self, patient: str) -> _Patient:
        return self._patients.setdefault(patient, _Patient())

    def _steward(self, served: Served) -> str | None:
        patient = self._patients.get(served.patient)
        return None if patient is None else patient.steward

    def _who(self, served: Served) -> Somebody | None:
        if served.by not in self._ring.parties:
            return None
        stated = datetime.fromtimestamp(served.time, UTC)
        return self._ring.party_between(served.by, stated - self._leeway, stated + self._leeway)

    def _begin_epoch(self, served: ServedRevocation | ServedUnlink) -> None:
        patient = self._patient(served.patient)
        if next_epoch(len(patient.epochs), served.epoch) > len(patient.epochs):
            patient.epochs = (*patient.epochs, served.time)

    def _of_registration(self, served: ServedRegistration) -> LackOfRight | None:
        who, steward = self._who(served), self._ring.parties.get(served.steward)
        if steward is None or steward.kind != "member":
            return LackOfRight("a patient registered with a steward that is no member")
        if who is None or not keeps_records_for(who, steward.did):
            return LackOfRight("a patient registered by somebody who does not act for the steward")
        return None

    def _of_act(
        self, act: Act, served: Served, *, about: str | None, names: str | None = None
    ) -> LackOfRight | None:
        """Return None if the act is permitted; `names` is an id that begins with the patient's."""
        if names is not None and not names.startswith(served.patient.removeprefix("urn:uuid:") + "."):
            return LackOfRight(f"{act}: what it names is another patient's")
        who, patient = self._who(served), self._patient(served.patient)
        if who is None:
            return LackOfRight(f"{act}: who asked is not registered")
        relation = relation_to(who, linked=patient.linked, steward=patient.steward)
        permission = permission_of(act, who, about=about, relation=relation)
        if permission is Permission.GIVEN:
            return None
        unknown = relation is Relation.OTHER and patient.steward is None
        return LackOfRight(f"{act}: {_sentence(act, permission)}", missing=STORAGE_TOPIC if unknown else None)

    def _of_review(self, served: ServedReview) -> LackOfRight | None:
        principal = self._emergencies.get((served.patient, served.decision))
        if principal is None:
            return LackOfRight(f"{Act.REVIEW}: the patient had none of that id")
        return self._of_act(Act.REVIEW, served, about=principal)

    def of_emergency(self, served: ServedDecision) -> LackOfRight | None:
        """Return why an emergency access should not have been allowed: it is told first."""
        if not (served.allowed and served.break_glass):
            return None
        if self._emergencies.get((served.patient, served.decision)) != served.by:
            return LackOfRight("an emergency access that nobody was told of")
        return None


def _sentence(act: Act, permission: Permission) -> str:
    if permission is Permission.OWN:
        return "it is about who asked"
    return f"who asked had no right to it ({objection(act, permission)})"
