"""The law of consent: who may grant, take back and review, and what a decision is asked about. Pure.

One aggregate is one patient, named by her pseudonym: her consents, the epoch that makes older decision
tokens void, the parties that are she, and the emergency accesses that await review. Which policies are in
force is an aggregate of its own, named by the DID of the consent service.

The ids of consents and decisions begin with the patient's UUID, so that finding one needs no index.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from salus.events.catalogue import (
    Action,
    ConsentGranted,
    ConsentRevoked,
    EventData,
    GlassBreakReviewed,
    GlassBroken,
    PatientLinked,
    PolicySetAdopted,
    Purpose,
    SubjectKeyDestroyed,
    SubjectRegistered,
)
from salus.events.requests import Request
from salus.runtime.refusal import Refusal

CONSENT_DAYS_MAX = 3660
CONSENTS_MAX = 1000
LINKS_MAX = 8
BreakReason = Literal["life-threatening", "unable-to-consent", "public-health", "other"]
Outcome = Literal["justified", "unjustified"]

_ID = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.[0-9a-f]{8,32}")


class Consent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One consent; once revoked it stays, with the epoch that its revocation began."""

    id: str
    grantee: str
    actions: tuple[Action, ...]
    purposes: tuple[Purpose, ...]
    valid_from: datetime
    valid_until: datetime
    revoked_epoch: int | None = None

    def is_active(self, at: datetime) -> bool:
        """Tell whether it allows anything at that moment."""
        return self.revoked_epoch is None and self.valid_from <= at < self.valid_until


class GlassBreak(msgspec.Struct, frozen=True, omit_defaults=True):
    """An emergency access and what became of it."""

    decision: str
    principal: str
    outcome: Outcome | None = None


class PolicyState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The digests of the policy set and of the contract's code that were adopted last; empty: none yet."""

    policy_set: str = ""
    contract: str = ""


class PatientState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the network knows of one patient's wishes."""

    epoch: int = 0
    consents: tuple[Consent, ...] = ()
    dids: tuple[str, ...] = ()
    glass_breaks: tuple[GlassBreak, ...] = ()


class SubjectState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What storage says of a patient: who stewards her record, and whether it was erased."""

    steward: str | None = None
    erased: bool = False


@dataclass(frozen=True)
class Actor:
    """Who asks: an authenticated party."""

    did: str
    kind: str
    roles: frozenset[str]
    member: str | None


@dataclass(frozen=True)
class Asking(Actor):
    """Who gives a command, with what they signed."""

    request: Request


@dataclass(frozen=True)
class Grant:
    """Let someone act on a patient's data. `grantee_known` tells whether the grantee is registered."""

    consent: str
    patient: str
    grantee: str
    grantee_known: bool
    actions: tuple[Action, ...]
    purposes: tuple[Purpose, ...]
    valid_from: datetime
    valid_until: datetime


@dataclass(frozen=True)
class Revoke:
    """Take a consent back."""

    consent: str
    patient: str


@dataclass(frozen=True)
class Link:
    """Say that a party is the patient. `is_patient` tells whether the party holds the role patient."""

    patient: str
    did: str
    is_patient: bool


@dataclass(frozen=True)
class Review:
    """Judge an emergency access."""

    decision: str
    patient: str
    outcome: Outcome


Command = Grant | Revoke | Link | Review


def decide(
    state: PatientState, command: Command, *, actor: Asking, subject: SubjectState, at: datetime
) -> EventData:
    """Return the event that the command becomes.

    Raises:
        Refusal: with one of the codes not-permitted, unknown-patient, patient-erased, consent-exists,
            unknown-grantee, invalid-period, unknown-consent, consent-revoked, too-many, already-linked,
            not-a-patient, unknown-glass-break, already-reviewed, own-access.
    """
    match command:
        case Grant():
            return _grant(state, command, actor=actor, subject=subject, at=at)
        case Revoke():
            _require_speaks_for(actor, state, subject)
            if found_consent(state, command.consent).revoked_epoch is not None:
                raise Refusal("consent-revoked", "the consent was taken back already")
            return ConsentRevoked(
                consent=command.consent,
                patient=command.patient,
                epoch=state.epoch + 1,
                request=actor.request,
            )
        case Link():
            return _link(state, command, actor=actor, subject=subject)
        case Review():
            return _review(state, command, actor=actor, subject=subject)


