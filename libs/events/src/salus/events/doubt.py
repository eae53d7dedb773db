"""Since when a key was in other hands: who may say so, and how far back.

What the key signed since then stays on the ledger, with its effect, and is named as in doubt. So whoever
says so undoes nothing, and yet could disown what he signed himself, or accuse somebody for ever: a month back
is for who may revoke the key, and more, or the key of another member, is for two operators.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from salus.events.contexts.identity import KeyRevoked, PartyKind
from salus.events.parties import Operator
from salus.events.rights import Actor, Objection, objection_to_one_alone

REACH_MAX = timedelta(days=31)
"""How far back from a revocation who may revoke a key puts in doubt what it signed."""


def earlier_of(one: datetime | None, other: datetime | None) -> datetime | None:
    """Return the earlier moment: doubt only grows, or a thief would take it back."""
    return min((moment for moment in (one, other) if moment is not None), default=None)


def objection_to_doubt(  # noqa: PLR0913  # a revocation, and what it is judged by
    data: KeyRevoked,
    *,
    doubted_since: datetime | None,
    kind: PartyKind,
    member: str | None,
    actor: Actor,
    operators: Collection[Operator],
    at: datetime,
) -> Objection | None:
    """Return why a revocation at that moment cannot say `since`; `doubted_since` was said before.

    `kind` and `member` are of the party whose key it is.

    The codes are `since-not-for-reason`, `since-in-future`, `since-not-earlier`, `not-permitted` and
    `second-operator-needed`.
    """
    since = data.since
    if since is None:
        return None
    if data.reason != "compromised":
        return Objection("since-not-for-reason", "`since` is for a key that is revoked as compromised")
    if since > at:
        return Objection("since-in-future", "`since` is later than now: a revoked key signs nothing then")
    if doubted_since is not None and since >= doubted_since:
        return Objection("since-not-earlier", "what it signed since then is in doubt already")
    organisation = data.did if kind == "member" else member
    is_of_another = organisation not in (None, actor.did, actor.member)
    if not is_of_another and at - since <= REACH_MAX:
        return None
    long_before = f"put in doubt what a key signed more than {REACH_MAX.days} days before"
    act = "put in doubt what a key of another member signed" if is_of_another else long_before
    return objection_to_one_alone(act, actor=actor, operators=operators)
