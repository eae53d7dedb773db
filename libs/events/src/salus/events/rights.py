"""Who may do what to whom: a table, from which the rules and `docs/rights.md` are made.

Identity refuses by it, and whoever folds the identity topic goes by it (`salus.events.entitlement`).

What gives power to somebody needs two operators of different organisations, so that no operator alone becomes
somebody else. What takes power away needs one, for a stolen key must go at once; except from an operator, or
the first operator could remove the second and then act alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Protocol, assert_never

from salus.events.contexts.identity import PartyKind
from salus.events.parties import Operator
from salus.events.requests import Request


class Act(StrEnum):
    """What is done."""

    REGISTER = "register"
    ADD_KEY = "add a key"
    REVOKE_KEY = "revoke a key"
    GRANT_ROLE = "grant a role"
    WITHDRAW_ROLE = "withdraw a role"
    SUSPEND = "suspend"
    REINSTATE = "reinstate"
    EXPEL = "expel"
    PROPOSE_TYPE = "propose an event type"
    ACTIVATE_TYPE = "activate an event type"
    WITHDRAW_TYPE = "withdraw an event type"
    ADD_PROVIDER = "add a login provider"
    REPLACE_PROVIDER_KEYS = "replace the keys of a login provider"
    WITHDRAW_PROVIDER = "withdraw a login provider"


class Target(StrEnum):
    """To whom; the first that fits. Whoever is to become an operator counts as one."""

    IDENTITY = "the identity service"
    OPERATOR = "an operator"
    SERVICE = "a service"
    MEMBER = "a member"
    PEOPLE = "a person or device of a member"
    INDEPENDENT = "a person of no member with a role other than `patient`"
    UNATTACHED = "a person or device of no member, otherwise"
    TYPE = "an event type of a member"
    PROVIDER = "a login provider for a member's people"


class Relation(StrEnum):
    """By whom; the first that fits."""

    ITSELF = "itself"
    ITS_MEMBER = "its member"
    OPERATOR = "an operator"
    OTHER = "anybody else"


class Permission(StrEnum):
    """Whether it may be done."""

    ALONE = "yes"
    SECONDED = "two operators"
    NEVER = "no"


# A member speaks for its own people and devices, and for nobody who runs the network.
KINDS_OF_MEMBER: frozenset[PartyKind] = frozenset({"person", "device"})
NO, YES, TWO = Permission.NEVER, Permission.ALONE, Permission.SECONDED

# In the order of `Relation`: itself, its member, an operator, anybody else. Whoever does not exist yet, or
# acts for no member, has nobody in that place.
_ROWS: Mapping[Act, Mapping[Target, tuple[Permission, Permission, Permission, Permission]]] = {
    Act.REGISTER: {
        Target.IDENTITY: (NO, NO, NO, NO),
        Target.OPERATOR: (NO, NO, TWO, NO),
        Target.SERVICE: (NO, NO, TWO, NO),
        Target.MEMBER: (NO, NO, TWO, NO),
        Target.PEOPLE: (NO, YES, TWO, NO),
        Target.INDEPENDENT: (NO, NO, TWO, NO),
        Target.UNATTACHED: (NO, NO, YES, NO),
    },
    Act.ADD_KEY: {
        Target.IDENTITY: (YES, NO, NO, NO),
        Target.OPERATOR: (TWO, NO, TWO, NO),
        Target.SERVICE: (YES, NO, TWO, NO),
        Target.MEMBER: (YES, NO, TWO, NO),
        Target.PEOPLE: (YES, YES, TWO, NO),
        Target.INDEPENDENT: (YES, NO, TWO, NO),
        Target.UNATTACHED: (YES, NO, TWO, NO),
    },
    Act.REVOKE_KEY: {
        Target.IDENTITY: (YES, NO, TWO, NO),
        Target.OPERATOR: (YES, NO, TWO, NO),
        Target.SERVICE: (YES, NO, YES, NO),
        Target.MEMBER: (YES, NO, YES, NO),
        Target.PEOPLE: (YES, YES, YES, NO),
        Target.INDEPENDENT: (YES, NO, YES, NO),
        Target.UNATTACHED: (YES, NO, YES, NO),
    },
    Act.GRANT_ROLE: {
        Target.IDENTITY: (NO, NO, NO, NO),
        Target.OPERATOR: (TWO, NO, TWO, NO),
        Target.SERVICE: (NO, NO, TWO, NO),
        Target.MEMBER: (NO, NO, NO, NO),
        Target.PEOPLE: (NO, YES, TWO, NO),
        Target.INDEPENDENT: (NO, NO, TWO, NO),
        Target.UNATTACHED: (NO, NO, YES, NO),
    },
    Act.WITHDRAW_ROLE: {
        Target.IDENTITY: (NO, NO, NO, NO),
        Target.OPERATOR: (TWO, NO, TWO, NO),
        Target.SERVICE: (NO, NO, YES, NO),
        Target.MEMBER: (NO, NO, NO, NO),
        Target.PEOPLE: (NO, YES, YES, NO),
        Target.INDEPENDENT: (NO, NO, YES, NO),
        Target.UNATTACHED: (NO, NO, YES, NO),
    },
    # An operator of that member itself may not: `salus.events.membership_rights`.
    Act.SUSPEND: {Target.MEMBER: (NO, NO, TWO, NO)},
    Act.REINSTATE: {Target.MEMBER: (NO, NO, TWO, NO)},
    Act.EXPEL: {Target.MEMBER: (NO, NO, TWO, NO)},
    # Itself is the member whose type it is.
    Act.PROPOSE_TYPE: {Target.TYPE: (YES, NO, NO, NO)},
    Act.ACTIVATE_TYPE: {Target.TYPE: (NO, NO, TWO, NO)},
    Act.WITHDRAW_TYPE: {Target.TYPE: (YES, NO, TWO, NO)},
    # Itself is the member whose people log in there. It may add keys to them as well.
    Act.ADD_PROVIDER: {Target.PROVIDER: (NO, NO, TWO, NO)},
    Act.REPLACE_PROVIDER_KEYS: {Target.PROVIDER: (YES, NO, TWO, NO)},
    Act.WITHDRAW_PROVIDER: {Target.PROVIDER: (YES, NO, YES, NO)},
}
RIGHTS: Mapping[tuple[Act, Target, Relation], Permission] = {
    (act, target, relation): permission
    for act, targets in _ROWS.items()
    for target, permissions in targets.items()
    for relation, permission in zip(Relation, permissions, strict=True)
}


class Objection(NamedTuple):
    """Why somebody may not do something: a stable code, and a sentence."""

    code: str
    why: str


@dataclass(frozen=True)
class Actor:
    """Who asks: an authenticated party with what it signed, or the network's founding itself.

    `second` is who approved the request by a signature of its own.
    """

    did: str
    kind: PartyKind
    roles: frozenset[str]
    request: Request
    member: str | None = None
    second: str | None = None
    founding: bool = False

    @property
    def governs(self) -> bool:
        """Tell whether the actor is an operator."""
        return "operator" in self.roles

    def relation_to(self, did: str, kind: PartyKind, member: str | None) -> Relation:
        """Return what the actor is to a party."""
        return relation_between(self, did, kind, member)


class Asker(Protocol):
    """Who asks, as far as it says what they are to others."""

    @property
    def did(self) -> str:
        """Its DID."""

    @property
    def kind(self) -> PartyKind:
        """What kind of party it is."""

    @property
    def roles(self) -> frozenset[str]:
        """The roles in which it asks."""


def relation_between(asking: Asker, did: str, kind: PartyKind, member: str | None) -> Relation:
    """Return what who asks is to a party."""
    if asking.did == did:
        return Relation.ITSELF
    if asking.kind == "member" and member == asking.did and kind in KINDS_OF_MEMBER:
        return Relation.ITS_MEMBER
    return Relation.OPERATOR if "operator" in asking.roles else Relation.OTHER


def target_of(kind: PartyKind, roles: Collection[str], member: str | None) -> Target:
    """Return what a party is, or is to become, with these roles."""
    if "identity" in roles:
        return Target.IDENTITY
    if "operator" in roles:
        return Target.OPERATOR
    if kind == "service":
        return Target.SERVICE
    if kind == "member":
        return Target.MEMBER
    if member is not None:
        return Target.PEOPLE
    return Target.INDEPENDENT if set(roles) - {"patient"} else Target.UNATTACHED


def objection_to(
    act: Act, target: Target, relation: Relation, *, actor: Actor, operators: Collection[Operator]
) -> Objection | None:
    """Return why the actor may not do this: `not-permitted` or `second-operator-needed`; None: it may."""
    permission = RIGHTS[act, target, relation]
    match permission:
        case Permission.ALONE:
            return None
        case Permission.NEVER:
            return Objection("not-permitted", f"{_BY[relation]} may not {act}: {target}")
        case Permission.SECONDED:
            return objection_to_one_alone(f"{act}: {target}", actor=actor, operators=operators)
        case _:
            assert_never(permission)


def objection_to_one_alone(act: str, *, actor: Actor, operators: Collection[Operator]) -> Objection | None:
    """Return an objection unless the actor is an operator, and one of another organisation approves.

    Where no operator of another organisation can sign, nobody could approve: there one operator acts alone.
    """
    if not actor.governs:
        return Objection("not-permitted", f"only operators may {act}")
    organisation = actor.member or actor.did
    others = {other.did for other in operators if other.signs and other.organisation != organisation}
    if others and actor.second not in others:
        sentence = f"an operator of another organisation must approve it, in Salus-Approval: {act}"
        return Objection("second-operator-needed", sentence)
    return None


def objection_to_name(
    did: str, *, member: str | None, actor: Actor, operators: Collection[Operator]
) -> Objection | None:
    """Return why the actor may not register this DID: `did-not-of-member` or `second-operator-needed`.

    Nobody resolves DIDs here, so one that is not proven, as a did:key is, could be taken from an organisation
    before that joins: a member registers a did:web below its own, and for all others two operators vouch.
    """
    if not did.startswith("did:web:") or (actor.did == member and did.startswith(f"{member}:")):
        return None
    if not actor.governs:
        sentence = "a member registers did:key and did:web below its own; others operators register"
        return Objection("did-not-of-member", sentence)
    return objection_to_one_alone("register a did:web", actor=actor, operators=operators)


def is_last_resort(did: str, roles: Collection[str], operators: Collection[Operator]) -> bool:
    """Tell whether nobody could help if this party could not sign: identity, and the last operator."""
    others = [operator for operator in operators if operator.did != did and operator.endures]
    return "identity" in roles or ("operator" in roles and not others)


_BY = {
    Relation.ITSELF: "the party itself",
    Relation.ITS_MEMBER: "its member",
    Relation.OPERATOR: "an operator",
    Relation.OTHER: "the caller",
}
