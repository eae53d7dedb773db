"""What every object store promises: the fake here, MinIO in tests/integration/objects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from salus.objects import (
    AlreadyExistsError,
    ChangedError,
    Entry,
    NotFoundError,
    ObjectsError,
    ObjectStore,
    Stray,
    StrayObjectError,
    TooLargeError,
    probe,
    refuse_stray,
)


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


Plant = Callable[[str], Awaitable[None]]
"""Puts an object of any key into the bucket of `store`, or skips the test if the store takes no such key."""

STRAYS = [
    "tile/note\n.txt",
    "tile/0/000\r",
    "tile/a b",
    "tile/\u00e9\u202e",
    "tile/a%2Fb",
    "tile/a+b c",
    "tile/<&>",
    "tile/\x01",
    "tile/0/000/",
    "tile//0/000",
    "tile/../0",
    "tile/0/./000",
    "tile/" + "x" * 200 + "/ ",
]


async def keys(store: ObjectStore, prefix: str = "", start_after: str = "") -> list[str]:
    return [entry.key async for entry in store.list(prefix, start_after, on_stray=refuse_stray)]


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 9000], ids=["empty", "one", "2 MB"])
async def test_what_is_put_is_what_is_got(store: ObjectStore, content: bytes) -> None:
    etag = await store.put("a/b", content)

    assert await store.get("a/b", bytes_max=1 << 30) == content
    assert await store.get_with_etag("a/b", bytes_max=1 << 30) == (content, etag)
    assert await store.head("a/b") == Entry(key="a/b", size=len(content), etag=etag)
    assert b"".join([piece async for piece in store.stream("a/b")]) == content


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (0, None),
        (0, 1),
        (3, 9),
        (2_299_990, None),
        (5, 99_999_999),
        (2_304_000, None),
        (2_304_001, 2_304_009),
        (7, 7),
    ],
)
async def test_a_part_of_an_object_is_streamed(store: ObjectStore, start: int, end: int | None) -> None:
    content = bytes(range(256)) * 9000
    await store.put("a/b", content)

    assert (
        b"".join([piece async for piece in store.stream("a/b", start=start, end=end)]) == content[start:end]
    )


async def test_a_second_put_replaces_the_first(store: ObjectStore) -> None:
    await store.put("k", b"first")
    await store.put("k", b"second")

    assert await store.get("k", bytes_max=1 << 30) == b"second"


async def test_a_stream_is_put_whole(store: ObjectStore) -> None:
    part = bytes(1_000_000)
    etag = await store.put_stream("k", pieces(*[part] * 20, b"", b"end"))

    assert await store.get("k", bytes_max=1 << 30) == part * 20 + b"end"
    assert (await store.head("k")).etag == etag


async def test_an_empty_stream_is_an_empty_object(store: ObjectStore) -> None:
    await store.put_stream("k", pieces())

    assert await store.get("k", bytes_max=1 << 30) == b""


async def test_a_stream_that_fails_leaves_no_object_and_its_own_error(store: ObjectStore) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield bytes(9_000_000)
        raise KeyError("the source failed")

    with pytest.raises(KeyError, match="the source failed"):
        await store.put_stream("k", failing())

    with pytest.raises(NotFoundError):
        await store.head("k")


async def test_what_is_not_there_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(NotFoundError):
        await store.get("k", bytes_max=1 << 30)
    with pytest.raises(NotFoundError):
        await store.get_with_etag("k", bytes_max=1 << 30)
    with pytest.raises(NotFoundError):
        await store.head("k")
    with pytest.raises(NotFoundError):
        await anext(aiter(store.stream("k")))


async def test_create_writes_once(store: ObjectStore) -> None:
    await store.create("k", b"first")

    with pytest.raises(AlreadyExistsError):
        await store.create("k", b"second")
    assert await store.get("k", bytes_max=1 << 30) == b"first"


async def test_creating_the_same_again_is_success(store: ObjectStore) -> None:
    first = await store.create("k", b"same")

    assert await store.create("k", b"same") == first


async def test_of_many_who_create_one_wins(store: ObjectStore) -> None:
    results = await asyncio.gather(*(store.create("k", b"%d" % n) for n in range(10)), return_exceptions=True)

    winners = [n for n, result in enumerate(results) if isinstance(result, str)]
    assert len(winners) == 1
    assert sum(isinstance(result, AlreadyExistsError) for result in results) == 9
    assert await store.get("k", bytes_max=1 << 30) == b"%d" % winners[0]


async def test_replace_needs_the_present_etag(store: ObjectStore) -> None:
    old = await store.create("k", b"first")
    new = await store.replace("k", b"second", old)

    with pytest.raises(ChangedError):
        await store.replace("k", b"third", old)
    assert await store.get_with_etag("k", bytes_max=1 << 30) == (b"second", new)


async def test_replacing_by_what_is_there_already_is_success(store: ObjectStore) -> None:
    old = await store.create("k", b"first")
    new = await store.replace("k", b"second", old)

    assert await store.replace("k", b"second", old) == new


async def test_what_is_gone_cannot_be_replaced(store: ObjectStore) -> None:
    etag = await store.create("k", b"first")
    await store.delete("k")

    with pytest.raises(ChangedError):
        await store.replace("k", b"second", etag)
    with pytest.raises(NotFoundError):
        await store.head("k")


async def test_of_many_who_replace_one_wins(store: ObjectStore) -> None:
    etag = await store.create("k", b"first")
    results = await asyncio.gather(
        *(store.replace("k", b"by %d" % n, etag) for n in range(10)), return_exceptions=True
    )

    assert sum(isinstance(result, str) for result in results) == 1
    assert sum(isinstance(result, ChangedError) for result in results) == 9


async def test_a_listing_is_in_order_and_of_whole_folders(store: ObjectStore) -> None:
    for key in ("tile/1/001", "tile/0/001", "tile/0/000", "tiles/x", "tile-2", "a"):
        await store.put(key, key.encode())

    assert await keys(store, "tile") == ["tile/0/000", "tile/0/001", "tile/1/001"]
    assert await keys(store, "tile/0/") == ["tile/0/000", "tile/0/001"]
    assert await keys(store, "tile", "tile/0/000") == ["tile/0/001", "tile/1/001"]
    assert await keys(store, "none") == []
    assert sorted(await keys(store)) == await keys(store)
    assert len(await keys(store)) == 6
    sizes = {entry.key: entry.size async for entry in store.list("tile/0", on_stray=refuse_stray)}
    assert sizes == {"tile/0/000": 10, "tile/0/001": 10}


async def test_a_long_listing_is_complete(store: ObjectStore) -> None:
    names = [f"many/{n:04d}" for n in range(1100)]
    for start in range(0, len(names), 50):
        await asyncio.gather(*(store.put(name, b"") for name in names[start : start + 50]))

    assert await keys(store, "many") == names


@pytest.mark.parametrize("key", STRAYS, ids=ascii)
async def test_a_stray_key_is_named_and_ends_no_listing(store: ObjectStore, plant: Plant, key: str) -> None:
    """Cases L2, S4: an object key is any UTF-8 up to 1024 bytes, and whoever may write may put it there."""
    names = ["tile/0/000", "tile/0/001", "tile/1/000"]
    for name in names:
        await store.put(name, b"x")
    await plant(key)
    strays: list[Stray] = []

    listed = [entry.key async for entry in store.list("tile", on_stray=strays.append)]
    everything = [entry.key async for entry in store.list(on_stray=strays.append)]

    assert listed == everything == names
    assert strays == [Stray(key, len(b"stray"))] * 2
    assert strays[0].shown.isascii()
    assert strays[0].shown.isprintable()


async def test_a_listing_goes_on_behind_a_stray_key(store: ObjectStore, plant: Plant) -> None:
    await plant("tile/ stray")
    await store.put("tile/0", b"x")
    strays: list[Stray] = []

    assert [e.key async for e in store.list("tile", "tile/ stray", on_stray=strays.append)] == ["tile/0"]
    assert strays == []


async def test_who_wants_no_strays_is_told_of_one(store: ObjectStore, plant: Plant) -> None:
    await plant("a b")

    with pytest.raises(StrayObjectError, match="a b"):
        await keys(store)


async def test_deleting_is_harmless_to_repeat(store: ObjectStore) -> None:
    await store.put("k", b"x")
    await store.delete("k")
    await store.delete("k")

    with pytest.raises(NotFoundError):
        await store.get("k", bytes_max=1 << 30)


async def test_destroying_is_harmless_to_repeat_and_spares_longer_names(store: ObjectStore) -> None:
    await store.put("k", b"x")
    await store.put("k2", b"y")
    await store.put("k/3", b"z")
    await store.destroy("k")
    await store.destroy("k")

    with pytest.raises(NotFoundError):
        await store.get("k", bytes_max=1 << 30)
    assert await store.get("k2", bytes_max=1 << 30) == b"y"


async def test_pseudonyms_and_dids_are_keys(store: ObjectStore) -> None:
    key = "subjects/urn:uuid:2f9c4b62-59a7-4b21-8ee0-1d2f3a4b5c6d/did:web:a.example_1=+@!"
    await store.put(key, b"x")

    assert await keys(store, "subjects") == [key]


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "a/../b", ".", "a b", "a~b", "é", "a%2Fb", "x" * 1025]
)
async def test_a_key_that_a_store_might_change_is_refused(store: ObjectStore, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        await store.put(key, b"")


async def test_the_probe_accepts_it_and_leaves_nothing(store: ObjectStore) -> None:
    await probe(store)

    assert await keys(store) == []


def test_all_errors_have_one_base() -> None:
    assert all(issubclass(error, ObjectsError) for error in (NotFoundError, AlreadyExistsError, ChangedError))


async def test_an_object_that_is_larger_than_was_asked_for_is_not_read(store: ObjectStore) -> None:
    # case F8
    etag = await store.put("k", b"12345")

    for bytes_max in (4, 0):
        with pytest.raises(TooLargeError) as error:
            await store.get("k", bytes_max=bytes_max)
        with pytest.raises(TooLargeError):
            await store.get_with_etag("k", bytes_max=bytes_max)
        assert (error.value.key, error.value.size, error.value.bytes_max) == ("k", 5, bytes_max)
    assert await store.get_with_etag("k", bytes_max=5) == (b"12345", etag)


async def test_a_key_that_a_larger_object_took_is_taken(store: ObjectStore) -> None:
    await store.put("k", b"12345")

    with pytest.raises(AlreadyExistsError):
        await store.create("k", b"1")
    with pytest.raises(ChangedError):
        await store.replace("k", b"1", "another")