def adopt(state: PolicyState, version: PolicyState, *, service: str) -> PolicySetAdopted:
    """Return the event by which a service, named by its DID, puts a policy set and code into force.

    Raises:
        Refusal: `already-adopted`.
    """
    if state == version:
        raise Refusal("already-adopted", "this policy set and this code are in force")
    return PolicySetAdopted(
        policy_set=version.policy_set, contract=version.contract, request=Request.of_service(service)
    )


def evolve(state: PatientState, event: EventData) -> PatientState:
    """Return the patient after the event; an event that cannot apply changes nothing."""
    change = msgspec.structs.replace
    match event:
        case ConsentGranted() if all(consent.id != event.consent for consent in state.consents):
            # The epoch never goes back, whatever a faulty event says.
            return change(
                state, consents=(*state.consents, _consent(event)), epoch=max(state.epoch, event.epoch)
            )
        case ConsentRevoked():
            epoch = max(state.epoch, event.epoch)
            consents = tuple(_revoked(c, epoch) if c.id == event.consent else c for c in state.consents)
            return change(state, consents=consents, epoch=epoch)
        case PatientLinked() if event.did not in state.dids:
            return change(state, dids=tuple(sorted((*state.dids, event.did))))
        case GlassBroken() | GlassBreakReviewed():
            return change(state, glass_breaks=_glass_breaks(state.glass_breaks, event))
        case _:
            return state


def evolve_policies(state: PolicyState, event: EventData) -> PolicyState:
    """Return which policies are in force after an event."""
    if isinstance(event, PolicySetAdopted):
        return PolicyState(policy_set=event.policy_set, contract=event.contract)
    return state


def evolve_subject(state: SubjectState, event: EventData) -> SubjectState:
    """Return what is known of a patient's record after an event of storage; the first steward stays."""
    match event:
        case SubjectRegistered() if state.steward is None:
            return msgspec.structs.replace(state, steward=event.steward)
        case SubjectKeyDestroyed():
            return msgspec.structs.replace(state, erased=True)
        case _:
            return state


def patient_of(identifier: str) -> str:
    """Return the pseudonym that a consent's or decision's id begins with; raises Refusal `unknown-id`."""
    match = _ID.fullmatch(identifier)
    if match is None:
        raise Refusal("unknown-id", "nothing has an id of that form", status=404)
    return f"urn:uuid:{match[1]}"


def identifier_under(patient: str, *, suffix: str) -> str:
    """Return an id that begins with the patient's UUID; `suffix` is 8 to 32 hex digits, random or derived."""
    return f"{patient.removeprefix('urn:uuid:')}.{suffix}"


def found_consent(state: PatientState, consent: str) -> Consent:
    """Return a consent of the patient; raises Refusal `unknown-consent`."""
    for candidate in state.consents:
        if candidate.id == consent:
            return candidate
    raise Refusal("unknown-consent", "there is no such consent", status=404)


def active_consents(state: PatientState, *, at: datetime) -> tuple[Consent, ...]:
    """Return the consents that allow something at that moment."""
    return tuple(consent for consent in state.consents if consent.is_active(at))


def visible_consents(actor: Actor, state: PatientState, subject: SubjectState) -> tuple[Consent, ...]:
    """Return the consents that are the actor's business.

    The patient, her steward and its privacy officers see all; a grantee sees what was granted to it or to
    the member it acts for.
    """
    if sees_all(actor, state, subject):
        return state.consents
    own = {actor.did, actor.member}
    return tuple(consent for consent in state.consents if consent.grantee in own)


def sees_all(actor: Actor, state: PatientState, subject: SubjectState) -> bool:
    """Tell whether the actor is the patient, or acts for her steward."""
    return actor.did in state.dids or _stewards(actor, subject)


def same_grant(consent: Consent, command: Grant) -> bool:
    """Tell whether a consent is what the command would have granted: how a repeated command is known."""
    return (
        consent.grantee == command.grantee
        and set(consent.actions) == set(command.actions)
        and set(consent.purposes) == set(command.purposes)
        and consent.valid_until == command.valid_until
    )


