"""The contract of storage: who may keep, read and erase what, as pure functions of facts.

Two kinds of aggregates are folded from the storage topic, patients (`SubjectState`, by pseudonym) and objects
(`ObjectState`, by object id), and one from the consent topic (`EpochState`, by pseudonym).
"""

from __future__ import annotations

import hashlib
from collections.abc import Container
from typing import Literal, get_args

import msgspec

from salus.contracts.decision import Attempt, Decision, require_decision
from salus.events.contexts.consent import ConsentRevoked, PatientUnlinked
from salus.events.contexts.consent_prohibitions import AccessProhibited
from salus.events.contexts.storage import ObjectStored, SubjectErased, SubjectKeyDestroyed, SubjectRegistered
from salus.events.envelope import Envelope
from salus.events.epochs import next_epoch
from salus.events.event_types import EventData
from salus.events.fields import Purpose, Sealed
from salus.events.parties import Party
from salus.events.patient_rights import keeps_records_for, may_erase
from salus.events.pseudonyms import pseudonym_of
from salus.events.requests import Request
from salus.runtime.refusal import Refusal

# What of consent takes a right away, so that decision tokens of before are void.
_TakesRights = ConsentRevoked | PatientUnlinked | AccessProhibited
Basis = Literal["gdpr-art-17", "retention-ended", "patient-request", "court-order"]
PURPOSES: frozenset[str] = frozenset(get_args(Purpose))


class SubjectState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A patient's key as the topic tells it; `patient` is empty before she is registered.

    It is `destroyed` some time after she was erased.
    """

    patient: str = ""
    steward: str = ""
    suite: str = ""
    key: str = ""
    public_key: str = ""
    objects: int = 0
    erased: Basis | None = None
    destroyed: bool = False


class ObjectState(msgspec.Struct, frozen=True, omit_defaults=True):
    """An object as the ledger commits to it; `object` is empty before it is stored."""

    object: str = ""
    patient: str = ""
    steward: str = ""
    media_type: str = ""
    plaintext_bytes: int = 0
    ciphertext_bytes: int = 0
    ciphertext_sha256: str = ""
    commitment: str = ""
    salt: Sealed | None = None
    stored_by: str = ""
    content_encoding: str = ""
    ciphertext_root: str = ""
    # The event that made it one, which its receipt is of.
    event_source: str = ""
    event_id: str = ""


class EpochState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A patient's consent epoch: decision tokens of an earlier one are void."""

    epoch: int = 0


def evolve_subject(state: SubjectState, data: EventData) -> SubjectState:
    """Fold one event into the patient it is about."""
    match data:
        case SubjectRegistered() if not state.patient:
            return SubjectState(
                patient=data.patient,
                steward=data.steward,
                suite=data.suite,
                key=data.key,
                public_key=data.public_key,
            )
        case ObjectStored() if state.patient and state.erased is None:
            return msgspec.structs.replace(state, objects=state.objects + 1)
        case SubjectErased() if state.key == data.key:
            return msgspec.structs.replace(state, erased=data.basis)
        case SubjectKeyDestroyed() if state.erased is not None and state.key == data.key:
            return msgspec.structs.replace(state, destroyed=True)
        case _:
            return state


def evolve_object(state: ObjectState, data: EventData) -> ObjectState:
    """Fold one event into the object it is about; the first object of an id is the one that counts."""
    if not isinstance(data, ObjectStored) or state.object:
        return state
    return ObjectState(
        object=data.object,
        patient=data.patient,
        steward=data.steward,
        media_type=data.media_type,
        plaintext_bytes=data.plaintext_bytes,
        ciphertext_bytes=data.ciphertext_bytes,
        ciphertext_sha256=data.ciphertext_sha256,
        commitment=data.commitment,
        salt=data.salt,
        stored_by=data.request.by,
        content_encoding=data.content_encoding or "",
        ciphertext_root=data.ciphertext_root or "",
    )


def object_with_event(state: ObjectState, envelope: Envelope) -> ObjectState:
    """Keep which event made it an object."""
    return msgspec.structs.replace(state, event_source=envelope.source, event_id=envelope.id)


def evolve_epoch(state: EpochState, data: EventData) -> EpochState:
    """Fold one event of consent; only what takes a right away moves the epoch."""
    if isinstance(data, _TakesRights):
        return EpochState(epoch=next_epoch(state.epoch, data.epoch))
    return state


def object_of(_: str, data: EventData) -> str | None:
    """Name the object that an event changes."""
    return object_name(data.patient, data.object) if isinstance(data, ObjectStored) else None


def object_name(patient: str, object: str) -> str:  # noqa: A002  # the catalogue's name
    """Return the name of an object's aggregate: an id is unique among a patient's objects."""
    return f"{patient}/{object}"


def patient_of_revocation(_: str, data: EventData) -> str | None:
    """Name the patient whose epoch an event of consent moves."""
    return data.patient if isinstance(data, _TakesRights) else None


