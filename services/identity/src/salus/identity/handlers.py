"""Orders the effects of identity's commands: gather facts, let the contract decide, publish, wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import structlog

from salus.events.contexts.identity import KeyAdded, PartyRegistered, PublicKey, key_claim, party_claim
from salus.events.entitlement import objection_to_keys
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing
from salus.events.membership import Membership
from salus.events.requests import Request
from salus.events.rights import Actor
from salus.identity.domain import AddKey, Command, PartyState, Register, RevokeKey, WithdrawRole, decide
from salus.identity.logins import end_session, require_key_of_party
from salus.identity.ports import World
from salus.runtime.auth import party_that_signed
from salus.runtime.network import FoundingParty, Network
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal, require

# Within what time of its decision an event is stated.
STATED_WITHIN = timedelta(seconds=30)

_log = structlog.get_logger()


async def execute(  # noqa: PLR0913  # what a command goes by
    command: Command,
    *,
    did: str,
    actor: Actor,
    now: Callable[[], datetime],
    world: World,
    count: Callable[[], None] = lambda: None,
) -> EventData:
    """Execute one command on one party, and return the event once it has taken effect.

    `count` is called once the contract has said yes: so who has no right, or names a party that does not
    exist, uses up no limit and leaves no name in it. It raises ProblemError if there are too many.

    A crash after publishing leaves an event that is folded on the next start; the caller, who got no
    answer, finds its command done when it repeats it. Raises Refusal, or ProblemError 409 `conflict`.
    """
    if isinstance(command, Register) and command.member is not None:
        command = replace(command, organisation=await world.parties.state(command.member))
    ring = await world.ring.catch_up()
    if isinstance(command, Register):
        command = replace(command, lookalike=is_lookalike(did, ring))

    def rule(state: PartyState) -> EventData:
        # It may have waited, and it may be asked again: who asks is looked up as the ring has it then.
        at = now()
        asking = actor if actor.founding else as_known(actor, ring, at=at)
        operators = ring.operators(at=at)
        kind = command.kind if isinstance(command, Register) else state.kind
        if isinstance(command, RevokeKey) and command.key_id in ring.logins.keys:
            logins = ring.logins
            return end_session(state, command, actor=asking, operators=operators, logins=logins, at=at)
        event = decide(
            state,
            command,
            actor=asking,
            at=at,
            catalogue=ring.types.catalogue_for(kind),
            held_elsewhere=held_keys(command, did, ring),
            operators=operators,
            membership=membership_of(command, did, ring),
        )
        if not actor.founding:
            require_key_of_party(event, ring.logins)
            # network.json vouches for those whom it names.
            require_possession(command, event, state=state, network=ring.network, at=at)
        return event

    # Who may not is refused before it waits.
    rule(await world.parties.state(did))
    count()
    if isinstance(command, RevokeKey | WithdrawRole):
        return await world.parties.execute(did, rule)
    async with world.queues.of("command", did):
        return await world.parties.execute(did, rule)


def as_known(actor: Actor, ring: KeyRing, *, at: datetime) -> Actor:
    """Return who asks as the ring has them now; raises a Refusal if a key that signed it has ended."""
    party = party_that_signed(actor.did, actor.request, ring, at=at)
    if actor.second is not None and actor.request.approval is not None:
        approved = msgspec.structs.replace(actor.request, proof=actor.request.approval)
        party_that_signed(actor.second, approved, ring, at=at)
    return replace(actor, kind=party.kind, roles=party.roles, member=party.member)


async def registered(did: str, *, world: World) -> PartyState:
    """Return a party that exists; raises Refusal `unknown-party`."""
    state = await world.parties.state(did)
    if not state.did:
        raise Refusal("unknown-party", "no party with that DID is registered", status=404)
    return state


async def found_network(network: Network, *, at: datetime, world: World) -> int:
    """Register the parties of network.json that are not registered yet; return how many were new.

    Any number of replicas may do this at once and again: each party's first event wins, the rest find it
    there. A crash in between leaves fewer parties; the next start registers the others.
    """
    root = network.root.did
    asked = Request.of_service(root)
    actor = Actor(did=root, kind="service", roles=frozenset({"identity"}), request=asked, founding=True)
    new = 0
    for did, command in founding_commands(network).items():
        if (await world.parties.state(did)).did:
            continue
        try:
            await execute(command, did=did, actor=actor, now=lambda: at, world=world)
            new += 1
        except Refusal as refusal:
            if refusal.code != "party-exists":
                raise
        except ProblemError as problem:
            if problem.code != "conflict":
                raise
    _log.info("the founding parties are registered", new=new)
    return new


def founding_commands(network: Network) -> dict[str, Register]:
    """Return, by DID, how each founding party registers: root, services, then the first operators."""
    commands = {
        network.root.did: _founding(network.root, Register(network.root.did, "service", (), ("identity",)))
    }
    for role, party in network.services.items():
        if party.did not in commands:
            commands[party.did] = _founding(party, Register(party.did, "service", (), (role,), name=role))
    for party in network.founders:
        commands.setdefault(party.did, _founding(party, Register(party.did, party.kind, (), party.roles)))
    return commands


def _founding(party: FoundingParty, command: Register) -> Register:
    name = party.name or command.name or ("identity" if command.roles == ("identity",) else None)
    return replace(command, keys=(party.key,), name=name if command.kind != "person" else None)


def require_possession(
    command: Command, event: EventData, *, state: PartyState, network: str, at: datetime
) -> None:
    """Raise a Refusal `key-not-proven` unless a proof came with every key that the event lets sign.

    The event is stated a moment later, and a proof that would have ended by then is none to anybody.
    """
    match command, event:
        case Register(), PartyRegistered():
            keys, member = event.keys, command.member
        case AddKey(), KeyAdded():
            keys, member = (event.key,), state.member
        case _:
            return
    for moment in (at, at + STATED_WITHIN):
        objection = objection_to_keys(
            event.did, keys, proofs=command.proofs, member=member, network=network, at=moment
        )
        require(objection, status=422)


def membership_of(command: Command, did: str, ring: KeyRing) -> Membership:
    """Return the standing of the member that a command's party is, acts for, or would act for."""
    if isinstance(command, Register):
        return Membership.ACTIVE if command.member is None else ring.memberships.now(command.member)
    return ring.membership_of(did) if did in ring.parties else Membership.ACTIVE


def is_lookalike(did: str, ring: KeyRing) -> bool:
    """Tell whether another DID is registered that is the same once both are decoded."""
    return did not in ring.parties and party_claim(did) in ring.claims


def held_keys(command: Command, did: str, ring: KeyRing) -> set[str]:
    """Return which public keys of a command on a party another one has, or had, in multibase.

    The ring may be ahead of the state that is decided on: what the party itself has there is no other's.
    """
    foreign = (key for key in _keys_of(command) if key.id not in ring.keys or ring.keys[key.id].did != did)
    return {key.multibase for key in foreign if key_claim(key.multibase) in ring.claims}


def _keys_of(command: Command) -> tuple[PublicKey, ...]:
    match command:
        case Register():
            return command.keys
        case AddKey():
            return (command.key,)
        case _:
            return ()
