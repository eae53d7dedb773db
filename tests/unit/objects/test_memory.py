"""The fake's faults: LOST did not happen, LATE happened, and every write may be repeated after either."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.objects import AlreadyExistsError, NotFoundError, StoreAwayError, UnfitStoreError, probe
from salus.objects.memory import Fault, MemoryObjects

FAULTS = st.lists(st.sampled_from(Fault), max_size=12)


async def one_piece() -> AsyncIterator[bytes]:
    yield b"new"


async def until_answered(write: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await write()
        except StoreAwayError:
            continue
        return


@pytest.mark.parametrize("write", ["put", "put_stream", "create", "replace", "delete", "destroy"])
@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LATE])
async def test_each_write_has_both_faults(write: str, fault: Fault) -> None:
    store = MemoryObjects()
    etag = "" if write == "create" else await store.put("k", b"old")
    before = dict(store.objects)
    store._faults = iter([fault])
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "put": lambda: store.put("k", b"new"),
        "put_stream": lambda: store.put_stream("k", one_piece()),
        "create": lambda: store.create("k", b"new"),
        "replace": lambda: store.replace("k", b"new", etag),
        "delete": lambda: store.delete("k"),
        "destroy": lambda: store.destroy("k"),
    }

    with pytest.raises(StoreAwayError):
        await calls[write]()

    after = {} if write in {"delete", "destroy"} else {"k": b"new"}
    happened = {key: data for key, (data, _) in store.objects.items()}
    assert happened == (after if fault is Fault.LATE else {key: data for key, (data, _) in before.items()})


@given(faults=FAULTS)
def test_repeating_settles_any_order_of_faults(faults: list[Fault]) -> None:
    async def story() -> MemoryObjects:
        store = MemoryObjects(faults=faults)
        await until_answered(lambda: store.create("k", b"first"))
        _, etag = await store.get_with_etag("k", bytes_max=1 << 30)
        await until_answered(lambda: store.replace("k", b"second", etag))
        await until_answered(lambda: store.put("other", b"third"))
        await until_answered(lambda: store.delete("other"))
        return store

    store = asyncio.run(story())

    assert {key: data for key, (data, _) in store.objects.items()} == {"k": b"second"}


@given(faults=FAULTS)
def test_two_who_create_never_both_believe_they_won(faults: list[Fault]) -> None:
    async def attempt(store: MemoryObjects, name: bytes) -> bool:
        try:
            await until_answered(lambda: store.create("k", name))
        except AlreadyExistsError:
            return False
        return True

    async def race() -> list[bool]:
        store = MemoryObjects(faults=faults)
        return list(await asyncio.gather(attempt(store, b"a"), attempt(store, b"b")))

    assert sum(asyncio.run(race())) == 1


async def test_a_store_that_is_away_answers_nothing() -> None:
    store = MemoryObjects(away=True)

    with pytest.raises(StoreAwayError):
        await store.get("k", bytes_max=1 << 30)
    with pytest.raises(StoreAwayError):
        await store.put("k", b"")


class Overwriting(MemoryObjects):
    """A store that ignores If-None-Match."""

    async def create(self, key: str, data: bytes) -> str:
        return await self.put(key, data)


class Forgetful(MemoryObjects):
    """A store that ignores If-Match."""

    async def replace(self, key: str, data: bytes, etag: str) -> str:  # noqa: ARG002  # that is the fault
        return await self.put(key, data)


@pytest.mark.parametrize(("unfit", "missing"), [(Overwriting, "If-None-Match"), (Forgetful, "If-Match")])
async def test_the_probe_refuses_a_store_without_conditional_writes(
    unfit: type[MemoryObjects], missing: str
) -> None:
    store = unfit()

    with pytest.raises(UnfitStoreError, match=missing):
        await probe(store)
    assert not store.objects


async def test_reading_what_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        await MemoryObjects().get("k", bytes_max=1 << 30)
