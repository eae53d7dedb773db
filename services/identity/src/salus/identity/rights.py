"""Who may do what to whom: a table, from which the rules and `docs/rights.md` are made.

What gives power to somebody needs two operators of different organisations, so that no operator alone becomes
somebody else. What takes power away needs one, for a stolen key must go at once; except from an operator, or
the first operator could remove the second and then act alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from salus.events.catalogue import PartyKind
from salus.events.requests import Request
from salus.runtime.refusal import Refusal


class Act(StrEnum):
    """What is done."""

    REGISTER = "register"
    ADD_KEY = "add a key"
    REVOKE_KEY = "revoke a key"
    GRANT_ROLE = "grant a role"
    WITHDRAW_ROLE = "withdraw a role"


class Target(StrEnum):
    """To whom; the first that fits. Whoever is to become an operator counts as one."""

    IDENTITY = "the identity service"
    OPERATOR = "an operator"
    SERVICE = "a service"
    MEMBER = "a member"
    PEOPLE = "a person or device of a member"
    UNATTACHED = "a person or device of no member"


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
        Target.MEMBER: (NO, NO, YES, NO),
        Target.PEOPLE: (NO, YES, TWO, NO),
        Target.UNATTACHED: (NO, NO, YES, NO),
    },
    Act.ADD_KEY: {
        Target.IDENTITY: (YES, NO, NO, NO),
        Target.OPERATOR: (TWO, NO, TWO, NO),
        Target.SERVICE: (YES, NO, TWO, NO),
        Target.MEMBER: (YES, NO, TWO, NO),
        Target.PEOPLE: (YES, YES, TWO, NO),
        Target.UNATTACHED: (YES, NO, TWO, NO),
    },
    Act.REVOKE_KEY: {
        Target.IDENTITY: (YES, NO, TWO, NO),
        Target.OPERATOR: (YES, NO, TWO, NO),
        Target.SERVICE: (YES, NO, YES, NO),
        Target.MEMBER: (YES, NO, YES, NO),
        Target.PEOPLE: (YES, YES, YES, NO),
        Target.UNATTACHED: (YES, NO, YES, NO),
    },
    Act.GRANT_ROLE: {
        Target.IDENTITY: (NO, NO, NO, NO),
        Target.OPERATOR: (TWO, NO, TWO, NO),
        Target.SERVICE: (NO, NO, TWO, NO),
        Target.MEMBER: (NO, NO, NO, NO),
        Target.PEOPLE: (NO, YES, TWO, NO),
        Target.UNATTACHED: (NO, NO, YES, NO),
    },
    Act.WITHDRAW_ROLE: {
        Target.IDENTITY: (NO, NO, NO, NO),
        Target.OPERATOR: (TWO, NO, TWO, NO),
        Target.SERVICE: (NO, NO, YES, NO),
        Target.MEMBER: (NO, NO, NO, NO),
        Target.PEOPLE: (NO, YES, YES, NO),
        Target.UNATTACHED: (NO, NO, YES, NO),
    },
}
RIGHTS: Mapping[tuple[Act, Target, Relation], Permission] = {
    (act, target, relation): permission
    for act, targets in _ROWS.items()
    for target, permissions in targets.items()
    for relation, permission in zip(Relation, permissions, strict=True)
}


@dataclass(frozen=True)
class Operator:
    """An operator of the network. `organisation` is the member it acts for, or itself if there is none.

    `signs`: it has a key that signs now or will. `endures`: it has a key that signs now and has no end.
    """

    did: str
    organisation: str
    signs: bool = True
    endures: bool = True


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
        if self.did == did:
            return Relation.ITSELF
        if self.kind == "member" and member == self.did and kind in KINDS_OF_MEMBER:
            return Relation.ITS_MEMBER
        return Relation.OPERATOR if self.governs else Relation.OTHER


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
    return Target.UNATTACHED if member is None else Target.PEOPLE


def require_right(
    act: Act, target: Target, relation: Relation, *, actor: Actor, operators: Collection[Operator]
) -> None:
    """Raise a Refusal unless the actor may do this.

    Raises:
        Refusal: not-permitted or second-operator-needed.
    """
    permission = RIGHTS[act, target, relation]
    match permission:
        case Permission.ALONE:
            return
        case Permission.NEVER:
            raise Refusal("not-permitted", f"{_BY[relation]} may not {act}: {target}", status=403)
        case Permission.SECONDED:
            require_second(f"{act}: {target}", actor=actor, operators=operators)
        case _:
            assert_never(permission)


def require_second(act: str, *, actor: Actor, operators: Collection[Operator]) -> None:
    """Raise a Refusal unless the actor is an operator, and one of another organisation approves.

    Where no operator of another organisation can sign, nobody could approve: there one operator acts alone.

    Raises:
        Refusal: not-permitted or second-operator-needed.
    """
    if not actor.governs:
        raise Refusal("not-permitted", f"only operators may {act}", status=403)
    organisation = actor.member or actor.did
    others = {other.did for other in operators if other.signs and other.organisation != organisation}
    if others and actor.second not in others:
        sentence = f"an operator of another organisation must approve it, in Salus-Approval: {act}"
        raise Refusal("second-operator-needed", sentence, status=403)


_BY = {
    Relation.ITSELF: "the party itself",
    Relation.ITS_MEMBER: "its member",
    Relation.OPERATOR: "an operator",
    Relation.OTHER: "the caller",
}
