"""Judges every event's signature again, by the identity state at the position that its block recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
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
from salus.events.envelope import decode_event
from salus.events.errors import SIGNATURE_REASONS, Reason, RejectedError
from salus.events.judging import accepted_record, judge_batch, verify_signature
from salus.events.keyring import KeyRing
from salus.events.rights import Objection
from salus.events.sharding import Sharding
from salus.ledger.block import REJECTED_PREFIX, Header, open_header
from salus.ledger.errors import BlockError
from salus.ledger.key_periods import Keys
from salus.ledger.merkle import leaf_hash
from salus.ledger.records import appended_at, records_of
from salus.objects import ObjectStore

BLOCKS_AT_ONCE = 16
_UNKNOWN_TYPE = f"{REJECTED_PREFIX}{Reason.UNKNOWN_TYPE}"


@dataclass(frozen=True, slots=True)
class IdentityEvent:
    """An accepted event of the identity topic: its offset, when the broker appended it, and its value."""

    offset: int
    timestamp_ms: int
    value: bytes

    def fold_into(self, ring: KeyRing) -> None:
        """Fold it into a ring that knows all before it."""
        appended = appended_at(self.timestamp_ms)
        ring.fold(decode_event(self.value, ring.catalogue), appended=appended, offset=self.offset)


class Judge:
    """Repeats the sequencer's judgement; blocks must come with heights that do not go back."""

    def __init__(self, trust: Trust, identities: Sequence[IdentityEvent], catalogue: Catalogue) -> None:
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
        self._identities = identities
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

    def check(self, shard: int, header: Header, data: bytes) -> tuple[int, list[Finding]]:
        """Return how many rows could be judged again, and those whose verdict was another."""
        blamed = Blamed(shard, header)
        strays = self._strays(shard, header)
        columns = columns_of_body(data)
        verdicts = self._verdicts(header, columns)
        lacking = self.ring_at(header.identity[2]).lacking
        found: list[Finding] = []
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
        ring = self._new_ring()
        for event in self._identities:
            event.fold_into(ring)
        return ring.unentitled

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

    def _verdicts(self, header: Header, columns: Columns) -> dict[int, str]:
        ring = self.ring_at(header.identity[2])
        statuses = columns["status"]
        accepted = [row for row, status in enumerate(statuses) if status == ACCEPTED]
        records = [
            accepted_record(
                topic=columns["topic"][row],
                partition=columns["partition"][row],
                offset=columns["offset"][row],
                timestamp_ms=columns["timestamp"][row],
                subject=columns["subject"][row],
                value=columns["value"][row],
                signature=columns["signature"][row],
            )
            for row in accepted
        ]
        verdicts = dict.fromkeys(accepted, ACCEPTED)
        for index, error in judge_batch(records_of(records), ring=ring).refused.items():
            verdicts[accepted[index]] = f"{REJECTED_PREFIX}{error.reason}"
        for row, status in enumerate(statuses):
            reason = status.removeprefix(REJECTED_PREFIX)
            if reason == Reason.MALFORMED_SIGNATURE and columns["signature"][row] is None:
                # What was no signature was not archived either, so there is nothing to judge again.
                continue
            # These depend on nothing but digest, signature and identity state, so they can be judged again
            # although the rejected value was not kept.
            if reason in SIGNATURE_REASONS:
                signature, digest = columns["signature"][row], columns["digest"][row]
                at = appended_at(columns["timestamp"][row])
                verdicts[row] = _signature_verdict(signature, digest, ring, at)
        return verdicts


def _signature_verdict(signature: bytes | None, digest: bytes, ring: KeyRing, at: datetime) -> str:
    try:
        verify_signature(signature, digest=digest, ring=ring, at=at)
    except RejectedError as error:
        return f"{REJECTED_PREFIX}{error.reason}"
    return ACCEPTED


def whole_ring(trust: Trust, identities: Sequence[IdentityEvent], catalogue: Catalogue) -> KeyRing:
    """Return the ring after all identity events."""
    return Judge(trust, identities, catalogue).ring_at(identities[-1].offset + 1 if identities else 0)


async def identity_events(
    objects: ObjectStore,
    verifiers: Mapping[int, Keys],
    heights: Mapping[int, set[int]],
    log: LogState,
) -> list[IdentityEvent]:
    """Return the accepted events of the identity topic, in offset order, from the blocks that hold any.

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

    async def of_block(shard: int, verifier: Keys, height: int) -> list[IdentityEvent]:
        async with limit:
            try:
                note = await archive.header(shard, height) or b""
                if leaf_hash(note) in elsewhere:
                    return []
                header = open_header(note, verifier)
                if any(r.topic == header.identity[0] and r.first < r.next for r in header.ranges):
                    return _identity_rows(header, await archive.body(shard, header))
            except (BlockError, ArchiveError):
                pass
            return []

    found = await asyncio.gather(
        *(
            of_block(shard, verifier, height)
            for shard, verifier in verifiers.items()
            for height in heights.get(shard, ())
        )
    )
    return sorted((event for events in found for event in events), key=lambda event: event.offset)


def _identity_rows(header: Header, body: bytes) -> list[IdentityEvent]:
    columns = columns_of_body(body, names=["topic", "offset", "timestamp", "status", "value"])
    return [
        IdentityEvent(offset, timestamp, value)
        for topic, offset, timestamp, status, value in zip(*columns.values(), strict=True)
        if topic == header.identity[0] and status == ACCEPTED
    ]
