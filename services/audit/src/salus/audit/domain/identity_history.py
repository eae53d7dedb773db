"""Who belongs to whom at which position of the identity topic, as the ledger holds that topic."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left
from collections.abc import Mapping
from hashlib import sha256
from math import inf

from salus.events.catalogue import Catalogue
from salus.events.contexts.identity import PartyRegistered
from salus.events.effect import Applied, Effect
from salus.events.envelope import decode_event
from salus.events.errors import RejectedError
from salus.events.event_types import type_of
from salus.events.identity_position import IdentityTimes
from salus.events.keyring import KeyRing
from salus.events.rights import Objection
from salus.ledger.merkle import leaf_hash
from salus.ledger.records import appended_at

_TIMESTAMP = struct.Struct(">q")
_DIGEST_BYTES = 32
IDENTITY_TOPIC = type_of(PartyRegistered).topic


def stamped(value: bytes, timestamp_ms: int) -> bytes:
    """Return an event as it is kept: when the broker appended it, in 8 bytes, and its value."""
    return _TIMESTAMP.pack(timestamp_ms) + value


def _digest(before: bytes, offset: int, kept: bytes) -> bytes:
    return sha256(before + offset.to_bytes(8, "big", signed=True) + kept).digest()


class IdentityHistory:
    """The accepted events of the identity topic, folded in the order of their offsets.

    What it says of a position depends on the events below that position alone, however far it was folded.
    `times` has when the broker appended each of them.
    """

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        # A party's kind and member are fixed by its registration, which took effect at this offset.
        self._registered: dict[str, tuple[int, str | None]] = {}
        self._effects: dict[int, tuple[bytes, Effect]] = {}
        self._appended: list[float] = []
        self._offsets = array("q")
        # A digest of all events up to each of them, one after the other.
        self._digests = bytearray()
        self.times = IdentityTimes()

    @property
    def ring(self) -> KeyRing:
        """The key ring after all that was folded: by it every record of before is judged as it was then."""
        return self._ring

    @property
    def events(self) -> int:
        """How many events were folded."""
        return len(self._appended)

    def appended_after(self, events: int) -> float:
        """Return when the first event was appended after so many were folded, in seconds since 1970."""
        return min(self._appended[events:], default=inf)

    def digest_after(self, events: int) -> bytes:
        """Return a digest of the first so many events, which is that of no other ones."""
        end = events * _DIGEST_BYTES
        return bytes(self._digests[max(end - _DIGEST_BYTES, 0) : end])

    def is_of(self, kept: Mapping[int, bytes], *, below: int | None = None) -> bool:
        """Tell whether exactly these events were folded, or those below an offset, in this order."""
        digest = b""
        for offset, event in kept.items():
            digest = _digest(digest, offset, event)
        events = self.events if below is None else bisect_left(self._offsets, below)
        return len(kept) == events and digest == self.digest_after(events)

    @property
    def catalogue(self) -> Catalogue:
        """The event types that accepted events are read with: of the release, and of members."""
        return self._ring.types.known

    def fold(self, offset: int, kept: bytes) -> None:
        """Fold the next accepted event, as `stamped` keeps it; one of a newer type changes nothing."""
        appended, value = _TIMESTAMP.unpack_from(kept)[0], kept[_TIMESTAMP.size :]
        self.times.add(offset, appended)
        self._digests += _digest(self.digest_after(self.events), offset, kept)
        self._offsets.append(offset)
        self._appended.append(appended_at(appended).timestamp())
        try:
            event = decode_event(value, self._ring.catalogue)
        except RejectedError:
            return
        effect = self._ring.fold(event, appended=appended_at(appended), offset=offset)
        self._effects[offset] = leaf_hash(value), effect
        match event.data:
            case PartyRegistered() as data if isinstance(effect, Applied):
                member = data.did if data.kind == "member" else data.member
                self._registered.setdefault(data.did, (offset, member))
            case _:
                pass

    def effect_of(self, offset: int, digest: bytes) -> Effect | None:
        """Return what the event with this digest did; None if another one stands at the offset."""
        there, effect = self._effects.get(offset, (b"", None))
        return effect if there == digest else None

    def objection_to(self, offset: int) -> Objection | None:
        """Return why whoever asked for the event at an offset had no right to it, if that was so."""
        return self._ring.unentitled.get(offset)

    def member_of(self, did: str | None, *, at: int) -> str | None:
        """Return the member that a party is or acts for, if it was registered below a position."""
        offset, member = self._registered.get(did or "", (at, None))
        return member if offset < at else None
