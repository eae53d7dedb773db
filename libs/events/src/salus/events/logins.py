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
class KnownSession(KnownKey):
    """The key of a session, and who gave it. Some acts take a fresh `authentication`, with these `levels`.

    `levels` are None where the provider was added before there was such a thing: no act takes one.
    """

    provider: str = field(kw_only=True)
    authentication: Authentication = field(kw_only=True)
    levels: tuple[str, ...] | None = field(kw_only=True)

    def ended(self, *, at: datetime) -> datetime | None:
        """Return when it was over, if it was at that moment; None: it was open."""
        ends = [end for end in (self.revoked_at, self.valid_until) if end is not None]
        return min(ends) if ends and min(ends) <= at else None


@dataclass
class Logins:
    """The providers in force by name, each with its keys of now, and all session keys by id, ended ones too.

    A session key is none of its party's keys: it signs requests, and nothing else (`KeyRing.asking_key`).
    It ends with its time, when it is revoked, with its provider, with the suspension of the member whose
    people log in there, and when its party becomes an operator.
    """

    providers: dict[str, ProviderAdded] = field(default_factory=dict)
    keys: dict[str, KnownSession] = field(default_factory=dict)
    # The ids of the sessions that were not ended before their time, by provider and by DID.
    _of_provider: dict[str, set[str]] = field(default_factory=dict, repr=False)
    _of_person: dict[str, set[str]] = field(default_factory=dict, repr=False)
    # The ids of all sessions of a person, in their order.
    _all_of: dict[str, list[str]] = field(default_factory=dict, repr=False)

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

    def sessions_of(
        self, did: str, *, since: datetime, before: str | None = None
    ) -> list[tuple[str, KnownSession]]:
        """Return the sessions of a person that were open at that moment or later, the newest first.

        `before` is the id of one of them; it and those that were opened after it are left out.
        """
        every = self._all_of.get(did, [])
        end = len(every) if before is None else every.index(before)
        known = ((key_id, self.keys[key_id]) for key_id in reversed(every[:end]))
        return [(key_id, key) for key_id, key in known if key.ended(at=since) is None]

    def _open(self, fact: SessionOpened, *, at: datetime) -> None:
        key = fact.key
        if key.id in self.keys:
            return
        self.keys[key.id] = KnownSession(
            key=key_of(key.multibase),
            did=fact.did,
            known_at=at,
            valid_from=key.valid_from,
            valid_until=key.valid_until,
            provider=fact.provider,
            authentication=Authentication(fact.authenticated, fact.acr),
            levels=self._levels_at(fact.provider),
        )
        self._all_of.setdefault(fact.did, []).append(key.id)
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

    def _levels_at(self, name: str) -> tuple[str, ...] | None:
        provider = self.providers.get(name)
        return None if provider is None or provider.sign_on_s_max is None else provider.step_up_acr