def _grant(
    state: PatientState, command: Grant, *, actor: Asking, subject: SubjectState, at: datetime
) -> ConsentGranted:
    _require_speaks_for(actor, state, subject)
    if subject.erased:
        raise Refusal("patient-erased", "the patient's record is gone; there is nothing to consent to")
    if any(consent.id == command.consent for consent in state.consents):
        raise Refusal("consent-exists", "a consent of this id was granted already")
    if len(state.consents) >= CONSENTS_MAX:
        raise Refusal("too-many", f"a patient has at most {CONSENTS_MAX} consents")
    if not command.grantee_known:
        raise Refusal("unknown-grantee", "no party with the grantee's DID is registered", status=422)
    if not max(command.valid_from, at) < command.valid_until:
        raise Refusal("invalid-period", "the consent ends before it begins, or is over already", status=422)
    if command.valid_until - command.valid_from > timedelta(days=CONSENT_DAYS_MAX):
        raise Refusal("invalid-period", f"a consent lasts {CONSENT_DAYS_MAX} days at most", status=422)
    return ConsentGranted(
        consent=command.consent,
        patient=command.patient,
        grantee=command.grantee,
        actions=tuple(sorted(set(command.actions))),
        purposes=tuple(sorted(set(command.purposes))),
        valid_from=command.valid_from,
        valid_until=command.valid_until,
        epoch=state.epoch,
        request=actor.request,
    )


def _link(state: PatientState, command: Link, *, actor: Asking, subject: SubjectState) -> PatientLinked:
    # Only the steward, who knows the person behind the pseudonym, can say who she is; she herself cannot.
    _require_known(subject)
    if not _stewards(actor, subject):
        raise Refusal("not-permitted", "only the patient's steward says which party she is", status=403)
    if not command.is_patient:
        raise Refusal("not-a-patient", "the party is not registered with the role patient", status=422)
    if command.did in state.dids:
        raise Refusal("already-linked", "this party is known to be the patient already")
    if len(state.dids) >= LINKS_MAX:
        raise Refusal("too-many", f"a patient has at most {LINKS_MAX} parties")
    return PatientLinked(patient=command.patient, did=command.did, request=actor.request)


def _review(
    state: PatientState, command: Review, *, actor: Asking, subject: SubjectState
) -> GlassBreakReviewed:
    broken = next((b for b in state.glass_breaks if b.decision == command.decision), None)
    if "privacy-officer" not in actor.roles or actor.member != subject.steward:
        raise Refusal("not-permitted", "a privacy officer of the patient's steward reviews", status=403)
    if broken is None:
        raise Refusal("unknown-glass-break", "no emergency access has this decision id", status=404)
    if broken.principal == actor.did:
        raise Refusal("own-access", "nobody reviews their own emergency access", status=403)
    if broken.outcome is not None:
        raise Refusal("already-reviewed", "the emergency access was reviewed already")
    return GlassBreakReviewed(
        decision=command.decision,
        patient=command.patient,
        reviewer=actor.did,
        outcome=command.outcome,
        request=actor.request,
    )


def _require_known(subject: SubjectState) -> None:
    if subject.steward is None:
        raise Refusal("unknown-patient", "no record was registered under this pseudonym", status=404)


def _require_speaks_for(actor: Actor, state: PatientState, subject: SubjectState) -> None:
    if actor.did in state.dids:
        return
    _require_known(subject)
    if not _stewards(actor, subject):
        raise Refusal("not-permitted", "neither the patient nor her steward", status=403)


def _stewards(actor: Actor, subject: SubjectState) -> bool:
    """A steward acts through its own key, or through its privacy officers; its other people do not."""
    if subject.steward is None:
        return False
    officer = actor.member == subject.steward and "privacy-officer" in actor.roles
    return officer or (actor.kind == "member" and actor.did == subject.steward)


def _consent(event: ConsentGranted) -> Consent:
    return Consent(
        id=event.consent,
        grantee=event.grantee,
        actions=event.actions,
        purposes=event.purposes,
        valid_from=event.valid_from,
        valid_until=event.valid_until,
    )


def _revoked(consent: Consent, epoch: int) -> Consent:
    first = epoch if consent.revoked_epoch is None else consent.revoked_epoch
    return msgspec.structs.replace(consent, revoked_epoch=first)


def _glass_breaks(
    known: tuple[GlassBreak, ...], event: GlassBroken | GlassBreakReviewed
) -> tuple[GlassBreak, ...]:
    if isinstance(event, GlassBreakReviewed):
        return tuple(_reviewed(broken, event) for broken in known)
    if any(broken.decision == event.decision for broken in known):
        return known
    return (*known, GlassBreak(decision=event.decision, principal=event.principal))


def _reviewed(broken: GlassBreak, event: GlassBreakReviewed) -> GlassBreak:
    if broken.decision != event.decision or broken.outcome is not None:
        return broken
    return msgspec.structs.replace(broken, outcome=event.outcome)
