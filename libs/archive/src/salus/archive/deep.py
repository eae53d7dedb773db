"""Judges every event's signature again, by the identity state at the position that its block recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from salus.archive.blocks import BlockArchive
from salus.archive.body import ACCEPTED
from salus.archive.check_body import Blamed
from salus.archive.check_log import LogState
from salus.archive.columns import Columns, columns_of_body
from salus.archive.errors import ArchiveError
from salus.archive.report import Finding
from salus.archive.trust import Trust
from salus.events.catalogue import Catalogue
from salus.events.contexts.identity import PartyRegistered
from salus.events.envelope import decode_event
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import type_of
from salus.events.identity_position import IdentityTimes, PositionFault, newest_judged, position_fault
from salus.events.keyring import KeyRing
from salus.events.rights import Objection
from salus.events.sealed_rows import SealedRow, judged_again, refuted
from salus.events.sharding import Sharding
from salus.ledger.block import REJECTED_PREFIX, Header, open_header
from salus.ledger.errors import BlockError
from salus.ledger.key_periods import Keys
from salus.ledger.merkle import leaf_hash
from salus.ledger.records import appended_at
from salus.objects import ObjectStore

BLOCKS_AT_ONCE = 16
IDENTITY_TOPIC = type_of(PartyRegistered).topic
_SEALED_COLUMNS = [
    "topic", "partition", "offset", "timestamp", "status", "subject", "value", "digest", "signature",
]  # fmt: skip
_UNKNOWN_TYPE = f"{REJECTED_PREFIX}{Reason.UNKNOWN_TYPE}"


@dataclass(frozen=True, slots=True)
class IdentityEvent:
    """An event of the identity topic that is sealed as accepted, as it stands in its block."""

    row: SealedRow

    @property
    def offset(self) -> int:
        """Where it stands."""
        return self.row.offset

    def fold_into(self, ring: KeyRing) -> None:
        """Fold it into a ring that knows all before it; what is no event of the release changes nothing."""
        try:
            event = decode_event(self.row.value or b"", ring.catalogue)
        except RejectedError:
            return
        ring.fold(event, appended=appended_at(self.row.timestamp_ms), offset=self.offset)


@dataclass(frozen=True, slots=True)
class IdentityTopic:
    """What blocks hold of the identity topic, in offset order, and the offset up to which they cover it."""

    events: Sequence[IdentityEvent] = ()
    sealed_to: int = 0


class Judge:
    """Repeats the sequencer's judgement; blocks must come with heights that do not go back."""

    def __init__(self, trust: Trust, topic: IdentityTopic, catalogue: Catalogue) -> None:
        if trust.root_did is None or trust.root_key is None:
            raise ValueError("the network file names no root of identity")
        if not trust.origin:
            raise ValueError("the network file names no origin of the network")
        self._new_ring = partial(
            KeyRing.rooted,
            catalogue,
            network=trust.origin,
            did=trust.root_did,
            key=trust.root_key,
            founders=trust.founding,
        )
        self._founders = trust.founders
        self._topic = topic
        self._identities = topic.events
        self._folded = 0
        self._ring = self._new_ring()

    def ring_at(self, position: int) -> KeyRing:
        """Return the ring after the identity events below an offset."""
        if self._ring.position > position:
            self._ring = self._new_ring()
            self._folded = 0
        while self._folded < len(self._identities) and self._identities[self._folded].offset < position:
            self._identities[self._folded].fold_into(self._ring)
            self._folded += 1
        self._ring.position = position
        return self._ring

    @cached_property
    def whole(self) -> KeyRing:
        """The ring after all identity events."""
        ring = self._new_ring()
        for event in self._identities:
            event.fold_into(ring)
        return ring

    @cached_property
    def _times(self) -> IdentityTimes:
        return IdentityTimes((event.offset, event.row.timestamp_ms) for event in self._identities)

    def check(self, shard: int, header: Header, data: bytes) -> tuple[int, list[Finding]]:
        """Return how many rows could be judged again, and those whose verdict was another."""
        blamed = Blamed(shard, header)
        strays = self._strays(shard, header)
        columns = columns_of_body(data)
        fault = self._fault_of(header, columns)
        # By a position that is not true, nobody can have judged: each record is judged by its time alone.
        ring = self.ring_at(header.identity[2]) if fault is None else self.whole
        verdicts = self._verdicts(columns, ring)
        lacking = ring.lacking
        found = [] if fault is None else [blamed.finding(fault.code, fault.detail)]
        for row, verdict in verdicts.items():
            if verdict == _UNKNOWN_TYPE and lacking and columns["status"][row] == ACCEPTED:
                # Whoever has the package knows; here nobody can say that the sequencer was wrong.
                roles = ", ".join(sorted(lacking))
                why = f"no package here declares the role {roles}: install it, and check again"
                found.append(blamed.finding("package-missing", why, row=row, columns=columns))
            elif verdict != columns["status"][row]:
                said = f"sealed as {columns['status'][row]}, judged again it is {verdict}"
                found.append(blamed.finding("verdict-wrong", said, row=row, columns=columns))
        found += [
            blamed.note("not-entitled", f"{objection.code}: {objection.why}", row=row, columns=columns)
            for row, objection in self._unentitled_in(header, columns)
        ]
        return len(verdicts), [*(blamed.finding("handover-broken", stray) for stray in strays), *found]

    @cached_property
    def _unentitled(self) -> dict[int, Objection]:
        """The identity events that had no effect because who asked had no right to them, by offset."""
        return self.whole.unentitled

    def _unentitled_in(self, header: Header, columns: Columns) -> list[tuple[int, Objection]]:
        return [
            (row, self._unentitled[offset])
            for row, (topic, offset) in enumerate(zip(columns["topic"], columns["offset"], strict=True))
            if topic == header.identity[0] and offset in self._unentitled
        ]

    def _strays(self, shard: int, header: Header) -> list[str]:
        """Return what the shard keeps, or gives, against the assignment that the block knew."""
        sharding = Sharding.of(self._founders, self.ring_at(header.identity[2]).assignments)
        holders = sharding.now.holders
        given = {
            (h.topic, h.partition): sharding.shard_of(h.other) for h in header.handovers if h.way == "gave"
        }
        goes_on = [(at, holders.get(at, shard)) for at in header.next_offsets]
        kept = [f"it keeps {t} {p}, which is shard {home}'s" for (t, p), home in goes_on if home != shard]
        wrong = [
            f"it gives {t} {p} to shard {to}" for (t, p), to in given.items() if to != holders.get((t, p))
        ]
        return [f"{what} by assignment {sharding.now.number}" for what in (*kept, *wrong)]

    def _verdicts(self, columns: Columns, ring: KeyRing) -> dict[int, str]:
        return judged_again(_sealed_rows(columns), ring=ring)

    def _fault_of(self, header: Header, columns: Columns) -> PositionFault | None:
        return position_fault(
            header.identity[2],
            newest_ms=newest_judged(zip(columns["status"], columns["timestamp"], strict=True)),
            dated=header.time,
            times=self._times,
            sealed_to=self._topic.sealed_to,
        )


