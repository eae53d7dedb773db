"""Scrubbing finds damage, tells it once, whatever is away or starts anew, and says when it is gone."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.archive.small_ledger import SmallLedger

from salus.anchoring.adapters.pacing import LISTED_BYTES, Pace, in_a_thread
from salus.anchoring.metrics import Metrics
from salus.anchoring.ports import StatedAt
from salus.anchoring.scrub_state import Known, State
from salus.anchoring.scrubbing import (
    FINDINGS_OF_A_KIND_MAX,
    MORE,
    SCRUB_KEY,
    SIGNATURE_SIZE,
    STATE_BYTES_MAX,
    Scrubber,
    Scrubbing,
)
from salus.archive import fsck as fsck_module
from salus.archive.duplicates import WindowSize
from salus.archive.fsck import Stores
from salus.archive.receipts import RecordPosition
from salus.archive.report import Finding
from salus.events.did import LocalSigner
from salus.events.effect import Applied, Outcome
from salus.ledger.block import header_key
from salus.ledger.tiles import tile_path
from salus.messaging import BrokerAwayError
from salus.objects import StoreAwayError, refuse_stray
from salus.objects.memory import MemoryObjects


@dataclass
class Alarms:
    """Remembers what was told. The ledger accepts it, if nothing else is said."""

    told: list[tuple[str, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    away: bool = False
    becomes: Outcome = field(default_factory=lambda: Applied(0))

    async def raise_alarm(self, finding: Finding, *, event_id: str) -> StatedAt:
        if self.away:
            raise BrokerAwayError("no broker")
        self.told.append((finding.code, finding.key))
        self.ids.append(event_id)
        return StatedAt(RecordPosition("salus.network.events", 0, len(self.ids) - 1), bytes(32))

    async def outcome(self, event_id: str, stated: StatedAt) -> Outcome:
        assert self.ids[stated.position.offset] == event_id
        return self.becomes


@dataclass
class Scrubbed:
    """A small ledger, what is told of it, and scrubbers over it."""

    ledger: SmallLedger
    alarms: Alarms = field(default_factory=Alarms)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self.scrubbing = Scrubbing(
            stores=self.ledger.stores,
            objects=self.ledger.log,
            trust=lambda: self.ledger.trust,
            alarms=self.alarms,
            signer=LocalSigner.from_seed(bytes(32)),
            metrics=Metrics(self.registry),
            pass_min=timedelta(hours=1),
            sleep=lambda _: asyncio.sleep(0),
        )

    async def scrub(self, passes: int = 1) -> None:
        """Make so many passes, each by a scrubber that has just started."""
        for _ in range(passes):
            scrubber = Scrubber(self.scrubbing)
            await scrubber._load()
            await scrubber.scrub()

    def metric(self, name: str) -> float:
        value = self.registry.get_sample_value(name)
        assert value is not None
        return value


@pytest.fixture
async def scrubbed() -> Scrubbed:
    ledger = SmallLedger()
    await ledger.fill()
    return Scrubbed(ledger)


def body_of(ledger: SmallLedger, shard: int, height: int) -> str:
    [key] = [k for k in ledger.ledger.objects if k.startswith(f"shard/{shard}/{height:012d}/body")]
    return key


async def test_a_whole_archive_says_nothing(scrubbed: Scrubbed) -> None:
    await scrubbed.scrub(2)

    assert scrubbed.alarms.told == []
    assert scrubbed.metric("salus_scrub_pass_blocks_done") == 8
    assert scrubbed.metric("salus_scrub_last_full_pass_timestamp_seconds") > 0
    assert scrubbed.metric("salus_scrub_findings") == 0


@pytest.mark.parametrize("what", ["header", "body", "tile"])
async def test_damage_is_told_once_for_each_object_over_passes_and_restarts(
    scrubbed: Scrubbed, what: str
) -> None:
    ledger = scrubbed.ledger
    key = {
        "header": header_key(1, 1),
        "body": body_of(ledger, 0, 2),
        "tile": next(k for k in ledger.log.objects if k.startswith("tile/0")),
    }[what]
    ledger.flip("log" if what == "tile" else "ledger", key, 20)
    await scrubbed.scrub(3)

    assert [told for _, told in scrubbed.alarms.told] == [key]
    assert scrubbed.metric("salus_scrub_findings") == 1


async def test_what_kafka_did_not_take_is_told_later_under_the_same_id(scrubbed: Scrubbed) -> None:
    scrubbed.ledger.flip("ledger", body_of(scrubbed.ledger, 0, 2), 20)
    scrubbed.alarms.away = True
    await scrubbed.scrub()
    scrubbed.alarms.away = False
    await scrubbed.scrub()

    assert len(scrubbed.alarms.told) == 1


async def test_told_but_not_noted_it_is_told_again_under_the_same_id(scrubbed: Scrubbed) -> None:
    scrubbed.ledger.flip("ledger", body_of(scrubbed.ledger, 0, 2), 20)
    scrubbed.alarms.away = True
    await scrubbed.scrub()
    before = scrubbed.ledger.log.objects[SCRUB_KEY]
    scrubbed.alarms.away = False
    await scrubbed.scrub()
    scrubbed.ledger.log.objects[SCRUB_KEY] = before
    await scrubbed.scrub()

    assert len(scrubbed.alarms.ids) == 2
    assert len(set(scrubbed.alarms.ids)) == 1


async def test_what_was_repaired_and_breaks_again_is_told_again(scrubbed: Scrubbed) -> None:
    key = body_of(scrubbed.ledger, 0, 2)
    for _ in range(2):
        scrubbed.ledger.flip("ledger", key, 20)
        await scrubbed.scrub()
        scrubbed.ledger.flip("ledger", key, 20)
        await scrubbed.scrub()

    assert [told for _, told in scrubbed.alarms.told] == [key, key]
    assert len(set(scrubbed.alarms.ids)) == 2
    assert scrubbed.metric("salus_scrub_findings") == 0


class GoesAway(MemoryObjects):
    """A bucket that is away for one key."""

    hidden: str = ""

    async def get(self, key: str, *, bytes_max: int) -> bytes:
        if key == self.hidden:
            raise StoreAwayError(key, "away")
        return await super().get(key, bytes_max=bytes_max)


async def test_a_pass_that_was_broken_off_goes_on_where_it_was(
    scrubbed: Scrubbed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsck_module, "BLOCKS_A_STRETCH", 1)
    objects = GoesAway()
    objects.objects = scrubbed.ledger.ledger.objects
    objects.hidden = body_of(scrubbed.ledger, 0, 3)
    damaged = body_of(scrubbed.ledger, 0, 1)
    scrubbed.ledger.flip("ledger", damaged, 20)
    # With a larger window of duplicates it reads more bodies before the place back.
    stores, window = Stores(objects, scrubbed.ledger.log), WindowSize(blocks=1)
    scrubbed.scrubbing = replace(scrubbed.scrubbing, stores=stores, window=window)
    scrubber = Scrubber(scrubbed.scrubbing)
    await scrubber._load()
    with pytest.raises(StoreAwayError):
        await scrubber.scrub()
    await scrubber._save()
    objects.hidden = damaged
    await scrubbed.scrub()

    assert [told for _, told in scrubbed.alarms.told] == [damaged]
    assert scrubbed.metric("salus_scrub_findings") == 1


async def test_what_a_single_look_at_shards_shows_is_not_told_before_a_second_one(scrubbed: Scrubbed) -> None:
    chain = scrubbed.ledger.chains[1]
    await chain.seal_samples(1)
    await scrubbed.ledger.anchor.append()
    await scrubbed.scrub()
    once = list(scrubbed.alarms.told)
    await scrubbed.scrub()

    assert once == []
    assert {code for code, _ in scrubbed.alarms.told} == {"coverage-overlap"}


# case F9
@pytest.mark.parametrize("before", [True, False])
async def test_worthless_objects_in_the_log_s_bucket_keep_no_damage_of_the_ledger_from_being_told(
    scrubbed: Scrubbed, *, before: bool
) -> None:
    key, ledger = body_of(scrubbed.ledger, 0, 2), scrubbed.ledger
    if before:
        del ledger.ledger.objects[key]
    for n in range(1000):
        ledger.log.plant(tile_path(5, n), b"x")
    await scrubbed.scrub()
    if not before:
        del ledger.ledger.objects[key]
    await scrubbed.scrub(2)

    told = scrubbed.alarms.told
    assert [told_key for _, told_key in told].count(key) == 1
    assert len(told) == FINDINGS_OF_A_KIND_MAX + 2
    assert [code for code, _ in told].count(MORE) == 1
    assert scrubbed.metric("salus_scrub_findings") == 1000 + 2

    for n in range(1000):
        ledger.log.objects.pop(tile_path(5, n))
    await scrubbed.scrub()
    assert scrubbed.metric("salus_scrub_findings") == 1


async def test_what_is_wrong_with_the_ledger_is_told_first(scrubbed: Scrubbed) -> None:
    key = body_of(scrubbed.ledger, 0, 2)
    scrubbed.alarms.away = True
    scrubbed.ledger.log.plant(tile_path(5, 0), b"x")
    scrubbed.ledger.flip("ledger", key, 20)
    await scrubbed.scrub()
    scrubbed.alarms.away = False
    await scrubbed.scrub()

    assert [told for _, told in scrubbed.alarms.told] == [key, tile_path(5, 0)]


OTHERS = [
    pytest.param(None, id="unsigned"),
    pytest.param(LocalSigner.from_seed(b"\x01" * 32), id="another key"),
]


@pytest.mark.parametrize("other", OTHERS)
async def test_who_writes_to_the_bucket_keeps_it_neither_from_looking_nor_from_telling(
    scrubbed: Scrubbed, other: LocalSigner | None
) -> None:
    key = body_of(scrubbed.ledger, 0, 2)
    now = datetime.now(UTC)
    finding = Finding(severity="error", code="x", bucket="ledger", key=key, detail="")
    known = Known(finding, 5, 5, since=now, accepted=True)
    state = State(number=5, began=now, reached={0: 10**9, 1: 10**9}, known=(known,))
    sealed = Scrubber(replace(scrubbed.scrubbing, signer=other or scrubbed.scrubbing.signer))._sealed(state)
    await scrubbed.ledger.log.put(SCRUB_KEY, sealed if other else sealed[SIGNATURE_SIZE:])
    scrubbed.ledger.flip("ledger", key, 20)
    await scrubbed.scrub()

    assert [told for _, told in scrubbed.alarms.told] == [key]


async def test_a_state_that_is_too_large_is_replaced(scrubbed: Scrubbed) -> None:
    # case F8
    scrubbed.ledger.log.plant(SCRUB_KEY, bytes(STATE_BYTES_MAX + 1))
    await scrubbed.scrub()

    assert len(scrubbed.ledger.log.objects[SCRUB_KEY][0]) < STATE_BYTES_MAX
    assert scrubbed.metric("salus_scrub_findings") == 0


async def test_no_bit_of_where_it_stood_can_be_changed(scrubbed: Scrubbed) -> None:
    await scrubbed.scrub()
    sealed = scrubbed.ledger.log.objects[SCRUB_KEY]
    for place in range(0, len(sealed), 7):
        scrubbed.ledger.flip("log", SCRUB_KEY, place)
        scrubber = Scrubber(scrubbed.scrubbing)
        await scrubber._load()
        scrubbed.ledger.flip("log", SCRUB_KEY, place)
        assert scrubber._state == State()


async def test_a_pass_is_due_although_one_is_said_to_have_ended_in_the_far_future(scrubbed: Scrubbed) -> None:
    scrubber = Scrubber(replace(scrubbed.scrubbing, pass_min=timedelta()))
    await scrubbed.ledger.log.put(
        SCRUB_KEY, scrubber._sealed(State(number=5, ended=datetime.max.replace(tzinfo=UTC)))
    )
    await scrubber._load()
    async with asyncio.timeout(60):
        await scrubber._wait_until_due()

    assert scrubber._state.number == 5


async def test_stray_objects_are_counted_and_the_pass_goes_on(scrubbed: Scrubbed) -> None:
    """Case L2: scrubbing stood still for ever, and `/readyz` said nothing."""
    scrubbed.ledger.ledger.plant("shard/0/note\n.txt", b"x")
    scrubbed.ledger.log.plant("tile/note\n.txt", b"x")
    scrubbed.ledger.flip("ledger", body_of(scrubbed.ledger, 0, 1), 60)

    await scrubbed.scrub()

    assert scrubbed.metric("salus_scrub_unknown_objects") == 2
    assert scrubbed.metric("salus_scrub_findings") == 1
    assert scrubbed.metric("salus_scrub_last_full_pass_timestamp_seconds") > 0


async def test_two_scrubbers_do_not_write_over_each_other(scrubbed: Scrubbed) -> None:
    first, second = Scrubber(scrubbed.scrubbing), Scrubber(scrubbed.scrubbing)
    await first._load()
    await second._load()
    await first.scrub()
    with pytest.raises(Exception, match=SCRUB_KEY):
        await second.scrub()
    await second.scrub()

    assert second._state.number == 2


async def test_it_reads_no_faster_than_it_may() -> None:
    read: list[int] = []
    objects = MemoryObjects()
    await objects.put("a", bytes(1000))
    pace = Pace(100_000, read.append)
    loop = asyncio.get_running_loop()
    began = loop.time()
    slow = pace.slow(objects)
    for _ in range(20):
        await slow.get("a", bytes_max=1 << 30)
    listed = [entry.key async for entry in slow.list(on_stray=refuse_stray)]

    assert loop.time() - began >= 0.2
    assert (sum(read), listed) == (20_000 + LISTED_BYTES, ["a"])


async def test_it_ends_when_it_is_cancelled_while_a_pass_ends(scrubbed: Scrubbed) -> None:
    ending, ended = asyncio.Event(), asyncio.Event()

    async def slow_to_end(_: float) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ending.set()
            await ended.wait()

    scrubber = Scrubber(replace(scrubbed.scrubbing, sleep=slow_to_end))
    await scrubber._load()
    passing = asyncio.create_task(scrubber.scrub())
    await ending.wait()
    passing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await passing


async def test_work_in_a_thread_ends_when_it_is_cancelled() -> None:
    began, ended = asyncio.Event(), []
    loop = asyncio.get_running_loop()

    async def work() -> None:
        loop.call_soon_threadsafe(began.set)
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(asyncio.get_running_loop() is not loop)

    task = asyncio.create_task(in_a_thread(work))
    await began.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert ended == [True]


async def test_work_in_a_thread_that_fails_fails_here() -> None:
    async def work() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_a_thread(work)
