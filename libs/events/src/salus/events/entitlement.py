"""Whether who asked for a fact of identity had the right: what everybody judges, and not identity alone.

It is judged where the event stands on its topic, by the parties, roles and keys right before it, so that all
who fold the topic say the same. Whoever holds identity's key, and nothing else, gives nobody a right: what
gives power rests on the signatures of those whose right that is, and they stand in the event.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from salus.events.bearer import (
    APPROVAL_LIFETIME_S_MAX,
    CLOCKS,
    LIFETIME_S_MAX,
    BearerError,
    Signed,
    read_bearer,
)
from salus.events.contexts.identity import (
    EventTypeActivated,
    EventTypeProposed,
    EventTypeWithdrawn,
    KeyAdded,
    KeyRevoked,
    MemberExpelled,
    MemberReinstated,
    MemberSuspended,
    PartyKind,
    PartyRegistered,
    PublicKey,
    RoleGranted,
    RoleWithdrawn,
    ShardsAssigned,
    proofs_in,
    seen_keys_in,
)
from salus.events.contexts.identity_login import (
    ProviderAdded,
    ProviderKeysReplaced,
    ProviderWithdrawn,
    SessionOpened,
)
from salus.events.doubt import objection_to_doubt
from salus.events.envelope import Event
from salus.events.event_types import EventData
from salus.events.login_rights import (
    objection_to_asking_by_session,
    objection_to_provider,
    objection_to_session,
)
from salus.events.logins import Logins
from salus.events.membership import KEPT_ROLES, Membership, Memberships, organisation_of, restricted
from salus.events.membership_rights import objection_to_membership, objection_under_bar
from salus.events.parties import Founder, KnownKey, Operator, Party, operators_of
from salus.events.party_form import (
    objection_to_did,
    objection_to_key_number,
    objection_to_key_of,
    objection_to_roles,
    objection_to_unbound,
)
from salus.events.possession import PossessionError, verify_possession
from salus.events.requests import SERVICE, Request, RequestedData
from salus.events.rights import (
    KINDS_OF_MEMBER,
    Act,
    Actor,
    Objection,
    is_last_resort,
    objection_to,
    objection_to_name,
    objection_to_one_alone,
    target_of,
)
from salus.events.type_registry import TypeRegistry
from salus.events.type_rights import objection_to_type

OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class Standing:
    """Who is who right before an event: parties, their keys by id, and those whom the network file names.

    `types` are the event types and roles that hold. `held` has the ids of each party's keys, and `governing`
    the DIDs that hold the role of operator; `network` is the network's origin, and `memberships` says which
    members are suspended. With them a fold looks at no party that an event is not about.
    """

    types: TypeRegistry
    parties: Mapping[str, Party]
    keys: Mapping[str, KnownKey]
    founders: Mapping[str, Founder]
    held: Mapping[str, Collection[str]]
    governing: Collection[str]
    network: str
    memberships: Memberships
    logins: Logins

    def is_revoked(self, key_id: str) -> bool:
        """Tell whether a key was revoked before, or a session ended, whatever the clocks said."""
        known = self.keys.get(key_id) or self.logins.keys.get(key_id)
        return known is not None and known.revoked_at is not None

    def keys_of(self, did: str) -> dict[str, KnownKey]:
        """Return a party's keys that are not revoked, by id."""
        return {i: self.keys[i] for i in self.held.get(did, ()) if not self.is_revoked(i)}

    def membership_of(self, party: Party) -> Membership:
        """Return the standing of the member that a party is or acts for."""
        return self.memberships.now(organisation_of(party))

    def operators(self, *, at: datetime) -> list[Operator]:
        """Return the operators of the network, and whether they can sign at that moment.

        None of a suspended or expelled member can.
        """
        governing = (self.parties[did] for did in self.governing)
        return operators_of(governing, self._signing, at=at)

    def _signing(self, did: str) -> Collection[KnownKey]:
        is_active = self.membership_of(self.parties[did]) is Membership.ACTIVE
        return self.keys_of(did).values() if is_active else ()

    def caller(self, party: Party) -> Party | Objection:
        """Return a party with the roles in which it may ask for something, or why it may not."""
        membership = self.membership_of(party)
        asking = restricted(party, membership)
        if membership.bar is None or asking.roles & KEPT_ROLES:
            return asking
        return Objection(membership.bar.value, f"who asked, or approved, is of a member that is {membership}")


