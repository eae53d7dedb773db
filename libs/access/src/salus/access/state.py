"""What the network knows of a patient's wishes, and how each event changes it. Pure.

One aggregate is one patient, named by her pseudonym: her consents and prohibitions, the epoch that makes
older decision tokens void, the parties that are she, and the emergency accesses that await review. Which
policies are in force is an aggregate of its own, named by the DID of the consent service.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from salus.access.cases import Case, evolve_cases
from salus.access.emergencies import GlassBreak, evolve_emergencies
from salus.access.policy_files import contents_of, digest_of
from salus.access.prohibitions import Prohibition, after_lifting, after_prohibition
from salus.events.contexts.consent import (
    Action,
    ConsentGranted,
    ConsentRevoked,
    GlassBreakReviewed,
    GlassBroken,
    PatientLinked,
    PatientUnlinked,
    PolicyFile,
    PolicySetActivated,
    PolicySetAdopted,
    PolicySetProposed,
)
from salus.events.contexts.consent_oversight import CaseDecided, CaseOpened, ReviewOverdue
from salus.events.contexts.consent_prohibitions import AccessProhibited, ProhibitionLifted
from salus.events.contexts.storage import SubjectErased, SubjectRegistered
from salus.events.epochs import next_epoch
from salus.events.event_types import EventData
from salus.events.fields import Purpose
from salus.events.recipients import Recipient, RecipientRole

# Policy sets that were in force and can be again; the ledger has all of them.
EARLIER_MAX = 32
PROPOSED_OF_OPERATOR_MAX = 4


class Consent(msgspec.Struct, frozen=True, omit_defaults=True):
    """One consent; once revoked it stays, with the epoch that its revocation began.

    With a role it is to those who hold it at the grantee, a member.
    """

    id: str
    grantee: str
    actions: tuple[Action, ...]
    purposes: tuple[Purpose, ...]
    valid_from: datetime
    valid_until: datetime
    revoked_epoch: int | None = None
    role: RecipientRole | None = None

    @property
    def recipient(self) -> Recipient:
        """To whom it is."""
        return Recipient(self.grantee, self.role)

    def is_active(self, at: datetime) -> bool:
        """Tell whether it allows anything at that moment."""
        return self.revoked_epoch is None and self.valid_from <= at < self.valid_until


class ProposedSet(msgspec.Struct, frozen=True):
    """The digest of a policy set that waits for its activation, and who proposed it."""

    policy_set: str
    by: str


class PolicyState(msgspec.Struct, frozen=True, omit_defaults=True):
    """Which policy set is in force, by its digest, and which may be; empty: none yet.

    `contract` is the digest of the code that was adopted last. `version` counts the sets that were in force,
    `earlier` has the last of them, the latest first. Their texts are states of their own (`PolicyText`), for
    this one is read for each decision.
    """

    policy_set: str = ""
    contract: str = ""
    version: int = 0
    proposed: tuple[ProposedSet, ...] = ()
    earlier: tuple[str, ...] = ()

    def may_follow(self, policy_set: str) -> bool:
        """Tell whether a set was proposed, or in force before, and is not in force."""
        known = (*self.earlier, *(proposal.policy_set for proposal in self.proposed))
        return policy_set in known and policy_set != self.policy_set

    def is_followed_by(self, event: PolicySetActivated) -> bool:
        """Tell whether an activation is of a set that may follow, and of just what is in force here."""
        is_next = (event.replaces, event.version) == (self.policy_set, self.version + 1)
        return is_next and self.may_follow(event.policy_set)


class PolicyText(msgspec.Struct, frozen=True, omit_defaults=True):
    """The files of the policy set of that digest; empty: nobody stated them yet."""

    policy_set: str = ""
    files: tuple[PolicyFile, ...] = ()


class PatientState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the network knows of one patient's wishes."""

    epoch: int = 0
    consents: tuple[Consent, ...] = ()
    dids: tuple[str, ...] = ()
    glass_breaks: tuple[GlassBreak, ...] = ()
    cases: tuple[Case, ...] = ()
    prohibitions: tuple[Prohibition, ...] = ()


