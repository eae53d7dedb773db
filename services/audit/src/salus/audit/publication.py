"""What is published of the trail: whole blocks, each compared with its header, in each shard's order.

How far that is stands in the database, which others may be able to write. So it is signed by audit: somebody
else can have blocks published again, which readers pass over by their uids, and none left out.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import structlog

from salus.audit.domain.entry import TrailEntry
from salus.audit.domain.fhir import audit_event_of
from salus.audit.domain.network import Surroundings
from salus.audit.domain.ocsf import ocsf_of
from salus.audit.handlers import Bell
from salus.audit.metrics import ENTRIES_PUBLISHED
from salus.audit.ports import DamagedTrailError, Ledger, Message, OutOfReachError, Outputs, Published, Trail
from salus.ledger.block import Header, open_header
from salus.ledger.errors import BlockError
from salus.ledger.key_periods import Keys
from salus.ledger.merkle import leaf_hash, root_of
from salus.runtime.supervisor import failed, succeeded

PUBLISHED_AT_ONCE_MAX = 500
RETRY_S = 1.0

_LEAF_HASH = re.compile("[0-9a-f]{64}")
_log = structlog.get_logger()


@dataclass
class Publisher:
    """Publishes what is indexed.

    `learn` brings the keys up to date by which audit's own signatures are known, or raises OutOfReachError.
    """

    ledger: Ledger
    trail: Trail
    shards: Mapping[int, Keys]
    outputs: Outputs
    around: Surroundings
    learn: Callable[[], Awaitable[object]]
    _told: set[int] = field(default_factory=set)

    async def run(self, *, grown: Bell, poll_s: float) -> None:
        """Publish until cancelled; a part that is away, or a row to be repaired, is waited for."""
        while True:
            try:
                any_left = await self.round()
            except (OutOfReachError, DamagedTrailError) as error:
                failed(error)
                _log.warning("publishing waits", error=str(error))
                await asyncio.sleep(RETRY_S)
                continue
            succeeded()
            if not any_left:
                await grown.wait(poll_s)

    async def round(self) -> bool:
        """Publish the next block of each shard; tell whether there was one.

        A shard whose rows are not those of its block waits for their repair, and the others go on.

        Raises:
            DamagedTrailError: so it is with a shard.
            OutOfReachError: Kafka, the archive or the database is away; what was not remembered comes again.
        """
        damage, any_left = None, False
        for shard in tuple(self.shards):
            try:
                any_left |= await self.publish_next(shard) is not None
            except DamagedTrailError as error:
                damage = error
        if damage is not None:
            raise damage
        return any_left

    async def publish_next(self, shard: int) -> int | None:
        """Publish the next block of a shard; return how many entries it has, None if none is indexed.

        Topics first, then the mark: a crash in between publishes the same messages again, with the same
        ids, and leaves no gap.
        """
        height = await self._published(shard)
        if (await self.trail.tip(shard)).height <= height:
            return None
        note = await self.ledger.header(shard, height)
        if note is None:
            # The database says more than there is.
            return None
        entries = await self._entries(shard, height, note)
        for start in range(0, len(entries), PUBLISHED_AT_ONCE_MAX):
            some = entries[start : start + PUBLISHED_AT_ONCE_MAX]
            await self.outputs.publish(await asyncio.to_thread(self._messages, some, messages_of))
            ENTRIES_PUBLISHED.inc(len(some))
        proof = await asyncio.to_thread(self.outputs.sign, self._statement(shard, height + 1))
        await self.trail.set_published(shard, Published(height + 1, proof))
        return len(entries)

    async def correct(self, entries: Sequence[TrailEntry]) -> None:
        """Publish what entries say that were not as the ledger makes them, and may be published so.

        Raises:
            OutOfReachError: Kafka is away.
        """
        for start in range(0, len(entries), PUBLISHED_AT_ONCE_MAX):
            some = entries[start : start + PUBLISHED_AT_ONCE_MAX]
            await self.outputs.publish(await asyncio.to_thread(self._messages, some, corrections_of))

    async def _published(self, shard: int) -> int:
        """Return up to which height a shard is published: 0 unless audit signed it."""
        mark = await self.trail.published(shard)
        if mark is None:
            return 0
        statement = self._statement(shard, mark.height)
        if not self.outputs.is_own(statement, mark.proof):
            # A key of another start is known only from the identity topic.
            await self.learn()
            if not self.outputs.is_own(statement, mark.proof):
                if shard not in self._told:
                    _log.error("audit did not say that this is published: it is again", shard=shard)
                self._told.add(shard)
                return 0
        self._told.discard(shard)
        return mark.height

    async def _entries(self, shard: int, height: int, note: bytes) -> list[TrailEntry]:
        try:
            header = open_header(note, self.shards[shard])
        except BlockError as error:
            raise OutOfReachError(f"shard {shard} block {height} does not verify: {error.code}") from None
        found = await self.trail.block(shard, height, limit=header.leaves + 1)
        entries = [each.entry for each in found]
        _require_leaves_of(header, note, entries, shard=shard, height=height)
        return entries

    def _statement(self, shard: int, height: int) -> bytes:
        around = self.around
        parts = (around.origin, around.ocsf_topic, around.fhir_topic, str(shard), str(height))
        return "\n".join(("salus.health/audit-published/v1", *parts, "")).encode()

    def _messages(
        self,
        entries: Sequence[TrailEntry],
        of: Callable[[TrailEntry, Surroundings], Sequence[Message]],
    ) -> list[Message]:
        return [message for each in entries for message in of(each, self.around)]


def _require_leaves_of(
    header: Header, note: bytes, entries: Sequence[TrailEntry], *, shard: int, height: int
) -> None:
    """Raise DamagedTrailError unless these are the leaves of the block, all of them and no others."""
    sealed = {(header.time, leaf_hash(note).hex())}
    is_whole = (
        header.height == height
        and [entry.place.index for entry in entries] == list(range(header.leaves))
        and {(entry.place.sealed_at, entry.place.header_hash) for entry in entries} <= sealed
        and all(map(_LEAF_HASH.fullmatch, (entry.uid for entry in entries)))
        and root_of([bytes.fromhex(entry.uid) for entry in entries]) == header.root
    )
    if not is_whole:
        raise DamagedTrailError(f"shard {shard} block {height}", ["leaves"])


def messages_of(entry: TrailEntry, around: Surroundings) -> tuple[Message, Message]:
    """Return what is published about an entry: OCSF for the SOC, FHIR for health systems."""
    # By actor for those who watch what people do, by patient for those who keep a patient's record.
    return (
        Message(
            topic=around.ocsf_topic,
            key=entry.actor or entry.uid,
            value=msgspec.json.encode(ocsf_of(entry, around)),
            uid=entry.uid,
            content_type="application/json",
        ),
        Message(
            topic=around.fhir_topic,
            key=entry.facts.patient or entry.actor or entry.uid,
            value=msgspec.json.encode(audit_event_of(entry, around)),
            uid=entry.uid,
            content_type="application/fhir+json",
        ),
    )


def corrections_of(entry: TrailEntry, around: Surroundings) -> tuple[Message, Message]:
    """Return what is published of an entry that was changed, and may be published as it never was.

    Readers pass over a uid that they have seen, so these have one of their own. The FHIR id is the same as
    before, so that the resource takes the false one's place.
    """
    content = hashlib.sha256(msgspec.json.encode(entry)).hexdigest()
    uid = hashlib.sha256(f"salus.health/correction/v1\n{entry.uid}\n{content}\n".encode()).hexdigest()
    ocsf = ocsf_of(entry, around)
    ocsf["metadata"]["uid"] = uid
    ocsf["unmapped"]["corrects"] = entry.uid
    event, resource = messages_of(entry, around)
    return replace(event, value=msgspec.json.encode(ocsf), uid=uid), replace(resource, uid=uid)