def objection_to_event(event: Event, standing: Standing, *, appended: datetime) -> Objection | None:  # noqa: PLR0911  # one per kind
    """Return why a fact of identity has no effect: whoever asked had no right to it. None: it may have one.

    The signatures of request and approval are not looked at again: an event with a wrong one is no leaf that
    was accepted. Identity dates it back no further than clocks differ from when the broker appended it.
    """
    data, at = event.data, max(event.envelope.time + CLOCKS, appended) - CLOCKS
    if isinstance(data, SessionOpened):
        return objection_to_session(data, standing, at=at)
    if not isinstance(data, RequestedData) or data.request.authentication == SERVICE:
        return _objection_to_founding(data, standing)
    actor = _actor_of(data, standing)
    if isinstance(actor, Objection):
        return actor
    operators = standing.operators(at=at)
    match data:
        case PartyRegistered():
            return _objection_to_joining(data, actor, operators, standing, at=at)
        case KeyAdded() | KeyRevoked() | RoleGranted() | RoleWithdrawn():
            return _objection_to_change(data, actor, operators, standing, at=at)
        case MemberSuspended() | MemberReinstated() | MemberExpelled():
            return _objection_to_member(data, actor, operators, standing)
        case ShardsAssigned():
            return _objection_to_shards(data, actor, operators)
        case EventTypeProposed() | EventTypeActivated() | EventTypeWithdrawn():
            return objection_to_type(data, actor, operators, standing.types)
        case ProviderAdded() | ProviderKeysReplaced() | ProviderWithdrawn():
            return objection_to_provider(data, actor, operators, standing)
        case _:
            return Objection("not-permitted", "nobody has a right to what is no fact of identity")


def _actor_of(data: RequestedData, standing: Standing) -> Actor | Objection:
    """Return who asked and who approved, or why they may not ask for anything."""
    by, (asked, approved) = standing.parties.get(data.request.by), tokens_of(data.request)
    ended = any(token is not None and standing.is_revoked(token.kid) for token in (asked, approved))
    if by is None or ended:
        why = "a key that signed the request or its approval was revoked before"
        return Objection("key-revoked", why) if ended else Objection("not-permitted", "nobody of that DID")
    asker = standing.caller(by)
    if isinstance(asker, Objection):
        return asker
    second = None if approved is None else approved.claims.iss
    approver = None if second is None else standing.parties.get(second)
    if approver is not None and isinstance(barred := standing.caller(approver), Objection):
        return barred
    refused = objection_to_asking_by_session(data, asked=asked, logins=standing.logins)
    if refused is not None:
        return refused
    return Actor(
        did=asker.did,
        kind=asker.kind,
        roles=asker.roles,
        request=data.request,
        member=asker.member,
        second=second,
    )


def objection_to_seen_keys(
    role: str, *, said: Collection[str] | None, there: Collection[str]
) -> Objection | None:
    """Return an objection unless a grant of `operator` names just the keys that will then govern.

    Who approves it signs for these keys; one that its holder or member added since is another grant.
    """
    if role != OPERATOR or set(said or ()) == set(there):
        return None
    why = "a grant of operator names in `keys` all keys of the party that are not revoked, as approved"
    return Objection("keys-not-named", why)


