"""What the network knows of a patient's wishes, and how each event changes it. Pure.

One aggregate is one patient, named by her pseudonym: her consents, the epoch that makes older decision
tokens void, the parties that are she, and the emergency accesses that await review. Which policies are in
force is an aggregate of its own, named by the DID of the consent service.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from salus.events.contexts.consent import (
    Action,
    ConsentGranted,
    ConsentRevoked,
    GlassBreakReviewed,
    GlassBroken,
    PatientLinked,
    PatientUnlinked,
    PolicySetAdopted,
)
from salus.events.contexts.storage import SubjectErased, SubjectRegistered
from salus.events.epochs import next_epoch
from salus.events.event_types import EventData
from salus.events.fields import Purpose

Outcome = Literal["justified", "unjustified"]
# Reviewed emergency accesses that are still listed; the ledger has all of them.
REVIEWED_MAX = 1000


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
    """An emergency access, by whom and for which member, and what became of it."""

    decision: str
    principal: str
    outcome: Outcome | None = None
    member: str | None = None

    @property
    def organisation(self) -> str:
        """The member that the principal acted for, or the principal itself."""
        return self.member or self.principal


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


def evolve(state: PatientState, event: EventData) -> PatientState:
    """Return the patient after the event; an event that cannot apply changes nothing."""
    change = msgspec.structs.replace
    match event:
        case ConsentGranted() if all(consent.id != event.consent for consent in state.consents):
            kept = tuple(consent for consent in state.consents if consent.id != event.displaces)
            return change(state, consents=(*kept, _consent(event)))
        case ConsentRevoked():
            epoch = next_epoch(state.epoch, event.epoch)
            consents = tuple(_revoked(c, epoch) if c.id == event.consent else c for c in state.consents)
            return change(state, consents=consents, epoch=epoch)
        case PatientLinked() if event.did not in state.dids:
            return change(state, dids=tuple(sorted((*state.dids, event.did))))
        case PatientUnlinked():
            dids = tuple(did for did in state.dids if did != event.did)
            return change(state, dids=dids, epoch=next_epoch(state.epoch, event.epoch))
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
        case SubjectErased():
            return msgspec.structs.replace(state, erased=True)
        case _:
            return state


def active_consents(state: PatientState, *, at: datetime) -> tuple[Consent, ...]:
    """Return the consents that allow something at that moment."""
    return tuple(consent for consent in state.consents if consent.is_active(at))


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
        return _listed(tuple(_reviewed(broken, event) for broken in known))
    if any(broken.decision == event.decision for broken in known):
        return known
    broken = GlassBreak(event.decision, event.principal, member=event.request.behalf)
    return (*known, broken)


def _reviewed(broken: GlassBreak, event: GlassBreakReviewed) -> GlassBreak:
    if broken.decision != event.decision or broken.outcome is not None:
        return broken
    return msgspec.structs.replace(broken, outcome=event.outcome)


def _listed(known: tuple[GlassBreak, ...]) -> tuple[GlassBreak, ...]:
    """Return all that await review, and the last REVIEWED_MAX of the others."""
    reviewed = [broken.decision for broken in known if broken.outcome is not None]
    old = set(reviewed[: max(0, len(reviewed) - REVIEWED_MAX)])
    return tuple(broken for broken in known if broken.decision not in old)
