"""The event index on a disk that is full or rots: nothing depends on it, so nothing ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.anchoring.receipts import receipt_service
from tests.unit.anchoring.test_event_index import LAST, SOURCE, found, indexing, place
from tests.unit.anchoring.world import World

from salus.anchoring import event_lookup
from salus.anchoring.event_index import EventIndex, EventIndexError, FullIndexError, IndexedEvent, prints_of
from salus.anchoring.metrics import Metrics
from salus.anchoring.runner import Runner
from salus.client import EventName
from salus.devkit.waiting import until
from salus.runtime.problems import ProblemError
from salus.runtime.supervisor import LastingError

PAGE_BYTES = 4096
# Case MEDIUM 5 of red team B: both ended anchoring at every start.


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "events.sqlite"


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_lookup, "GAPS_LOOK_S", 0.01)
    monkeypatch.setattr(event_lookup, "PAUSE_S", 0.01)


def damage_pages(file: Path) -> None:
    """Overwrite every page but the first few, which hold the schema and the progress."""
    with file.open("r+b") as pages:
        for page in range(5, file.stat().st_size // PAGE_BYTES):
            pages.seek(page * PAGE_BYTES)
            pages.write(os.urandom(PAGE_BYTES))


def filled(file: Path, *, entries: int = 3) -> EventIndex:
    index = EventIndex(file, log="log")
    for entry in range(entries):
        prints = prints_of([("did:a", f"{entry}-{number}") for number in range(1000)])
        index.add(entry, LAST, [(pair, row, 0) for row, pair in enumerate(prints)])
    return index


def test_a_damaged_page_is_an_error_of_the_index_and_gone_when_it_is_cleared(file: Path) -> None:
    filled(file).close()
    damage_pages(file)
    index = EventIndex(file, log="log")
    assert index.size == 3

    with pytest.raises(EventIndexError) as damaged:
        index.find("did:a", "1-1")
    with pytest.raises(EventIndexError):
        index.add(3, LAST, [(pair, 0, 0) for pair in prints_of([("did:b", str(n)) for n in range(1000)])])
    index.clear()
    index.add(0, LAST, [(prints_of([("did:a", "1")])[0], 4, 9)])

    assert not isinstance(damaged.value, FullIndexError)
    assert (index.size, index.find("did:a", "1")) == (1, IndexedEvent(0, 4, 9))
    index.close()


def test_on_a_full_disk_an_entry_is_in_whole_or_not_at_all(file: Path) -> None:
    index = filled(file, entries=1)
    fill_up(index)
    prints = prints_of([("did:b", str(number)) for number in range(5000)])
    rows = [(pair, row, 0) for row, pair in enumerate(prints)]

    with pytest.raises(FullIndexError):
        index.add(1, LAST, rows)

    assert (index.size, index.find("did:b", "1"), index.find("did:a", "0-1")) == (
        1,
        None,
        IndexedEvent(0, 1, 0),
    )
    make_room(index)
    index.add(1, LAST, rows)
    assert index.find("did:b", "1") == IndexedEvent(1, 1, 0)
    index.close()


def test_a_file_that_cannot_be_made_is_tried_again_at_each_use(tmp_path: Path) -> None:
    index = EventIndex(tmp_path / "later" / "events.sqlite", log="log")
    with pytest.raises(EventIndexError) as told:
        index.find("did:a", "1")
    with pytest.raises(EventIndexError):
        index.add(0, LAST, [])
    assert str(tmp_path) not in str(told.value)
    (tmp_path / "later").mkdir()

    assert index.find("did:a", "1") is None
    index.add(0, LAST, [])
    assert index.size == 1
    index.close()


def fill_up(index: EventIndex) -> None:
    """Let the file grow no more."""
    index._database.execute("PRAGMA max_page_count = 1")


def make_room(index: EventIndex) -> None:
    index._database.execute("PRAGMA max_page_count = 1000000")


async def test_indexing_outlasts_a_full_disk_and_goes_on_when_there_is_room(file: Path) -> None:
    world = World(with_bodies=True)
    await world.chains[0].seal_samples(2)
    async with indexing(world, file) as lookup:
        assert await place(lookup, 1) == (0, 1)
        fill_up(lookup._index)
        await world.chains[0].seal_samples(500)
        # `failed` makes the service unready at once by an error of this kind.
        assert await until(lambda: isinstance(lookup._unusable, LastingError), deadline_s=60)
        assert (lookup.size, lookup.behind) == (1, 1)
        assert await place(lookup, 1) == (0, 1)

        make_room(lookup._index)
        assert await place(lookup, 400) == (1, 398)


async def test_an_index_with_damaged_pages_is_made_anew_by_whoever_is_told_first(file: Path) -> None:
    world = World(with_bodies=True)
    for _ in range(3):
        await world.chains[0].seal_samples(400)
    async with indexing(world, file) as lookup:
        assert await place(lookup, 900) == (2, 100)
    damage_pages(file)

    async with indexing(world, file) as lookup:
        # A question may find the damage, or the next block.
        with pytest.raises(EventIndexError):
            await lookup.find(EventName(SOURCE, "event-900"), 0)
        assert await until(lambda: lookup._unusable is None and lookup.size == 3, deadline_s=60)
        assert await place(lookup, 900) == (2, 100)
    damage_pages(file)
    await world.chains[0].seal_samples(400)
    async with indexing(world, file) as lookup:
        assert await until(lambda: lookup._unusable is None and lookup.size == 4, deadline_s=60)
        assert await found(lookup, 1300, wait_s=20)


async def test_a_file_that_fails_again_is_not_made_anew_for_ever(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleared, tried = [], []

    def cannot(_: EventIndex, entry: int, *__: object, **___: object) -> None:
        tried.append(entry)
        raise EventIndexError(OSError(5, "Input/output error"))

    def clear(self: EventIndex) -> None:
        cleared.append(self.size)

    monkeypatch.setattr(EventIndex, "add", cannot)
    monkeypatch.setattr(EventIndex, "clear", clear)
    world = World(with_bodies=True)
    await world.chains[0].seal_samples(1)
    async with indexing(world, file):
        assert await until(lambda: len(tried) > 5, deadline_s=60)

    assert len(cleared) == 1


async def test_who_asks_meanwhile_is_told_that_it_is_not_indexed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(*_: object, **__: object) -> None:
        raise EventIndexError(OSError(5, "Input/output error"))

    world, metrics = World(with_bodies=True), Metrics(CollectorRegistry())
    runner = Runner(world.anchor(), metrics, poll_interval_s=0.01, checkpoint_interval_s=0)
    service = receipt_service(world, runner, metrics, tmp_path)
    monkeypatch.setattr(EventIndex, "find", cannot)

    with pytest.raises(ProblemError) as problem:
        await service.receipt(EventName(SOURCE, "event-1"), 0)
    assert (problem.value.status, problem.value.code) == (404, "not-indexed")