class SubjectState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What storage says of a patient: who stewards her record, and whether it was erased."""

    steward: str | None = None
    erased: bool = False


def evolve(state: PatientState, event: EventData) -> PatientState:  # noqa: PLR0911  # one per fact
    """Return the patient after the event; an event that cannot apply changes nothing."""
    change = msgspec.structs.replace
    match event:
        case ConsentGranted() if all(consent.id != event.consent for consent in state.consents):
            kept = tuple(consent for consent in state.consents if consent.id != event.displaces)
            return change(state, consents=(*kept, consent_of(event)))
        case ConsentRevoked():
            epoch = next_epoch(state.epoch, event.epoch)
            consents = tuple(_revoked(c, epoch) if c.id == event.consent else c for c in state.consents)
            return change(state, consents=consents, epoch=epoch)
        case PatientLinked() if event.did not in state.dids:
            return change(state, dids=tuple(sorted((*state.dids, event.did))))
        case PatientUnlinked():
            dids = tuple(did for did in state.dids if did != event.did)
            return change(state, dids=dids, epoch=next_epoch(state.epoch, event.epoch))
        case AccessProhibited() if not is_listed(state, event.prohibition):
            prohibitions = after_prohibition(state.prohibitions, event)
            return change(state, prohibitions=prohibitions, epoch=next_epoch(state.epoch, event.epoch))
        case ProhibitionLifted():
            return change(state, prohibitions=after_lifting(state.prohibitions, event))
        case _:
            return _with_awaited(state, event)


def _with_awaited(state: PatientState, event: EventData) -> PatientState:
    """Return the patient after an event about what waits for a person, or waited."""
    broken, cases = state.glass_breaks, state.cases
    if isinstance(event, GlassBroken | GlassBreakReviewed | ReviewOverdue):
        broken = evolve_emergencies(broken, event)
    if isinstance(event, CaseOpened | CaseDecided | ReviewOverdue):
        cases = evolve_cases(cases, event)
    if (broken, cases) == (state.glass_breaks, state.cases):
        return state
    return msgspec.structs.replace(state, glass_breaks=broken, cases=cases)


def is_listed(state: PatientState, name: str) -> bool:
    """Tell whether a consent or a prohibition of that id is listed."""
    return any(one.id == name for one in state.consents) or any(one.id == name for one in state.prohibitions)


def evolve_policies(state: PolicyState, event: EventData) -> PolicyState:
    """Return which policies are in force after an event.

    What a service adopts is in force only if nothing was: with its key alone nobody changes the policies.
    """
    change = msgspec.structs.replace
    match event:
        case PolicySetAdopted() if not state.policy_set:
            first, left = event.policy_set, _without(event.policy_set, state.proposed)
            return change(state, policy_set=first, contract=event.contract, version=1, proposed=left)
        case PolicySetAdopted():
            return change(state, contract=event.contract)
        case PolicySetProposed() if is_of_its_files(event) and event.policy_set != state.policy_set:
            return change(state, proposed=_with_proposal(state.proposed, event))
        case PolicySetActivated() if state.is_followed_by(event):
            left = _without(event.policy_set, state.proposed)
            earlier = (state.policy_set, *(one for one in state.earlier if one != event.policy_set))
            return change(
                state,
                policy_set=event.policy_set,
                version=state.version + 1,
                proposed=left,
                earlier=earlier[:EARLIER_MAX],
            )
        case _:
            return state


def evolve_text(state: PolicyText, event: EventData) -> PolicyText:
    """Return the files of a policy set after an event; only those that its digest is of are believed."""
    if isinstance(event, PolicySetAdopted | PolicySetProposed) and event.policy_set == state.policy_set:
        return PolicyText(state.policy_set, event.files) if is_of_its_files(event) else state
    return state


def is_of_its_files(event: PolicySetAdopted | PolicySetProposed) -> bool:
    """Tell whether an event has files, each of another name, and its digest is of them."""
    names = {file.name for file in event.files}
    return len(names) == len(event.files) > 0 and digest_of(contents_of(event.files)) == event.policy_set


def _without(policy_set: str, proposed: tuple[ProposedSet, ...]) -> tuple[ProposedSet, ...]:
    return tuple(other for other in proposed if other.policy_set != policy_set)


def _with_proposal(proposed: tuple[ProposedSet, ...], event: PolicySetProposed) -> tuple[ProposedSet, ...]:
    """Return what is proposed after a proposal; of one operator's the oldest makes room."""
    if any(other.policy_set == event.policy_set for other in proposed):
        return proposed
    by = event.request.by
    own = [other for other in proposed if other.by == by]
    dropped = own[: max(0, len(own) + 1 - PROPOSED_OF_OPERATOR_MAX)]
    return (*(other for other in proposed if other not in dropped), ProposedSet(event.policy_set, by))


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


def consent_of(event: ConsentGranted) -> Consent:
    """Return the consent that was granted."""
    return Consent(
        id=event.consent,
        grantee=event.grantee,
        actions=event.actions,
        purposes=event.purposes,
        valid_from=event.valid_from,
        valid_until=event.valid_until,
        role=event.role,
    )


def _revoked(consent: Consent, epoch: int) -> Consent:
    first = epoch if consent.revoked_epoch is None else consent.revoked_epoch
    return msgspec.structs.replace(consent, revoked_epoch=first)
