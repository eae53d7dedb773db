"""Who stamps the topics while they are filled again: their senders only while something is appended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from types import SimpleNamespace
from typing import Any, Self, cast

import pytest

from salus.archive.replay import SealedRecord
from salus.cli import refilling, restoring
from salus.cli.refilling import OtherRecordError
from salus.cli.restoring import BY_BROKER, BY_SENDER, MARKED, Lost, Restored, restore
from salus.ledger.block import Range
from salus.ledger.checkpoint import Checkpoint
from salus.ledger.merkle import leaf_hash
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import (
    DeliveryError,
    MessagingError,
    Position,
    Record,
    RestoredRanges,
    TimestampReplacedError,
)

TIME = 1_795_305_600_000
TOPIC = "salus.consent.events"
OTHER = "salus.lab.events"


def value(offset: int) -> bytes:
    return b"value %d" % offset


class Block:
    """A block with records 0, 1, ... of both topics."""

    def __init__(self, first: int, end: int) -> None:
        self.first, self.end = first, end
        self.header = SimpleNamespace(ranges=[Range(t, 0, first, end) for t in (TOPIC, OTHER)])

    def records(self) -> list[SealedRecord]:
        return [
            SealedRecord(t, 0, n, TIME, "s", value(n), b"sig", "accepted", leaf_hash(value(n)))
            for t in (TOPIC, OTHER)
            for n in range(self.first, self.end)
        ]


class Broker:
    """Topics in memory: their records, who stamps them, and by whom each record was stamped."""

    def __init__(self) -> None:
        self.values: dict[str, list[bytes]] = {TOPIC: [], OTHER: []}
        self.stamps = dict.fromkeys((TOPIC, OTHER, MARKED), BY_BROKER)
        self.stamped: list[str] = []
        self.changed: list[str] = []
        self.fails_at = -1
        # After how many records an answer is of a batch that was sent again, or none comes.
        self.repeated: dict[int, MessagingError] = {}
        self.time = TIME
        self.loses = False
        self.stated = 0
        # What network.json says was appended again.
        self.restored: list[RestoredRanges] = []

    async def settings(self, _: str, topics: Iterable[str], __: str) -> dict[str, str]:
        return {topic: self.stamps[topic] for topic in topics}

    async def set_setting(self, _: str, topics: Iterable[str], __: str, to: str) -> None:
        await asyncio.sleep(0)
        self.changed.extend(topics)
        self.stamps.update(dict.fromkeys(topics, to))

    async def record(self, *_: Any) -> bool:
        if self.fails_at == len(self.stamped):
            raise MessagingError("away while it is stated")
        self.stated += 1
        return True


class Client:
    """A reader and producer of the library, of this broker."""

    broker: Broker

    def __init__(self, _: str, *, starts: Any = None, **__: str) -> None:
        [self._topic] = [topic for topic, _ in starts] if len(starts or ()) == 1 else [""]
        self._at = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def beginning_offsets(self) -> dict[tuple[str, int], int]:
        return dict.fromkeys([(TOPIC, 0), (OTHER, 0)], 0)

    async def end_offsets(self) -> dict[tuple[str, int], int]:
        return {(t, 0): len(self.broker.values[t]) for t in (TOPIC, OTHER)}

    async def position(self, *_: Any) -> int:
        return self._at

    async def poll(self, **_: Any) -> list[Record]:
        values = self.broker.values[self._topic]
        self._at = len(values)
        headers = ((SIGNATURE_HEADER, b"sig"),)
        return [Record(self._topic, 0, n, self.broker.time, b"s", v, headers) for n, v in enumerate(values)]

    async def enqueue(self, topic: str, **kept: Any) -> asyncio.Future[Position]:
        if self.broker.fails_at == len(self.broker.stamped):
            raise MessagingError("away")
        self.broker.stamped.append(self.broker.stamps[topic])
        if not self.broker.loses:
            self.broker.values[topic].append(kept["value"])
        done: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        if (said := self.broker.repeated.get(len(self.broker.stamped))) is not None:
            done.set_exception(said)
            return done
        done.set_result(Position(topic, 0, len(self.broker.values[topic]) - 1))
        return done


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    made = Broker()
    monkeypatch.setattr(Client, "broker", made, raising=False)

    async def checkpoint(_: object) -> Checkpoint:
        return Checkpoint("log", 2, bytes(32))

    async def nothing(*_: object) -> None: ...

    async def replay(*_: object) -> AsyncGenerator[Block, None]:
        for block in (Block(0, 2), Block(2, 4)):
            yield block

    replaced = {
        "_checkpoint": checkpoint,
        "logged_headers": nothing,
        "_make_topics": nothing,
        "LogReader": lambda _: None,
        "replay": replay,
        "topic_settings": made.settings,
        "set_topic_setting": made.set_setting,
        "_record": made.record,
        "Reader": Client,
    }
    for name, instead in replaced.items():
        monkeypatch.setattr(restoring, name, instead)
    monkeypatch.setattr(refilling, "Reader", Client)
    monkeypatch.setattr(refilling, "Producer", Client)
    return made


async def restored(**options: Any) -> Restored:
    stores = SimpleNamespace(ledger=None, log=None)
    network = SimpleNamespace(add_restored=Client.broker.restored.append)
    lost = SimpleNamespace(
        bootstrap="", partitions=[(TOPIC, 0), (OTHER, 0)], stores=stores, trust=None, network=network
    )
    return await restore(cast("Lost", lost), **options)


async def test_lost_topics_are_filled_under_the_old_times_and_stated(broker: Broker) -> None:
    done = await restored()

    assert broker.values == {t: [value(n) for n in range(4)] for t in (TOPIC, OTHER)}
    assert set(broker.stamped) == {BY_SENDER}
    assert set(broker.stamps.values()) == {BY_BROKER}
    assert (done.appended, done.next) == ({(TOPIC, 0): 4, (OTHER, 0): 4}, {(TOPIC, 0): 4, (OTHER, 0): 4})
    assert (done.recorded, broker.stated) == (True, 1)
    assert broker.restored == [{(t, 0): [(0, 4)] for t in (TOPIC, OTHER)}]


async def test_network_json_names_what_was_appended_to_a_topic_and_no_other(broker: Broker) -> None:
    # Red team B6, 1: what is named is believed, whoever dated it.
    broker.values = {TOPIC: [value(n) for n in range(4)], OTHER: [value(0)]}

    await restored()

    assert broker.restored == [{(OTHER, 0): [(0, 1), (1, 4)]}]


@pytest.mark.parametrize("has", [1, 4, 6])
async def test_of_topics_that_were_not_lost_nothing_is_changed(broker: Broker, has: int) -> None:
    """One of them has another record, and the other is whole, or lost in part, or has gone on."""
    broker.values[TOPIC] = [value(n) for n in range(has)]
    broker.values[OTHER] = [value(0), value(1), value(2), b"another"]
    with pytest.raises(OtherRecordError, match=f"{OTHER} 0 has another record at offset 3"):
        await restored()

    assert broker.changed == []
    assert broker.stamped == []


async def test_whole_topics_are_neither_changed_nor_stated(broker: Broker) -> None:
    broker.values = {t: [value(n) for n in range(5)] for t in (TOPIC, OTHER)}

    done = await restored()

    assert (done.appended, done.recorded, broker.stated, broker.stamped) == ({}, False, 0, [])
    assert broker.restored == []
    assert done.next == {(TOPIC, 0): 4, (OTHER, 0): 4}


async def test_an_error_leaves_the_stamps_to_the_broker_and_the_next_call_states_it(broker: Broker) -> None:
    broker.fails_at = 5
    with pytest.raises(MessagingError):
        await restored()
    stamps = {topic: broker.stamps[topic] for topic in (TOPIC, OTHER)}
    broker.fails_at = -1
    done = await restored()

    assert set(stamps.values()) == {BY_BROKER}
    assert (sum(done.appended.values()), broker.stated) == (3, 1)
    assert set(broker.stamped) == {BY_SENDER}


async def test_what_could_not_be_stated_is_stated_by_the_next_call_and_once(broker: Broker) -> None:
    broker.fails_at = 8
    with pytest.raises(MessagingError, match="while it is stated"):
        await restored()
    stamps = {topic: broker.stamps[topic] for topic in (TOPIC, OTHER)}
    broker.fails_at = -1
    done = [await restored(), await restored()]

    assert set(stamps.values()) == {BY_BROKER}
    assert [(d.appended, d.recorded) for d in done] == [({}, True), ({}, False)]
    # A call that was killed before may not have written it.
    assert broker.restored[1:] == [{(t, 0): [(0, 4)] for t in (TOPIC, OTHER)}]
    assert broker.stated == 1


async def test_ctrl_c_leaves_the_stamps_to_the_broker_however_often(broker: Broker) -> None:
    pressed = asyncio.Event()

    def press(_: int) -> None:
        task.cancel()
        pressed.set()

    task: asyncio.Task[Restored] = asyncio.create_task(restored(on_block=press))
    await pressed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert broker.stamped
    assert {broker.stamps[TOPIC], broker.stamps[OTHER]} == {BY_BROKER}


async def test_what_a_killed_call_left_to_the_senders_is_taken_back_at_once(broker: Broker) -> None:
    broker.stamps = dict.fromkeys(broker.stamps, BY_SENDER)
    broker.values[OTHER] = [b"another"]
    with pytest.raises(OtherRecordError):
        await restored()

    assert {broker.stamps[TOPIC], broker.stamps[OTHER]} == {BY_BROKER}


@pytest.mark.parametrize("said", [TimestampReplacedError(TOPIC), DeliveryError("no answer")])
async def test_an_answer_of_a_batch_that_was_sent_again_repeats_the_comparison(
    broker: Broker, said: MessagingError
) -> None:
    """Case: it ended with "takes the broker's time", and had to be called again."""
    broker.repeated = {3: said, 5: said}
    done = await restored()

    assert broker.values == {t: [value(n) for n in range(4)] for t in (TOPIC, OTHER)}
    assert (done.appended, done.next) == ({(TOPIC, 0): 4, (OTHER, 0): 4}, {(TOPIC, 0): 4, (OTHER, 0): 4})
    assert (done.recorded, broker.stated) == (True, 1)
    assert set(broker.stamps.values()) == {BY_BROKER}


async def test_a_topic_that_does_take_the_brokers_time_is_told(broker: Broker) -> None:
    broker.time += 1
    broker.repeated = {1: TimestampReplacedError(TOPIC)}
    with pytest.raises(OtherRecordError, match=f"{TOPIC} 0 has another record at offset 0"):
        await restored()

    assert broker.stated == 0


async def test_a_broker_that_takes_nothing_ends_it(broker: Broker) -> None:
    broker.repeated = {n: DeliveryError("no answer") for n in range(99)}
    broker.loses = True
    with pytest.raises(DeliveryError):
        await restored()

    assert broker.stated == 0