def location_of(object: str, salt: Sealed) -> str:  # noqa: A002  # the catalogue's name
    """Return the key in the object store, a function of the event alone.

    The sealed salt is unique to one upload, so two uploads of one id never touch each other's bytes.
    """
    upload = hashlib.sha256(salt.ciphertext.encode()).hexdigest()[:32]
    return f"{object}/{upload}"


def made_pseudonym(steward: str, nonce: str, *, expected: str | None) -> str:
    """Return the pseudonym that a steward makes of a nonce; raises Refusal if another one is expected.

    Nobody finds a nonce that makes it of another DID: who reads a pseudonym on a topic cannot register it.
    """
    patient = pseudonym_of(steward, nonce)
    if expected not in (None, patient):
        raise Refusal(
            "not-the-pseudonym", "the steward's DID and the nonce make another pseudonym", status=422
        )
    return patient


def decide_registration(
    state: SubjectState, *, registration: SubjectRegistered, caller: Party, steward: Party | None
) -> SubjectRegistered:
    """Return the registration of a patient; raises Refusal.

    `steward` is the party of that DID, if the network knows it.
    """
    if steward is None or steward.kind != "member":
        raise Refusal("unknown-steward", "the steward is not a member organisation", status=422)
    if not keeps_records_for(caller, steward.did):
        raise Refusal("not-the-steward", "only the steward registers its patients", status=403)
    require_not_erased(state)
    if state.patient:
        raise Refusal("subject-exists", "the patient has a key already")
    return registration


def require_registered(state: SubjectState) -> None:
    """Raise Refusal unless the patient has, or had, a key."""
    if not state.patient:
        raise Refusal("unknown-subject", "no patient is registered under this pseudonym", status=404)


def require_not_erased(state: SubjectState) -> None:
    """Raise Refusal if the patient was erased."""
    if state.erased is not None:
        raise Refusal("subject-erased", "the patient was erased; her data is gone for ever", status=410)


def require_may_store(
    subject: SubjectState,
    *,
    object: str,  # noqa: A002  # the catalogue's name
    decision: Decision | None,
    attempt: Attempt,
) -> None:
    """Raise Refusal unless the caller acts for the steward, or was allowed to write this object."""
    require_registered(subject)
    require_not_erased(subject)
    if keeps_records_for(attempt.caller, subject.steward):
        return
    if decision is None:
        raise Refusal(
            "not-the-steward", "only the steward, or who holds a decision to write, stores here", status=403
        )
    require_decision(decision, action="write", object=object, patient=subject.patient, attempt=attempt)


def may_compare(stored: ObjectState, party: Party) -> bool:
    """Tell whether a party may learn if content is what is stored: who stored it, and the steward itself.

    Anybody else who may store under this id would learn what he has no right to read.
    """
    return party.did in {stored.stored_by, stored.steward}


def decide_storing(
    state: SubjectState, stored: ObjectStored, *, decision: Decision | None, attempt: Attempt
) -> ObjectStored:
    """Return the event that makes an upload an object; raises Refusal if the right to it ended meanwhile."""
    require_may_store(state, object=stored.object, decision=decision, attempt=attempt)
    return stored


def require_may_read(
    stored: ObjectState, subject: SubjectState, *, decision: Decision, attempt: Attempt
) -> None:
    """Raise Refusal unless the decision lets this caller read this object now."""
    require_not_erased(subject)
    require_decision(decision, action="read", object=stored.object, patient=stored.patient, attempt=attempt)


def require_may_open(
    subject: SubjectState, *, records: Container[str], decision: Decision, attempt: Attempt
) -> None:
    """Raise Refusal unless the decision lets this caller read what is sealed in an event about the patient.

    `records` are the names of what the event is about: its id, and the object that it names.
    """
    require_registered(subject)
    require_not_erased(subject)
    if decision.object not in records:
        raise Refusal("wrong-object", "the decision is about another event or object", status=403)
    require_decision(
        decision, action="read", object=decision.object, patient=subject.patient, attempt=attempt
    )


def require_may_erase(state: SubjectState, *, caller: Party) -> None:
    """Raise Refusal unless the caller is the steward itself, or its privacy officer."""
    require_registered(state)
    if not may_erase(caller, state.steward):
        raise Refusal(
            "may-not-erase", "only the steward or its privacy officer destroys a patient's key", status=403
        )


def decide_erasure(state: SubjectState, *, caller: Party, basis: Basis, request: Request) -> SubjectErased:
    """Return the erasure of a patient; raises Refusal."""
    require_may_erase(state, caller=caller)
    require_not_erased(state)
    return SubjectErased(
        patient=state.patient,
        key=state.key,
        requested_by=caller.did,
        basis=basis,
        objects=state.objects,
        request=request,
    )


def owed_destruction(state: SubjectState) -> tuple[str, ...]:
    """Name the key that an erasure obliges to destroy, until that is recorded."""
    return (state.key,) if state.erased is not None and not state.destroyed else ()


def destruction_of(state: SubjectState, key: str, *, request: Request) -> SubjectKeyDestroyed:
    """Return what is true once an erased patient's key is gone."""
    return SubjectKeyDestroyed(patient=state.patient, key=key, request=request)