def _sealed_rows(columns: Columns) -> list[SealedRow]:
    return [SealedRow(*row) for row in zip(*(columns[name] for name in _SEALED_COLUMNS), strict=True)]


def rightly_accepted(trust: Trust, topic: IdentityTopic, catalogue: Catalogue) -> IdentityTopic:
    """Return the topic with only those events that were to be accepted: others say nothing of who is who.

    Each is judged by those before it. If all are right by the ring of all of them, they are: the first wrong
    one has no other wrong one to rest on.
    """
    rows = [event.row for event in topic.events]
    if not refuted(rows, judged_again(rows, ring=whole_ring(trust, topic, catalogue))):
        return topic
    right: list[IdentityEvent] = []
    ring = whole_ring(trust, IdentityTopic(), catalogue)
    for event in topic.events:
        if not refuted([event.row], judged_again([event.row], ring=ring)):
            right.append(event)
            event.fold_into(ring)
    return IdentityTopic(right, topic.sealed_to)


def whole_ring(trust: Trust, topic: IdentityTopic, catalogue: Catalogue) -> KeyRing:
    """Return the ring after all identity events."""
    return Judge(trust, topic, catalogue).whole


async def identity_events(
    objects: ObjectStore,
    verifiers: Mapping[int, Keys],
    heights: Mapping[int, set[int]],
    log: LogState,
) -> IdentityTopic:
    """Return what the blocks hold of the identity topic.

    A header that is, byte for byte, an entry of the log is not opened again if that entry has no such range.
    Damaged blocks are left out here; fsck names them, and what they held cannot vouch for anyone.
    """
    archive = BlockArchive(objects)
    limit = asyncio.Semaphore(BLOCKS_AT_ONCE)
    elsewhere = {
        leaf
        for place, leaf in zip(log.places, log.hashes, strict=True)
        if place is not None and place not in log.identities
    }

    async def of_block(shard: int, verifier: Keys, height: int) -> IdentityTopic:
        async with limit:
            try:
                note = await archive.header(shard, height) or b""
                if leaf_hash(note) in elsewhere:
                    return IdentityTopic()
                header = open_header(note, verifier)
                covered = [r.next for r in header.ranges if r.topic == IDENTITY_TOPIC and r.first < r.next]
                if covered:
                    events = identity_rows(await archive.body(shard, header))
                    return IdentityTopic(events, max(covered))
            except (BlockError, ArchiveError):
                pass
            return IdentityTopic()

    found = await asyncio.gather(
        *(
            of_block(shard, verifier, height)
            for shard, verifier in verifiers.items()
            for height in heights.get(shard, ())
        )
    )
    events = (event for topic in found for event in topic.events)
    return IdentityTopic(
        sorted(events, key=lambda event: event.offset),
        max((topic.sealed_to for topic in found), default=0),
    )


def identity_rows(body: bytes) -> list[IdentityEvent]:
    """Return the accepted events of the identity topic in a body; raises BodyError."""
    rows = _sealed_rows(columns_of_body(body, names=_SEALED_COLUMNS))
    return [IdentityEvent(row) for row in rows if row.topic == IDENTITY_TOPIC and row.status == ACCEPTED]
