"""The law of identity: who may register whom, with which keys and roles. Pure; nothing here tells the time.

One aggregate is one party, named by its DID. `decide` says which event a command becomes, or refuses;
`evolve` says what an event changes. Both are total and deterministic, so that any replica, and anyone
with the topic alone, arrives at the same parties.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

import msgspec

from salus.events.catalogue import Catalogue
from salus.events.contexts.identity import (
    ExpulsionReason,
    KeyAdded,
    KeyRevoked,
    MemberExpelled,
    MemberReinstated,
    MemberSuspended,
    PartyKind,
    PartyRegistered,
    PublicKey,
    ReinstatementReason,
    RoleGranted,
    RoleWithdrawn,
    SuspensionReason,
)
from salus.events.doubt import objection_to_doubt
from salus.events.entitlement import objection_to_seen_keys
from salus.events.event_types import EventData
from salus.events.fields import RoleName
from salus.events.membership import KEPT_ROLES, Membership, MembershipFact, standing_after
from salus.events.membership_rights import objection_to_membership, objection_under_bar
from salus.events.parties import Operator
from salus.events.party_form import (
    objection_to_did,
    objection_to_key_number,
    objection_to_key_of,
    objection_to_roles,
    objection_to_unbound,
)
from salus.events.rights import (
    KINDS_OF_MEMBER,
    Act,
    Actor,
    is_last_resort,
    objection_to,
    objection_to_name,
    target_of,
)
from salus.identity.held_keys import HeldKey, RevocationReason, held_key
from salus.runtime.refusal import Refusal, require

ROLES_MAX = 16


class PartyState(msgspec.Struct, frozen=True, omit_defaults=True):
    """A party as folded from its events; without a DID it does not exist yet.

    `membership` is a member's own standing, and `standing_reason` why it changed last.
    """

    did: str = ""
    kind: PartyKind = "person"
    keys: tuple[HeldKey, ...] = ()
    roles: tuple[RoleName, ...] = ()
    member: str | None = None
    name: str | None = None
    membership: Membership = Membership.ACTIVE
    standing_reason: str | None = None


@dataclass(frozen=True)
class Register:
    """Let a party join. `organisation` is the folded state of the member it acts for, if it names one.

    `lookalike` tells that another DID is registered which is the same once both are decoded.
    `proofs` are those of possession, by key id.
    """

    did: str
    kind: PartyKind
    keys: tuple[PublicKey, ...]
    roles: tuple[RoleName, ...] = ()
    member: str | None = None
    name: str | None = None
    organisation: PartyState | None = None
    lookalike: bool = False
    proofs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class AddKey:
    """Let a party sign with one more key."""

    key: PublicKey
    proofs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RevokeKey:
    """Let a key sign no longer; `since` is when it came into other hands."""

    key_id: str
    reason: RevocationReason
    since: datetime | None = None


@dataclass(frozen=True)
class GrantRole:
    """Let a party hold a role. `keys` are the ids of its keys, as whoever grants `operator` saw them."""

    role: RoleName
    keys: tuple[str, ...] | None = None


@dataclass(frozen=True)
class WithdrawRole:
    """Let a party hold a role no longer."""

    role: RoleName


@dataclass(frozen=True)
class Suspend:
    """Let a member, its people and its devices state and ask for nothing until it is reinstated."""

    reason: SuspensionReason


@dataclass(frozen=True)
class Reinstate:
    """Let a suspended member take part again."""

    reason: ReinstatementReason


@dataclass(frozen=True)
class Expel:
    """Let a suspended member take part no more, for ever."""

    reason: ExpulsionReason


MembershipCommand = Suspend | Reinstate | Expel
PartyCommand = Register | AddKey | RevokeKey | GrantRole | WithdrawRole
Command = PartyCommand | MembershipCommand
_ACTS: Mapping[type[PartyCommand], Act] = {
    Register: Act.REGISTER,
    AddKey: Act.ADD_KEY,
    RevokeKey: Act.REVOKE_KEY,
    GrantRole: Act.GRANT_ROLE,
    WithdrawRole: Act.WITHDRAW_ROLE,
}


def decide(  # noqa: PLR0913  # the facts that a decision rests on
    state: PartyState,
    command: Command,
    *,
    actor: Actor,
    at: datetime,
    catalogue: Catalogue,
    held_elsewhere: Collection[str] = (),
    operators: Collection[Operator] = (),
    membership: Membership = Membership.ACTIVE,
) -> EventData:
    """Return the event that the command becomes.

    `held_elsewhere` are the public keys of the command, in multibase, that another party has or had.
    `operators` are those of the network, and `catalogue` has the roles that it knows. `membership` is the
    standing of the member that the party is or acts for.

    Raises:
        Refusal: with one of the codes party-exists, unknown-party, unsupported-did-method, did-not-of-member,
            did-lookalike, invalid-key, key-in-use, key-not-of-did, unknown-key, last-key, last-operator,
            too-many-keys, unknown-role, role-not-for-kind, role-held, role-not-held, unknown-member,
            name-not-for-kind, member-not-for-kind, not-permitted, second-operator-needed, keys-not-named,
            not-a-member, already-suspended, already-expelled, not-suspended, last-operators,
            member-suspended, member-expelled, since-not-for-reason, since-in-future, since-not-earlier.
    """
    if not isinstance(command, Register) and not state.did:
        raise Refusal("unknown-party", "no party with that DID is registered", status=404)
    if isinstance(command, MembershipCommand):
        return _change_membership(state, command, membership, actor=actor, operators=operators)
    if not actor.founding:
        _require_right(state, command, actor=actor, operators=operators)
        keeps_role = bool(KEPT_ROLES.intersection(state.roles))
        require(objection_under_bar(_ACTS[type(command)], membership, keeps_role=keeps_role), status=409)
    match command:
        case Register():
            return _register(state, command, actor=actor, held_elsewhere=held_elsewhere, catalogue=catalogue)
        case AddKey():
            return _add_key(state, command.key, actor=actor, held_elsewhere=held_elsewhere)
        case RevokeKey():
            return _revoke_key(state, command, actor=actor, at=at, operators=operators)
        case GrantRole():
            return _grant_role(state, command, actor=actor, catalogue=catalogue)
        case WithdrawRole():
            return _withdraw_role(state, command.role, actor=actor, operators=operators)
        case _:
            assert_never(command)


def _require_right(
    state: PartyState, command: PartyCommand, *, actor: Actor, operators: Collection[Operator]
) -> None:
    party: PartyState | Register = command if isinstance(command, Register) else state
    # Whoever is to get a role, or to lose it, counts as having it.
    more = {command.role} if isinstance(command, GrantRole | WithdrawRole) else set()
    target = target_of(party.kind, {*party.roles, *more}, party.member)
    relation = actor.relation_to(party.did, party.kind, party.member)
    require(objection_to(_ACTS[type(command)], target, relation, actor=actor, operators=operators))
    if isinstance(command, Register):
        require(objection_to_name(command.did, member=command.member, actor=actor, operators=operators))


_MEMBERSHIP_ACTS: Mapping[type[MembershipCommand], Act] = {
    Suspend: Act.SUSPEND,
    Reinstate: Act.REINSTATE,
    Expel: Act.EXPEL,
}
_STATUS = {
    "not-permitted": 403, "second-operator-needed": 403, "not-a-member": 422, "since-not-earlier": 409,
}  # fmt: skip


def _change_membership(
    state: PartyState,
    command: MembershipCommand,
    membership: Membership,
    *,
    actor: Actor,
    operators: Collection[Operator],
) -> MembershipFact:
    did, request, act = state.did, actor.request, _MEMBERSHIP_ACTS[type(command)]
    objection = objection_to_membership(act, did, state.kind, membership, actor=actor, operators=operators)
    if objection is not None:
        raise Refusal(objection.code, objection.why, status=_STATUS.get(objection.code, 409))
    match command:
        case Suspend():
            return MemberSuspended(did=did, reason=command.reason, request=request)
        case Reinstate():
            return MemberReinstated(did=did, reason=command.reason, request=request)
        case Expel():
            return MemberExpelled(did=did, reason=command.reason, request=request)
        case _:
            assert_never(command)


def evolve(state: PartyState, event: EventData) -> PartyState:  # noqa: PLR0911  # one per fact
    """Return the party after the event; an event that cannot apply changes nothing."""
    match event:
        case PartyRegistered() if not state.did:
            return PartyState(
                did=event.did,
                kind=event.kind,
                keys=tuple(held_key(key, event.request) for key in event.keys),
                roles=tuple(sorted(set(event.roles))),
                member=event.member,
                name=event.name,
            )
        case KeyAdded() if state.did and all(key.id != event.key.id for key in state.keys):
            return msgspec.structs.replace(state, keys=(*state.keys, held_key(event.key, event.request)))
        case KeyRevoked():
            return msgspec.structs.replace(
                state,
                keys=tuple(k.after(event) if k.id == event.key_id else k for k in state.keys),
            )
        case RoleGranted() if state.did:
            return msgspec.structs.replace(state, roles=tuple(sorted({*state.roles, event.role})))
        case RoleWithdrawn():
            return msgspec.structs.replace(state, roles=tuple(r for r in state.roles if r != event.role))
        case MemberSuspended() | MemberReinstated() | MemberExpelled() if state.did:
            standing = standing_after(state.membership, event)
            return msgspec.structs.replace(state, membership=standing, standing_reason=event.reason)
        case _:
            return state


def _register(
    state: PartyState,
    command: Register,
    *,
    actor: Actor,
    held_elsewhere: Collection[str],
    catalogue: Catalogue,
) -> PartyRegistered:
    if state.did:
        raise Refusal("party-exists", "a party with that DID is registered already")
    require(objection_to_did(command.did), status=422)
    if command.lookalike:
        raise Refusal("did-lookalike", "a DID is registered that is the same once both are decoded")
    require(objection_to_key_number(len(command.keys)), status=422)
    for index, key in enumerate(command.keys):
        require(objection_to_key_of(command.did, key), status=422)
        _require_unused(key, command.keys[:index], held_elsewhere=held_elsewhere)
    require(objection_to_unbound(command.did, command.keys), status=422)
    require(objection_to_roles(command.roles, command.kind, catalogue=catalogue), status=422)
    if command.name is not None and command.kind not in ("member", "service"):
        raise Refusal(
            "name-not-for-kind", "people and devices stay DIDs; only organisations have names", status=422
        )
    if command.member is not None and command.kind not in KINDS_OF_MEMBER:
        # Acting for a member needs that member's request or two operators; a member needs one operator.
        raise Refusal("member-not-for-kind", "only people and devices act for a member", status=422)
    if command.member is not None and (command.organisation is None or command.organisation.kind != "member"):
        raise Refusal("unknown-member", "no member with the DID given as `member` is registered", status=422)
    return PartyRegistered(
        did=command.did,
        kind=command.kind,
        keys=command.keys,
        roles=tuple(sorted(set(command.roles))),
        member=command.member,
        name=command.name,
        request=actor.request,
    )


def _add_key(state: PartyState, key: PublicKey, *, actor: Actor, held_elsewhere: Collection[str]) -> KeyAdded:
    there = sum(other.revoked is None for other in state.keys)
    require(objection_to_key_number(there + 1), status=409)
    require(objection_to_key_of(state.did, key), status=422)
    _require_unused(key, state.keys, held_elsewhere=held_elsewhere)
    return KeyAdded(did=state.did, key=key, request=actor.request)


def _revoke_key(
    state: PartyState, command: RevokeKey, *, actor: Actor, at: datetime, operators: Collection[Operator]
) -> KeyRevoked:
    held = next((key for key in state.keys if key.id == command.key_id), None)
    if held is None or (held.revoked is not None and command.since is None):
        raise Refusal("unknown-key", "the party has no such key, or it is revoked already", status=404)
    revoked = KeyRevoked(state.did, held.id, command.reason, command.since, request=actor.request)
    objection = objection_to_doubt(
        revoked,
        doubted_since=held.doubted_since,
        kind=state.kind,
        member=state.member,
        actor=actor,
        operators=operators,
        at=at,
    )
    require(objection, status=_STATUS.get(objection.code, 422) if objection else 422)
    others = [key for key in state.keys if key.id != held.id]
    # Nobody should lock a party out by a slip; a stolen key, though, must go at once whatever follows.
    if not any(key.may_sign(at) for key in others) and command.reason not in ("compromised", "left"):
        raise Refusal("last-key", "it is the party's last key: add another one first")
    if is_last_resort(state.did, state.roles, operators) and not any(key.endures(at) for key in others):
        # Without it nobody could state anything, not even a successor.
        raise Refusal("last-key", "first add a key that signs now and has no end: nobody else could add one")
    return revoked


def _withdraw_role(
    state: PartyState, role: RoleName, *, actor: Actor, operators: Collection[Operator]
) -> RoleWithdrawn:
    if role not in state.roles:
        raise Refusal("role-not-held", f"the party does not hold the role {role}")
    if role == "operator" and is_last_resort(state.did, state.roles, operators):
        raise Refusal("last-operator", "no other operator has a key that signs now and has no end")
    return RoleWithdrawn(did=state.did, role=role, request=actor.request)


def _grant_role(state: PartyState, command: GrantRole, *, actor: Actor, catalogue: Catalogue) -> RoleGranted:
    require(objection_to_roles([command.role], state.kind, catalogue=catalogue), status=422)
    if command.role in state.roles:
        raise Refusal("role-held", f"the party holds the role {command.role} already")
    there = [key.id for key in state.keys if key.revoked is None]
    require(objection_to_seen_keys(command.role, said=command.keys, there=there), status=422)
    return RoleGranted(did=state.did, role=command.role, request=actor.request)


def _require_unused(
    key: PublicKey, own: tuple[PublicKey, ...] | tuple[HeldKey, ...], *, held_elsewhere: Collection[str]
) -> None:
    if any(key.id == other.id or key.multibase == other.multibase for other in own):
        raise Refusal("key-in-use", "the party has or had this key, or a key of this id")
    if key.multibase in held_elsewhere:
        raise Refusal("key-in-use", "this public key belongs to another party")
