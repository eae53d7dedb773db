"""Who may name login providers, who may have a session, and what nobody asks for by one: one rule for all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Protocol

from salus.events.bearer import Signed
from salus.events.contexts.identity import KeyRevoked
from salus.events.contexts.identity_login import (
    ProviderAdded,
    ProviderKey,
    ProviderKeysReplaced,
    ProviderWithdrawn,
    SessionOpened,
)
from salus.events.id_token import fault_of_key
from salus.events.logins import Logins, ProviderFact
from salus.events.membership import Memberships, organisation_of
from salus.events.parties import Operator, Party
from salus.events.requests import ID_TOKEN, RequestedData
from salus.events.rights import Act, Actor, Objection, Target, objection_to
from salus.events.sessions import STATED_S_MAX, LoginError, session_of

SESSIONS_MAX = 16
"""Of one person at one time."""
_ACTS: Mapping[type[ProviderFact], Act] = {
    ProviderAdded: Act.ADD_PROVIDER,
    ProviderKeysReplaced: Act.REPLACE_PROVIDER_KEYS,
    ProviderWithdrawn: Act.WITHDRAW_PROVIDER,
}


class LoginStanding(Protocol):
    """What providers and sessions are judged by: who is who right before a fact, as the key ring has it."""

    @property
    def logins(self) -> Logins:
        """The providers in force and the sessions."""

    @property
    def parties(self) -> Mapping[str, Party]:
        """The registered parties, by DID."""

    @property
    def memberships(self) -> Memberships:
        """Which members are suspended or expelled."""

    @property
    def network(self) -> str:
        """The origin of the network."""


def objection_to_provider(
    fact: ProviderFact, actor: Actor, operators: Collection[Operator], standing: LoginStanding
) -> Objection | None:
    """Return why a fact about a provider has no effect.

    The codes are `unknown-provider`, `not-permitted`, `second-operator-needed`, `unknown-member`,
    `member-suspended`, `member-expelled`, `provider-exists` and `invalid-provider-key`.
    """
    known = standing.logins.providers.get(fact.provider)
    member = fact.member if isinstance(fact, ProviderAdded) else None if known is None else known.member
    relation = actor.relation_to(member or "", "member", None)
    refusal = objection_to(_ACTS[type(fact)], Target.PROVIDER, relation, actor=actor, operators=operators)
    if refusal is not None:
        return refusal
    match fact:
        case ProviderAdded():
            return _objection_to_adding(fact, standing) or _objection_to_keys(fact.keys)
        case _ if known is None:
            return Objection("unknown-provider", "no provider of that name is in force")
        case ProviderKeysReplaced():
            return _objection_to_keys(fact.keys)
        case _:
            return None


def _objection_to_adding(fact: ProviderAdded, standing: LoginStanding) -> Objection | None:
    member = standing.parties.get(fact.member)
    if member is None or member.kind != "member":
        return Objection("unknown-member", "member: no member of that DID is registered")
    if (bar := standing.memberships.now(fact.member).bar) is not None:
        return Objection(bar.value, "member: nobody logs in for a member that is suspended or expelled")
    others = standing.logins.providers.values()
    if any(
        other.provider == fact.provider or (other.issuer, other.client) == (fact.issuer, fact.client)
        for other in others
    ):
        why = "a provider of that name, or of that issuer and client, is in force: withdraw it first"
        return Objection("provider-exists", why)
    return None


def _objection_to_keys(keys: Collection[ProviderKey]) -> Objection | None:
    if len({key.kid for key in keys}) != len(keys):
        return Objection("invalid-provider-key", "keys: two have the same kid")
    for number, key in enumerate(keys):
        if (fault := fault_of_key(key)) is not None:
            return Objection("invalid-provider-key", f"keys[{number}]: {fault}")
    return None


def objection_to_session(data: SessionOpened, standing: LoginStanding, *, at: datetime) -> Objection | None:
    """Return why a session has no effect, that identity stated at that moment by its clock.

    It is `not-permitted` if the exchange in it opens another session or none, else as `objection_to_person`.
    """
    request = data.request
    if request.authentication != ID_TOKEN or request.proof is None or request.body is None:
        return Objection("not-permitted", "nobody exchanged an ID token for it")
    try:
        opened = session_of(
            body=request.body.encode(),
            proof=request.proof,
            providers=standing.logins.providers.values(),
            network=standing.network,
            at=at,
            late_s=STATED_S_MAX,
        )
    except LoginError as error:
        return Objection(error.code, str(error))
    if opened != data:
        return Objection("not-permitted", "the ID token opens another session")
    return objection_to_person(data, standing)


def objection_to_person(data: SessionOpened, standing: LoginStanding) -> Objection | None:
    """Return why a person may not have this session.

    The codes are `not-of-provider`, `member-suspended`, `member-expelled`, `operator-needs-key` and
    `too-many-sessions`.
    """
    provider, party = standing.logins.providers[data.provider], standing.parties.get(data.did)
    if party is None or party.kind != "person" or party.member != provider.member:
        why = "the DID is of no person who acts for the member whose people log in there"
        return Objection("not-of-provider", why)
    if (bar := standing.memberships.now(organisation_of(party)).bar) is not None:
        return Objection(bar.value, "nobody logs in for a member that is suspended or expelled")
    if "operator" in party.roles:
        # Else whoever runs the provider could govern the network.
        return Objection("operator-needs-key", "an operator signs with a key of its own, and has no session")
    if len(standing.logins.open_of(data.did, at=data.key.valid_from)) >= SESSIONS_MAX:
        return Objection("too-many-sessions", f"{SESSIONS_MAX} sessions are open: end one of them first")
    return None


def objection_to_asking_by_session(
    data: RequestedData, *, asked: Signed | None, logins: Logins
) -> Objection | None:
    """Return `session-key` if a fact of identity is asked for with a session key.

    A session ends with its provider; a key that it added would not. It ends sessions of its person, and
    nothing else, and puts in doubt what itself signed: else one stolen hour would put in doubt a month.
    """
    if asked is None or (known := logins.keys.get(asked.kid)) is None:
        return None
    if not isinstance(data, KeyRevoked) or data.key_id not in logins.keys or data.did != known.did:
        why = "with the key of a session only her sessions are ended: sign with a key of your own"
        return Objection("session-key", why)
    if data.since is not None and data.key_id != asked.kid:
        why = "since: a session puts in doubt what itself signed, and no other: sign with a key of your own"
        return Objection("session-key", why)
    return None
