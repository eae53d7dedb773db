"""Whose key may sign what, and when: the fold of the identity topic that every verifier keeps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import assert_never

from salus.events.catalogue import Catalogue
from salus.events.contexts.identity import (
    KeyAdded,
    KeyRevoked,
    PartyRegistered,
    PublicKey,
    RoleGranted,
    RoleWithdrawn,
    ShardsAssigned,
)
from salus.events.did import key_of
from salus.events.effect import Applied, Effect, WithoutEffect, claims_of, effect_of
from salus.events.entitlement import Standing, objection_to_event
from salus.events.envelope import Event
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import EventData
from salus.events.parties import Founder, KnownKey, Operator, Party
from salus.events.requests import Request
from salus.events.rights import Objection

_PAGE = 4096
LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass
class KeyRing:
    """The parties and keys known at one position of the identity topic, and the catalogue that holds there.

    `position` is the offset after the last identity event that was folded, and `time` the latest time
    that one of them states: whoever judges by the ring judges at `time` or later, so that a revocation it
    knows of counts although clocks differ. The ring starts with the root party alone: the identity service,
    named in the network file that everyone holds. `assignments` are the partitions' assignments to shards
    that were stated, each with the position after it; what they come to is `salus.events.sharding`.
    `founders` are those whom the network file names, by DID: nobody else joins without being asked for.
    `unentitled` has, by offset, why an event had no effect though it was the next of its subject: who asked
    had no right to it (a code of `salus.events.entitlement`).
    """

    catalogue: Catalogue
    parties: dict[str, Party] = field(default_factory=dict)
    keys: dict[str, KnownKey] = field(default_factory=dict)
    claims: set[str] = field(default_factory=set)
    position: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    time: datetime = LONG_AGO
    assignments: list[tuple[int, ShardsAssigned]] = field(default_factory=list)
    founders: dict[str, Founder] = field(default_factory=dict)
    unentitled: dict[int, Objection] = field(default_factory=dict)
    # The ids of each party's keys, and who holds the role of operator.
    _held: dict[str, list[str]] = field(default_factory=dict, repr=False)
    _governing: set[str] = field(default_factory=set, repr=False)
    # A byte for each offset of the topic, by pages: whether the event there took effect.
    _effective: dict[int, bytearray] = field(default_factory=dict, repr=False)
    # Of a party that lost roles: which, and when it lost each for the last time.
    _roles_lost: dict[str, dict[str, datetime]] = field(default_factory=dict, repr=False)

    @classmethod
    def rooted(
        cls, catalogue: Catalogue, *, did: str, key: PublicKey, founders: Iterable[Founder] = ()
    ) -> KeyRing:
        """Return the ring that knows only the identity service itself, and whom it may register unasked."""
        root = Founder(did, "service", ("identity",), key)
        ring = cls(catalogue, founders={root.did: root})
        for founder in founders:
            # A DID that is named twice is what it is named first, as identity registers it.
            ring.founders.setdefault(founder.did, founder)
        request = Request.of_service(did)
        ring.apply(
            PartyRegistered(did=did, kind="service", keys=(key,), roles=("identity",), request=request)
        )
        return ring

    def fold(self, event: Event, *, offset: int | None = None, appended: datetime | None = None) -> Effect:
        """Fold one accepted identity event and return what it did, by the rule that everybody shares.

        `offset` is where the event stands; by default right after what is known. What it takes away counts
        from the event's `time` on, as it does in the ledger; or from when it was `appended` to the topic, for
        whoever judges records by when they were: so that what is folded anew is judged as it was.
        """
        subject, at = event.envelope.subject, self.position if offset is None else offset
        version = self.versions.get(subject, 0)

        def is_entitled() -> bool:
            objection = objection_to_event(event, self._standing)
            if objection is not None:
                self.unentitled[at] = objection
            return objection is None

        effect = effect_of(
            event, version=version, is_claimed=self.claims.__contains__, is_entitled=is_entitled
        )
        match effect:
            case Applied():
                page, place = divmod(at, _PAGE)
                self._effective.setdefault(page, bytearray(_PAGE))[place] = True
                self.versions[subject] = effect.version
                self.claims.update(claims_of(event))
                self.time = max(self.time, event.envelope.time)
                self.apply(event.data, at=appended or event.envelope.time)
                if isinstance(event.data, ShardsAssigned):
                    self.assignments.append((at + 1, event.data))
            case WithoutEffect():
                pass
            case _:
                assert_never(effect)
        return effect

    def apply(self, data: EventData, *, at: datetime = LONG_AGO) -> None:
        """Take one fact as it is, without regard to versions; data of other contexts changes nothing.

        `at` is when a revocation begins to count: what a key signed before stays judged as it was, or a
        state that is rebuilt from its topic would lack what its service had stated.
        """
        match data:
            case PartyRegistered():
                if data.did not in self.parties:
                    self._put(
                        Party(did=data.did, kind=data.kind, roles=frozenset(data.roles), member=data.member)
                    )
                    for key in data.keys:
                        self._add(data.did, key)
            case KeyAdded():
                if data.did in self.parties:
                    self._add(data.did, data.key)
            case KeyRevoked():
                known = self.keys.get(data.key_id)
                if known is not None and known.did == data.did and known.revoked_at is None:
                    self.keys[data.key_id] = replace(known, revoked_at=at)
            case RoleGranted():
                self._give_role(data.did, data.role)
            case RoleWithdrawn():
                self._take_role(data.did, data.role, at=at)
            case _:
                pass

    def took_effect(self, offset: int) -> bool:
        """Tell whether the event at an offset of the identity topic, which was folded, took effect.

        Other folds of that topic go by it: they judge later, when a key that was unknown then may be known.
        """
        page, place = divmod(offset, _PAGE)
        return page in self._effective and bool(self._effective[page][place])

    def operators(self, *, at: datetime) -> list[Operator]:
        """Return the operators of the network, and whether they can sign at that moment."""
        return self._standing.operators(at=at)

    @property
    def _standing(self) -> Standing:
        return Standing(self.catalogue, self.parties, self.keys, self.founders, self._held, self._governing)

    def key_for(self, key_id: str, *, at: datetime) -> KnownKey:
        """Return the key if it may sign at that moment.

        Raises:
            RejectedError: UNKNOWN_KEY, KEY_REVOKED, KEY_NOT_YET_VALID or KEY_EXPIRED.
        """
        known = self.keys.get(key_id)
        if known is None:
            raise RejectedError(Reason.UNKNOWN_KEY)
        if known.revoked_at is not None and at >= known.revoked_at:
            raise RejectedError(Reason.KEY_REVOKED)
        if at < known.valid_from:
            raise RejectedError(Reason.KEY_NOT_YET_VALID)
        if known.valid_until is not None and at >= known.valid_until:
            raise RejectedError(Reason.KEY_EXPIRED)
        return known

    def _add(self, did: str, key: PublicKey) -> None:
        # A key id stands for one key for ever, and only its own DID may hold it.
        if key.id in self.keys or key.id.partition("#")[0] != did:
            return
        try:
            public = key_of(key.multibase)
        except ValueError:
            return
        self._held.setdefault(did, []).append(key.id)
        self.keys[key.id] = KnownKey(
            key=public, did=did, valid_from=key.valid_from, valid_until=key.valid_until
        )

    def party_at(self, did: str, at: datetime) -> Party:
        """Return a registered party with the roles that count at that moment.

        What it signed before a role was taken from it stays judged as it was, or a state that is rebuilt
        from its topic would lack it. A role counts as soon as it is known, for clocks differ.
        """
        party = self.parties[did]
        since_lost = {role for role, lost_at in self._roles_lost.get(did, {}).items() if at < lost_at}
        return replace(party, roles=party.roles | since_lost) if since_lost else party

    def _put(self, party: Party) -> None:
        self.parties[party.did] = party
        (self._governing.add if "operator" in party.roles else self._governing.discard)(party.did)

    def _give_role(self, did: str, role: str) -> None:
        party = self.parties.get(did)
        if party is not None:
            self._put(replace(party, roles=party.roles | {role}))

    def _take_role(self, did: str, role: str, *, at: datetime) -> None:
        party = self.parties.get(did)
        if party is not None and role in party.roles:
            self._put(replace(party, roles=party.roles - {role}))
            lost = self._roles_lost.setdefault(did, {})
            lost[role] = max(at, lost.get(role, at))
