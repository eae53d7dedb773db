"""Orders the effects of consent: gather facts, let the contract or the policies decide, publish, answer."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from functools import partial

import structlog

from salus.access.actors import Actor, Asking
from salus.access.decisions import (
    patients_among,
)
from salus.access.state import Consent, PatientState, PolicyState, SubjectState, consent_of
from salus.consent.domain.consents import (
    Command,
    Grant,
    Link,
    Revoke,
    Term,
    Unlink,
    decide,
    differing_terms,
    found_consent,
    require_in_force,
)
from salus.consent.domain.policies import Founding, adopt
from salus.consent.domain.prohibitions import Forbid, require_recipient
from salus.consent.domain.rights import visible_consents
from salus.consent.ports import World
from salus.contracts.contract import NameTakenError
from salus.contracts.rules import RulesHost
from salus.contracts.rules import adopt as state_rules
from salus.events.contexts.consent import ConsentGranted
from salus.events.contexts.identity import PartyKind
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing
from salus.runtime.auth import party_that_signed
from salus.runtime.refusal import Refusal

_log = structlog.get_logger()


async def execute(command: Command, *, actor: Asking, at: datetime, world: World) -> EventData:
    """Execute one command on its patient, and return the event once it has taken effect.

    A crash after publishing leaves an event that is folded on the next start; the caller, who got no
    answer, finds its command done when it repeats it. A command waits for others on the same patient: who
    asks, with which key and roles, and whom it names, is looked up when its turn has come. Raises Refusal, or
    ProblemError 409 `conflict`, or 429 if the account gave too many commands.
    """
    revokes = isinstance(command, Revoke | Unlink | Forbid)
    (world.limits.revocations if revokes else world.limits.commands).take(actor)
    subject = SubjectState()

    async def look() -> tuple[PatientState, int]:
        nonlocal subject
        known = await world.facts.facts_to_change(command.patient)
        subject = known.subject
        return known.state, known.version

    async def decided(state: PatientState) -> EventData:
        ring = await world.ring.catch_up()
        # It may have waited: what ended meanwhile, a key above all, has ended.
        turn = max(at, world.now())
        asking, asked = as_known(actor, ring, at=turn), _as_found(command, ring)
        return decide(state, asked, actor=asking, subject=subject, at=turn)

    if world.patients.has_turns(command.patient) or world.queues.has_any("command", command.patient):
        # Who may not is refused at once, and keeps nobody waiting. Who may is asked again in their turn.
        await decided((await look())[0])
    async with nullcontext() if revokes else world.queues.of("command", command.patient):
        return await world.patients.execute(command.patient, decided, look=look)


async def grant(command: Grant, *, actor: Asking, at: datetime, repeatable: bool, world: World) -> Consent:
    """Grant a consent and return it.

    If the command is `repeatable` (its id was derived from the caller's Idempotency-Key), a second time
    finds the first's consent, if it stands.

    Raises:
        Refusal: as `execute`; `consent-revoked` or `consent-over` if the first's does not stand any more;
            `idempotency-key-reused` if that was another consent, or one that is listed no longer.
    """
    try:
        event = await execute(command, actor=actor, at=at, world=world)
        assert isinstance(event, ConsentGranted)  # noqa: S101  # it is what a grant becomes
        return consent_of(event)
    except (Refusal, NameTakenError) as refusal:
        if refusal.code not in {"consent-exists", "name-taken"} or not repeatable:
            raise
    known = await world.facts.facts(command.patient)
    consent = next((c for c in known.state.consents if c.id == command.consent), None)
    if consent is None or await found_granted(consent, command, at=at, world=world):
        why = "the key was used for another consent, or for one that is over and listed no longer"
        raise Refusal("idempotency-key-reused", why, status=422)
    return consent


async def found_granted(consent: Consent, command: Grant, *, at: datetime, world: World) -> tuple[Term, ...]:
    """Return in what a consent that is there already is not what is asked for; none: it is done.

    Raises:
        Refusal: `consent-revoked` or `consent-over` if it does not stand; `grantee-differs`,
            `role-without-member` or `unknown-grantee` if its grantee is not what the asker takes it for.
    """
    if not (differing := differing_terms(consent, command, at=at)):
        require_in_force(consent, at=at)
        ring = await world.ring.catch_up()
        kind = kind_of(command.grantee, ring)
        require_recipient(kind, expected=command.expected_kind, role=command.role)
    return differing


async def read_consent(patient: str, consent: str, *, actor: Actor, world: World) -> Consent:
    """Return a consent that is the actor's business; to everybody else there is none of that id."""
    known = await world.facts.facts(patient)
    found = found_consent(known.state, consent)
    if found not in visible_consents(actor, known.state, known.subject):
        raise Refusal("unknown-consent", "there is no such consent", status=404)
    return found


async def adopt_policies(founding: Founding, *, service: str, host: RulesHost[PolicyState]) -> bool:
    """State the code that decides from here on, and a first policy set; return whether that was new."""
    is_new = await state_rules(host, partial(adopt, founding=founding, service=service), service=service)
    if is_new:
        _log.info("rules were adopted", contract=founding.contract, first=founding.policy_set)
    return is_new


def _as_found(command: Command, ring: KeyRing) -> Command:
    """Return the command with what the ring says now of the party that it names."""
    match command:
        case Grant():
            return replace(command, grantee_kind=kind_of(command.grantee, ring))
        case Forbid():
            return replace(command, party_kind=kind_of(command.party, ring))
        case Link():
            return replace(command, is_patient=bool(patients_among((command.did,), ring.parties)))
        case _:
            return command


def kind_of(did: str | None, ring: KeyRing) -> PartyKind | None:
    """Return as what a party is registered; None: nobody of that DID is."""
    party = None if did is None else ring.parties.get(did)
    return None if party is None else party.kind


def as_known(actor: Asking, ring: KeyRing, *, at: datetime) -> Asking:
    """Return who asks, with what the ring says of them now; raises Refusal if their key signs no more."""
    party = party_that_signed(actor.did, actor.request, ring, at=at)
    return replace(actor, kind=party.kind, roles=party.roles, member=party.member)
