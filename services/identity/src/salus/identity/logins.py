"""The law of logging in: who names providers, and what an exchange opens. Pure, as `domain` is.

There is one aggregate a provider, named by it. What providers and sessions come to is `salus.events.logins`,
which everybody follows who judges; here is only what a command becomes, and what is done already.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from datetime import datetime

import msgspec

from salus.events.contexts.identity import KeyRevoked, key_claims
from salus.events.contexts.identity_login import (
    ProviderAdded,
    ProviderKeysReplaced,
    ProviderWithdrawn,
    SessionOpened,
)
from salus.events.doubt import objection_to_doubt
from salus.events.entitlement import tokens_of
from salus.events.event_types import EventData
from salus.events.login_rights import (
    LoginStanding,
    objection_to_asking_by_session,
    objection_to_person,
    objection_to_provider,
)
from salus.events.logins import Logins, ProviderFact
from salus.events.parties import Operator, Party
from salus.events.requests import RequestedData
from salus.events.rights import Act, Actor, Relation, objection_to, relation_between, target_of
from salus.events.sessions import LoginError, session_of
from salus.identity.domain import PartyState, RevokeKey
from salus.runtime.refusal import Refusal, require

_STATUS = {
    "not-permitted": 403,
    "second-operator-needed": 403,
    "unknown-provider": 404,
    "unknown-member": 422,
    "invalid-provider-key": 422,
}


class ProviderState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was stated of a provider: whether people log in there, and the names of its keys."""

    in_force: bool = False
    kids: tuple[str, ...] = ()


def concerns(subject: str, event: EventData) -> str | None:
    """Name the aggregate that an event of the identity topic belongs to, if it is one of ours."""
    return subject if isinstance(event, ProviderFact) else None


def evolve(state: ProviderState, event: EventData) -> ProviderState:
    """Return the state after the event."""
    match event:
        case ProviderAdded() | ProviderKeysReplaced():
            return ProviderState(in_force=True, kids=tuple(key.kid for key in event.keys))
        case ProviderWithdrawn():
            return ProviderState()
        case _:
            return state


def decide(
    fact: ProviderFact, *, actor: Actor, operators: Collection[Operator], standing: LoginStanding
) -> ProviderFact:
    """Return the fact that was asked for.

    Raises:
        Refusal: with a code of `objection_to_provider`.
    """
    objection = objection_to_provider(fact, actor, operators, standing)
    if objection is not None:
        raise Refusal(objection.code, objection.why, status=_STATUS.get(objection.code, 409))
    return fact


def open_session(body: bytes, proof: str, *, standing: LoginStanding, at: datetime) -> SessionOpened:
    """Return the session that an exchange opens now.

    Raises:
        LoginError: form, proof or ID token are not good, or that person may not have it.
    """
    providers, network = standing.logins.providers.values(), standing.network
    opened = session_of(body=body, proof=proof, providers=providers, network=network, at=at)
    objection = objection_to_person(opened, standing)
    if objection is not None:
        raise LoginError("invalid_grant", objection.code, objection.why)
    return opened


def require_unused(opened: SessionOpened, claimed: Container[str]) -> None:
    """Raise LoginError `token-used` if a session was opened by that exchange, as far as is known here.

    Who reads the topic can send it again: so it is refused before it counts for the person and is stated.
    Whether it is the first, the rule of effect says.
    """
    if any(name in claimed for name in key_claims(opened.key)):
        raise token_used()


def token_used() -> LoginError:
    """Return what somebody is told who sends an exchange again."""
    return LoginError("invalid_grant", "token-used", "a login opens one session: log in again")


def require_may_see_sessions(asking: Party, person: Party) -> None:
    """Raise Refusal `not-permitted` unless who asks could end them: they are a record of her hours."""
    if relation_between(asking, person.did, person.kind, person.member) is Relation.OTHER:
        raise Refusal("not-permitted", "a person, her member and operators see her sessions", status=403)


def end_session(  # noqa: PLR0913  # a command, and what it is judged by
    state: PartyState,
    command: RevokeKey,
    *,
    actor: Actor,
    operators: Collection[Operator],
    logins: Logins,
    at: datetime,
) -> KeyRevoked:
    """Return the fact that the key of a session of that person signs no more; it may be her last.

    Raises:
        Refusal: `not-permitted`, `second-operator-needed`, `unknown-key`, `session-key` or a code of
            `objection_to_doubt`.
    """
    target = target_of(state.kind, state.roles, state.member)
    relation = actor.relation_to(state.did, state.kind, state.member)
    require(objection_to(Act.REVOKE_KEY, target, relation, actor=actor, operators=operators))
    known = logins.keys[command.key_id]
    if known.did != state.did or (known.revoked_at is not None and command.since is None):
        raise Refusal("unknown-key", "the party has no such session, or it is over", status=404)
    ended = KeyRevoked(state.did, command.key_id, command.reason, command.since, request=actor.request)
    require_key_of_party(ended, logins)
    objection = objection_to_doubt(
        ended,
        doubted_since=known.doubted_since,
        kind=state.kind,
        member=state.member,
        actor=actor,
        operators=operators,
        at=at,
    )
    require(objection, status=_STATUS.get(objection.code, 422) if objection else 422)
    return ended


def require_key_of_party(data: EventData, logins: Logins) -> None:
    """Raise Refusal `session-key` if it was asked for in a session, and is more than a session's end."""
    assert isinstance(data, RequestedData)  # noqa: S101  # identity states nothing else
    asked, _ = tokens_of(data.request)
    require(objection_to_asking_by_session(data, asked=asked, logins=logins))
