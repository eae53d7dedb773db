"""Whose key may sign what, and when: the fold of the identity topic that every verifier keeps."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from salus.events.catalogue import (
    EventData,
    KeyAdded,
    KeyRevoked,
    PartyKind,
    PartyRegistered,
    PublicKey,
    RoleGranted,
    RoleWithdrawn,
    ShardsAssigned,
)
from salus.events.did import key_of
from salus.events.envelope import Event
from salus.events.errors import Reason, RejectedError

LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Party:
    """Who controls a key: the DID, what kind of party it is, its roles and the member it acts for."""

    did: str
    kind: PartyKind
    roles: frozenset[str]
    member: str | None


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A public key and when it may sign: from `valid_from` on, before `valid_until` and `revoked_at`."""

    key: Ed25519PublicKey
    did: str
    valid_from: datetime
    valid_until: datetime | None
    revoked_at: datetime | None = None


@dataclass
class KeyRing:
    """The parties and keys known at one position of the identity topic.

    `position` is the offset after the last identity event that was folded, and `time` the latest time
    that one of them states: whoever judges by the ring judges at `time` or later, so that a revocation it
    knows of counts although clocks differ. The ring starts with the root party alone: the identity service,
    named in the network file that everyone holds. `assignments` are the partitions' assignments to shards
    that were stated, each with the position after it; what they come to is `salus.events.sharding`.
    """

    parties: dict[str, Party] = field(default_factory=dict)
    keys: dict[str, KnownKey] = field(default_factory=dict)
    position: int = 0
    versions: dict[str, int] = field(default_factory=dict)
    time: datetime = LONG_AGO
    assignments: list[tuple[int, ShardsAssigned]] = field(default_factory=list)

    @classmethod
    def rooted(cls, *, did: str, key: PublicKey) -> KeyRing:
        """Return the ring that knows only the identity service itself."""
        ring = cls()
        ring.apply(PartyRegistered(did=did, kind="service", keys=(key,), roles=("identity",)))
        return ring

    def fold(self, event: Event, *, offset: int | None = None) -> None:
        """Fold one accepted identity event; one that expects another version of its party is stale.

        The identity service refuses a stale event too, so ring and service always agree. `offset` is where
        the event stands; by default right after what is known.
        """
        expected, subject = event.envelope.expectedversion, event.envelope.subject
        if expected is not None:
            if expected != self.versions.get(subject, 0):
                return
            self.versions[subject] = expected + 1
        self.time = max(self.time, event.envelope.time)
        self.apply(event.data, at=event.envelope.time)
        if isinstance(event.data, ShardsAssigned):
            self.assignments.append(((self.position if offset is None else offset) + 1, event.data))

    def apply(self, data: EventData, *, at: datetime = LONG_AGO) -> None:
        """Take one fact as it is, without regard to versions; data of other contexts changes nothing.

        `at` is when a revocation begins to count: what a key signed before stays judged as it was, or a
        state that is rebuilt from its topic would lack what its service had stated.
        """
        match data:
            case PartyRegistered():
                if data.did not in self.parties:
                    self.parties[data.did] = Party(
                        did=data.did, kind=data.kind, roles=frozenset(data.roles), member=data.member
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
                self._set_roles(data.did, add={data.role})
            case RoleWithdrawn():
                self._set_roles(data.did, remove={data.role})
            case _:
                pass

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
        self.keys[key.id] = KnownKey(
            key=public, did=did, valid_from=key.valid_from, valid_until=key.valid_until
        )

    def _set_roles(
        self, did: str, *, add: frozenset[str] | set[str] = frozenset(), remove: set[str] | None = None
    ) -> None:
        party = self.parties.get(did)
        if party is not None:
            self.parties[did] = replace(party, roles=(party.roles | add) - (remove or set()))