def objection_to_keys(  # noqa: PLR0913  # keys, and what they are judged by
    did: str,
    keys: Collection[PublicKey],
    *,
    proofs: Mapping[str, str],
    member: str | None,
    network: str,
    at: datetime,
) -> Objection | None:
    """Return `key-not-proven` unless each key's holder has signed that it joins (`proofs`, by key id).

    It is `key-not-of-did` or `invalid-key` if the party of that DID cannot have such a key.
    """
    for key in keys:
        if (objection := objection_to_key_of(did, key)) is not None:
            return objection
        if key.id not in proofs:
            return Objection("key-not-proven", f"`proof` of {key.id} is missing: a JWS by that key")
        try:
            verify_possession(proofs[key.id], key=key, member=member, network=network, at=at)
        except PossessionError as error:
            return Objection("key-not-proven", f"`proof` of {key.id}: {error}")
    return None


def _objection_to_founding(data: EventData, standing: Standing) -> Objection | None:
    founder = standing.founders.get(data.did) if isinstance(data, PartyRegistered) else None
    if isinstance(data, PartyRegistered) and founder is not None and founder.is_(data):
        return None
    return Objection("not-permitted", "nobody asked, and the network file does not name it like this")


def _objection_to_joining(
    data: PartyRegistered, actor: Actor, operators: Collection[Operator], standing: Standing, *, at: datetime
) -> Objection | None:
    organisation = standing.parties.get(data.member) if data.member is not None else None
    if data.member is not None and (organisation is None or organisation.kind != "member"):
        return Objection("unknown-member", "no member of that DID is registered")
    if data.member is not None and data.kind not in KINDS_OF_MEMBER:
        return Objection("member-not-for-kind", "only people and devices act for a member")
    target = target_of(data.kind, data.roles, data.member)
    relation = actor.relation_to(data.did, data.kind, data.member)
    return (
        objection_to_did(data.did)
        or _objection_under_bar(Act.REGISTER, organisation, standing)
        or _objection_to_roles(data.roles, data.kind, standing)
        or objection_to_unbound(data.did, data.keys)
        or objection_to(Act.REGISTER, target, relation, actor=actor, operators=operators)
        or objection_to_name(data.did, member=data.member, actor=actor, operators=operators)
        or objection_to_keys(
            data.did,
            data.keys,
            proofs=proofs_in(data.request),
            member=data.member,
            network=standing.network,
            at=at,
        )
    )


def _objection_to_roles(roles: Collection[str], kind: PartyKind, standing: Standing) -> Objection | None:
    """Return why a party cannot hold the roles; a service may have one of a package that is not here.

    Identity knew it. It is no reason to know another party, or to have it without its keys: who it is does
    not depend on what is installed, and `KeyRing.lacking` says what does.
    """
    catalogue = standing.types.catalogue_for(kind)
    if kind == "service":
        roles = {role.name for role in catalogue.roles()}.intersection(roles)
    return objection_to_roles(roles, kind, catalogue=catalogue)


_Change = KeyAdded | KeyRevoked | RoleGranted | RoleWithdrawn
_ACTS: Mapping[type[_Change], Act] = {
    KeyAdded: Act.ADD_KEY,
    KeyRevoked: Act.REVOKE_KEY,
    RoleGranted: Act.GRANT_ROLE,
    RoleWithdrawn: Act.WITHDRAW_ROLE,
}


