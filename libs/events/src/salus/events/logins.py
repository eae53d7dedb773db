"""The login providers in force and the sessions that they gave, at one position of the identity topic."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

import msgspec

from salus.events.contexts.identity import KeyRevoked, MemberExpelled, MemberSuspended, RoleGranted
from salus.events.contexts.identity_login import (
    ProviderAdded,
    ProviderKeysReplaced,
    ProviderWithdrawn,
    SessionOpened,
)
from salus.events.did import key_of
from salus.events.doubt import earlier_of
from salus.events.event_types import EventData
from salus.events.parties import KnownKey
from salus.events.step_up import Authentication

ProviderFact = ProviderAdded | ProviderKeysReplaced | ProviderWithdrawn
OPERATOR = "operator"


@dataclass(frozen=True, slots=True)
class SessionKey(KnownKey):
    """The key of a session. `authentication` is None where its provider says nothing of freshness."""

    authentication: Authentication | None = None


@dataclass
class Logins:
    """The providers in force by name, each with its keys of now, and all session keys by id, ended ones too.

    A session key is none of its party's keys: it signs requests, and nothing else (`KeyRing.asking_key`).
    It ends with its time, when it is revoked, with its provider, with the suspension of the member whose
    people log in there, and when its party becomes an operator.
    """

    providers: dict[str, ProviderAdded] = field(default_factory=dict)
    keys: dict[str, SessionKey] = field(default_factory=dict)
    # The ids of the sessions that were not ended before their time, by provider and by DID.
    _of_provider: dict[str, set[str]] = field(default_factory=dict, repr=False)
    _of_person: dict[str, set[str]] = field(default_factory=dict, repr=False)

    def apply(self, fact: EventData, *, at: datetime) -> None:
        """Take a fact of identity as it is, which counts after that moment; most change nothing here."""
        match fact:
            case ProviderAdded():
                self.providers[fact.provider] = fact
            case ProviderKeysReplaced():
                if (known := self.providers.get(fact.provider)) is not None:
                    self.providers[fact.provider] = msgspec.structs.replace(known, keys=fact.keys)
            case ProviderWithdrawn():
                self.providers.pop(fact.provider, None)
                self._end(self._of_provider.pop(fact.provider, ()), at=at)
            case SessionOpened():
                self._open(fact, at=at)
            case KeyRevoked():
                self._revoke(fact, at=at)
            case RoleGranted(role=role) if role == OPERATOR:
                self._end(self._of_person.pop(fact.did, ()), at=at)
            case MemberSuspended() | MemberExpelled():
                self._end_of_member(fact.did, at=at)
            case _:
                pass

    def _end_of_member(self, member: str, *, at: datetime) -> None:
        for name, provider in self.providers.items():
            if provider.member == member:
                self._end(self._of_provider.pop(name, ()), at=at)

    def open_of(self, did: str, *, at: datetime) -> list[str]:
        """Return the ids of the session keys of a person that are not over at that moment."""
        return [
            key_id
            for key_id in self._of_person.get(did, ())
            if (known := self.keys[key_id]).revoked_at is None
            and (known.valid_until is None or at < known.valid_until)
        ]

    def _open(self, fact: SessionOpened, *, at: datetime) -> None:
        key = fact.key
        if key.id in self.keys:
            return
        self.keys[key.id] = SessionKey(
            key=key_of(key.multibase),
            did=fact.did,
            known_at=at,
            valid_from=key.valid_from,
            valid_until=key.valid_until,
            authentication=_authentication_of(fact, self.providers.get(fact.provider)),
        )
        # What is over before this one begins is remembered as a key alone.
        self._of_person[fact.did] = {*self.open_of(fact.did, at=key.valid_from), key.id}
        self._of_provider.setdefault(fact.provider, set()).add(key.id)

    def _revoke(self, fact: KeyRevoked, *, at: datetime) -> None:
        known = self.keys.get(fact.key_id)
        if known is not None and known.did == fact.did:
            since = earlier_of(known.doubted_since, fact.since)
            self.keys[fact.key_id] = replace(known, doubted_since=since)
            self._end({fact.key_id}, at=at)

    def _end(self, key_ids: Iterable[str], *, at: datetime) -> None:
        for key_id in key_ids:
            if (known := self.keys[key_id]).revoked_at is None:
                self.keys[key_id] = replace(known, revoked_at=at)


def _authentication_of(fact: SessionOpened, provider: ProviderAdded | None) -> Authentication | None:
    if provider is None or provider.sign_on_s_max is None:
        return None
    return Authentication(fact.authenticated, fact.acr, provider.step_up_acr)
