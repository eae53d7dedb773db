"""Who may suspend, reinstate and expel a member, and what may change of it meanwhile: one rule for all."""

from __future__ import annotations

from collections.abc import Collection
from typing import assert_never

from salus.events.contexts.identity import PartyKind
from salus.events.membership import Membership
from salus.events.parties import Operator
from salus.events.rights import Act, Actor, Objection, Target, objection_to

# So many other organisations must have an operator with a key that signs now and has no end, or a member that
# has operators cannot be suspended: two that watch one another, and a way to reinstate it.
OTHERS_MIN = 2
_TAKES_AWAY = frozenset({Act.REVOKE_KEY, Act.WITHDRAW_ROLE})


def objection_to_membership(  # noqa: PLR0913  # an act, and what it is judged by
    act: Act,
    did: str,
    kind: PartyKind,
    membership: Membership,
    *,
    actor: Actor,
    operators: Collection[Operator],
) -> Objection | None:
    """Return why the actor may not suspend, reinstate or expel the party of that kind and standing.

    The codes are `not-a-member`, `not-permitted`, `second-operator-needed`, `already-suspended`,
    `already-expelled`, `not-suspended` and `last-operators`.
    """
    if kind != "member":
        why = f"only a member can be {_DONE[act]}; of a {kind} revoke the keys or withdraw the roles"
        return Objection("not-a-member", why)
    return (
        _objection_to_actor(act, did, kind, actor=actor, operators=operators)
        or _objection_to_standing(act, membership)
        or (_objection_to_loss(did, operators) if act is Act.SUSPEND else None)
    )


def objection_under_bar(act: Act, membership: Membership, *, keeps_role: bool) -> Objection | None:
    """Return why a party of a suspended or expelled member, or a new one, cannot change so.

    What takes power away is possible always. A key may be added while its member is suspended, as in place of
    a stolen one, and at any time to somebody who keeps a role (`salus.events.membership.KEPT_ROLES`).
    """
    bar = membership.bar
    if bar is None or act in _TAKES_AWAY:
        return None
    if act is Act.ADD_KEY and (keeps_role or membership is Membership.SUSPENDED):
        return None
    sentence = "reinstate it first" if membership is Membership.SUSPENDED else "an expulsion is final"
    return Objection(bar.value, f"the member that it is, or acts for, is {membership}: {sentence}")


def _objection_to_actor(
    act: Act, did: str, kind: PartyKind, *, actor: Actor, operators: Collection[Operator]
) -> Objection | None:
    relation = actor.relation_to(did, kind, None)
    if actor.governs and (actor.member or actor.did) == did:
        return Objection("not-permitted", f"an operator of that very member may not {act} it")
    # Nobody of the member approves, and where it has the only other operators, nobody acts alone for that.
    others = [operator for operator in operators if operator.organisation != did]
    return objection_to(act, Target.MEMBER, relation, actor=actor, operators=others)


def _objection_to_standing(act: Act, membership: Membership) -> Objection | None:
    match membership:
        case Membership.EXPELLED:
            return Objection(
                "already-expelled", "an expulsion is final; whoever comes back takes another DID"
            )
        case Membership.SUSPENDED if act is Act.SUSPEND:
            return Objection("already-suspended", "the member is suspended already")
        case Membership.ACTIVE if act is not Act.SUSPEND:
            why = "the member is not suspended" + (
                ": suspend it first, for an expulsion is final" if act is Act.EXPEL else ""
            )
            return Objection("not-suspended", why)
        case Membership.ACTIVE | Membership.SUSPENDED:
            return None
        case _:
            assert_never(membership)


def _objection_to_loss(did: str, operators: Collection[Operator]) -> Objection | None:
    """Return `last-operators` if too few organisations could act after the member's own operators cannot."""
    if not any(operator.signs for operator in operators if operator.organisation == did):
        return None
    others = {operator.organisation for operator in operators if operator.endures} - {did}
    if len(others) >= OTHERS_MIN:
        return None
    why = (
        f"the member has operators, and of {OTHERS_MIN} other organisations one each must have a key that "
        "signs now and has no end: first let another organisation's operator join"
    )
    return Objection("last-operators", why)


_DONE = {Act.SUSPEND: "suspended", Act.REINSTATE: "reinstated", Act.EXPEL: "expelled"}