def _objection_to_change(
    data: _Change, actor: Actor, operators: Collection[Operator], standing: Standing, *, at: datetime
) -> Objection | None:
    party = standing.parties.get(data.did)
    if party is None:
        return Objection("unknown-party", "no party of that DID is registered")
    # Whoever is to get a role, or to lose it, counts as having it.
    more = {data.role} if isinstance(data, RoleGranted | RoleWithdrawn) else set[str]()
    target = target_of(party.kind, party.roles | more, party.member)
    relation = actor.relation_to(party.did, party.kind, party.member)
    act = _ACTS[type(data)]
    objection = objection_to(act, target, relation, actor=actor, operators=operators) or _objection_under_bar(
        act, party, standing
    )
    if objection is not None:
        return objection
    match data:
        case KeyAdded():
            proofs = proofs_in(data.request)
            return objection_to_key_number(len(standing.keys_of(data.did)) + 1) or objection_to_keys(
                data.did, (data.key,), proofs=proofs, member=party.member, network=standing.network, at=at
            )
        case RoleGranted():
            return _objection_to_roles([data.role], party.kind, standing) or objection_to_seen_keys(
                data.role, said=seen_keys_in(data.request), there=standing.keys_of(party.did)
            )
        case KeyRevoked():
            known = standing.keys.get(data.key_id) or standing.logins.keys.get(data.key_id)
            before = None if known is None else known.doubted_since
            return _objection_to_last(data, party, operators, standing, at=at) or objection_to_doubt(
                data,
                doubted_since=before,
                kind=party.kind,
                member=party.member,
                actor=actor,
                operators=operators,
                at=at,
            )
        case RoleWithdrawn():
            return _objection_to_last(data, party, operators, standing, at=at)


def _objection_to_last(
    data: KeyRevoked | RoleWithdrawn,
    party: Party,
    operators: Collection[Operator],
    standing: Standing,
    *,
    at: datetime,
) -> Objection | None:
    """Return an objection to what would leave nobody who can help: of two that go at once one stays."""
    if not is_last_resort(party.did, party.roles, operators):
        return None
    if isinstance(data, RoleWithdrawn):
        why = "no other operator has a key that signs now and has no end"
        return Objection("last-operator", why) if data.role == OPERATOR else None
    others = [key for key_id, key in standing.keys_of(party.did).items() if key_id != data.key_id]
    if any(key.valid_until is None and key.valid_from <= at for key in others):
        return None
    return Objection("last-key", "nobody else could add one: first add a key that signs now and has no end")


def _objection_under_bar(act: Act, party: Party | None, standing: Standing) -> Objection | None:
    if party is None:
        return None
    membership = standing.membership_of(party)
    keeps_role = bool(restricted(party, membership).roles & KEPT_ROLES)
    return objection_under_bar(act, membership, keeps_role=keeps_role)


_Membership = MemberSuspended | MemberReinstated | MemberExpelled
_MEMBERSHIP_ACTS: Mapping[type[_Membership], Act] = {
    MemberSuspended: Act.SUSPEND,
    MemberReinstated: Act.REINSTATE,
    MemberExpelled: Act.EXPEL,
}


def _objection_to_member(
    data: _Membership, actor: Actor, operators: Collection[Operator], standing: Standing
) -> Objection | None:
    party = standing.parties.get(data.did)
    if party is None:
        return Objection("unknown-party", "no party of that DID is registered")
    membership = standing.membership_of(party)
    act = _MEMBERSHIP_ACTS[type(data)]
    return objection_to_membership(act, party.did, party.kind, membership, actor=actor, operators=operators)


def _objection_to_shards(
    data: ShardsAssigned, actor: Actor, operators: Collection[Operator]
) -> Objection | None:
    if not actor.governs:
        return Objection("not-permitted", "operators assign partitions to shards")
    # A new shard brings a key that the ledger is believed by.
    return objection_to_one_alone("add a shard", actor=actor, operators=operators) if data.added else None


def tokens_of(request: Request) -> tuple[Signed | None, Signed | None]:
    """Return the tokens of the request and of its approval, as far as they can be read."""
    return (
        _read(request.proof, lifetime_s_max=LIFETIME_S_MAX),
        _read(request.approval, lifetime_s_max=APPROVAL_LIFETIME_S_MAX),
    )


def _read(token: str | None, *, lifetime_s_max: int) -> Signed | None:
    try:
        return None if token is None else read_bearer(token, audience=None, lifetime_s_max=lifetime_s_max)
    except BearerError:
        return None
