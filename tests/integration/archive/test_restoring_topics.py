"""Topics are filled again from a real archive: at their old offsets, once, whatever breaks off midway."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from tests.integration.anchoring.network import AnchoredNetwork
from tests.integration.raw_kafka import produce, record_batch, send_dated

from salus.archive.building import BEGIN_MS, SampleRecord, sample_records
from salus.cli.refilling import OtherRecordError
from salus.cli.restoring import BY_BROKER, STAMPS, Lost, restore
from salus.devkit.addresses import Addresses
from salus.devkit.network import OPERATOR, NetworkFolder, Plan, create_topics
from salus.devkit.waiting import until
from salus.events.contexts import CATALOGUE
from salus.events.contexts.network import TopicsRestored
from salus.events.envelope import decode_event
from salus.events.event_types import type_of
from salus.ledger.records import SIGNATURE_HEADER, Flaw
from salus.messaging import Producer, Reader, Record, partitions_of, topic_settings
from salus.runtime.network import Network

STATED = type_of(TopicsRestored).topic


class BrokenOffError(Exception):
    """The power went out."""


@dataclass
class Ledger:
    """A ledger whose topic is nowhere: two partitions with good, rejected and missing records."""

    network: AnchoredNetwork
    topic: str
    lost: Lost

    async def fill(self) -> None:
        chain = self.network.chain
        signer = chain.event_signer
        for first in (0, 4, 8):
            await chain.seal(
                [
                    *sample_records(3, signer=signer, topic=self.topic, first=first),
                    SampleRecord(self.topic, 0, first + 3, b"bad", None, "rejected:missing-signature"),
                    *sample_records(2, signer=signer, topic=self.topic, partition=1, first=first // 4 * 5),
                ]
            )
        anchoring = await self.network.start_ready(SALUS_SCRUB_BYTES_PER_S_MAX="0")
        assert await anchoring.reaches(3)
        await anchoring.kill()

    async def records(self, topic: str = "") -> dict[tuple[int, int], Record]:
        starts = {(topic or self.topic, 0): 0} | ({} if topic else {(self.topic, 1): 0})
        found = {}
        restored = Network.read(self.network.folder.file).restored_ranges()
        async with Reader(self.lost.bootstrap, starts=starts, restored=restored) as reader:
            ends = await reader.end_offsets()
            while {at: await reader.position(*at) for at in starts} != ends:
                for record in await reader.poll(max_records=1000, timeout_ms=500):
                    found[record.partition, record.offset] = record
        return found

    def restored(self) -> set[tuple[int, int, int]]:
        """Return what network.json says about the topic: partition, first and next."""
        said = Network.read(self.network.folder.file).restored
        return {(each.partition, each.first, each.next) for each in said if each.topic == self.topic}

    async def stamps(self) -> set[str]:
        return set((await topic_settings(self.lost.bootstrap, [self.topic, STATED], STAMPS)).values())

    async def stated(self) -> list[TopicsRestored]:
        """Return what was stated about this ledger."""
        events = [decode_event(r.value or b"", CATALOGUE) for r in (await self.records(STATED)).values()]
        origin = self.network.policy.logs[0].name
        return [e.data for e in events if e.envelope.subject == origin and isinstance(e.data, TopicsRestored)]


@pytest.fixture
async def ledger(parts: Addresses, tmp_path: Path) -> AsyncIterator[Ledger]:
    await create_topics(parts.kafka_bootstrap, Plan())
    network = AnchoredNetwork(parts, NetworkFolder(tmp_path))
    await network.create()
    topic = f"test.{secrets.token_hex(4)}.events"
    described = json.loads(network.folder.file.read_bytes())
    described["shards"][0]["topics"] = {topic: [0, 1], STATED: [0], "salus.identity.events": [0]}
    network.folder.file.write_text(json.dumps(described))
    lost = Lost(
        bootstrap=parts.kafka_bootstrap,
        stores=network.address.open(),
        trust=network.trust,
        shard_topics=[{topic: [0, 1], STATED: [0]}],
        operator=network.folder.signer(OPERATOR),
        network=network.folder,
    )
    made = Ledger(network, topic, lost)
    await made.fill()
    yield made
    for process in network.started:
        await process.kill()


async def test_it_goes_on_where_it_broke_off_and_states_it_once(ledger: Ledger) -> None:
    def break_off(blocks: int) -> None:
        if blocks == 2:
            raise BrokenOffError

    with pytest.raises(BrokenOffError):
        await restore(ledger.lost, on_block=break_off)
    assert await ledger.stamps() == {BY_BROKER}
    assert await ledger.stated() == []

    done = await restore(ledger.lost)

    records = await ledger.records()
    assert done.recorded
    assert await ledger.stamps() == {BY_BROKER}
    assert sorted(offset for partition, offset in records if partition == 0) == list(range(12))
    assert sorted(offset for partition, offset in records if partition == 1) == list(range(12))
    for partition, offset in ((0, 3), (0, 11), (1, 2), (1, 9)):
        assert records[partition, offset].value is None
    first, last = records[0, 0], records[1, 11]
    assert (
        first.value
        == sample_records(1, signer=ledger.network.chain.event_signer, topic=ledger.topic)[0].value
    )
    # Red team B6, 1: network.json says so, and so whoever folds the topic takes them.
    assert ledger.restored() == {(0, 0, 12), (1, 0, 12)}
    assert {record.flaw for record in records.values()} == {None}
    assert (first.key or b"").startswith(b"urn:uuid:")
    assert (last.header(SIGNATURE_HEADER) or b"").startswith(b"v1 ")
    # As the broker that was lost had stamped them, and not when their blocks were sealed.
    assert [first.timestamp_ms, last.timestamp_ms] == [BEGIN_MS, BEGIN_MS + 11]
    [stated] = await ledger.stated()
    assert (stated.log_size, {p.topic: p.next for p in stated.partitions if p.partition == 0}) == (
        3,
        {ledger.topic: 12, STATED: 0},
    )

    again = await restore(ledger.lost)

    assert (again.appended, again.recorded, len(await ledger.stated())) == ({}, False, 1)


async def test_a_topic_that_somebody_wrote_to_is_not_filled(ledger: Ledger) -> None:
    await restore(replace(ledger.lost, shard_topics=[{ledger.topic: [0, 1]}]), on_block=lambda _: None)
    other = replace(ledger.lost, shard_topics=[{ledger.topic: [0, 1]}])
    async with Producer(ledger.lost.bootstrap, client_id="anybody") as producer:
        await producer.send(ledger.topic, key=b"k", value=b"later")
    assert (await restore(other)).appended == {}
    await ledger.network.chain.seal(
        sample_records(3, signer=ledger.network.chain.event_signer, topic=ledger.topic, first=12)
        + sample_records(
            3, signer=ledger.network.chain.event_signer, topic=ledger.topic, partition=1, first=12
        )
    )

    with pytest.raises(OtherRecordError, match=ledger.topic):
        await restore(other)
    assert await ledger.stamps() == {BY_BROKER}


async def test_what_a_sender_dated_before_the_loss_is_not_taken_for_restored(ledger: Ledger) -> None:
    # Red team B6, 1: the exception for restored records is none for those that the ledger refused.
    await restore(ledger.lost)
    evil = record_batch([(0, b"evil")])
    at = await send_dated(str(ledger.lost.bootstrap), ledger.topic, evil, BEGIN_MS)
    there = [
        record for (part, offset), record in (await ledger.records()).items() if not part and offset > 11
    ]
    chain = ledger.network.chain
    undated = [record.offset for record in there if record.flaw]
    await chain.seal(
        [
            SampleRecord(
                *(ledger.topic, 0, record.offset, record.value, None),
                f"rejected:{record.flaw or 'missing-signature'}",
                timestamp_ms=record.timestamp_ms,
            )
            for record in there
        ]
        + sample_records(3, signer=chain.event_signer, topic=ledger.topic, first=at + 1)
    )
    anchoring = await ledger.network.start_ready(SALUS_SCRUB_BYTES_PER_S_MAX="0")
    assert await anchoring.reaches(4)
    await anchoring.kill()

    done = await restore(ledger.lost)
    records = await ledger.records()

    assert done.appended == {(ledger.topic, 0): 3}
    taken = {offset for part, first, end in ledger.restored() if part == 0 for offset in range(first, end)}
    assert taken == {*range(at + 4)} - {*undated}
    assert records[0, at].flaw is Flaw.CREATE_TIME
    assert [records[0, at + n].flaw for n in (1, 2, 3)] == [None] * 3


async def test_offsets_that_a_sender_made_up_are_filled_in_a_new_topic_only(ledger: Ledger) -> None:
    # case F5: a chain that was hit goes on (docs/operators.md). Its last block covers offsets 12 to 1012 of a
    # topic that had one record more, with an offsetDelta of 1000.
    chain = ledger.network.chain
    spoiled = [SampleRecord(ledger.topic, 0, 1012, b"x", None, "rejected:missing-signature")]
    await restore(replace(ledger.lost, shard_topics=[{ledger.topic: [0, 1]}]))
    await produce(str(ledger.lost.bootstrap), ledger.topic, 0, record_batch([(1000, b"x")]))
    await chain.seal(spoiled)
    anchoring = await ledger.network.start_ready(SALUS_SCRUB_BYTES_PER_S_MAX="0")
    assert await anchoring.reaches(4)
    await anchoring.kill()
    with pytest.raises(OtherRecordError, match=ledger.topic):
        await restore(ledger.lost)

    admin = AdminClient({"bootstrap.servers": str(ledger.lost.bootstrap)})
    await asyncio.to_thread(admin.delete_topics([ledger.topic])[ledger.topic].result, 30)

    async def is_gone() -> bool:
        return not (await partitions_of(ledger.lost.bootstrap, [ledger.topic])).get(ledger.topic)

    assert await until(is_gone, deadline_s=60)
    await restore(ledger.lost)
    records = await ledger.records()
    async with Producer(ledger.lost.bootstrap, client_id="anybody") as producer:
        at = await (await producer.enqueue(ledger.topic, key=b"k", value=b"honest", partition=0))

    assert at.offset == chain.headers[-1].next_offsets[ledger.topic, 0] == 1013
    assert [records[0, offset].value for offset in range(12, 1013)] == [None] * 1001
