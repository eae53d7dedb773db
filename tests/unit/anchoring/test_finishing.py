"""What a process leaves that dies after its commit is finished by the next one, out of the head alone."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from salus.archive.errors import HeadError
from salus.archive.head import HEAD_KEY
from salus.objects import ObjectsError
from salus.objects.memory import Fault


async def died_after_the_swap(make_world: Any) -> Any:
    # The writes: head, checkpoint; then head, and from here on everything is lost.
    world = make_world(faults=[Fault.NONE] * 3 + [Fault.LOST] * 2)
    await world.chains[0].seal_samples(2)
    first = world.anchor()
    await first.stand()
    with pytest.raises(ObjectsError):
        await first.append()
    assert world.published().size == 0
    return world


def no_entries(head: dict[str, Any]) -> None:
    del head["entries"]


def other_entries(head: dict[str, Any]) -> None:
    head["entries"] = [entry.replace("accepted 2", "accepted 3") for entry in head["entries"]]


def too_many_entries(head: dict[str, Any]) -> None:
    head["entries"] *= 2


def encoded(head: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(head, order="sorted"), indent=1) + b"\n"


async def test_a_process_that_died_after_the_swap_is_completed_by_the_next(make_world: Any) -> None:
    world = await died_after_the_swap(make_world)

    await world.anchor().stand()

    assert world.published().size == 1
    await world.require_whole()


@pytest.mark.parametrize(
    ("change", "why"), [(no_entries, "missing"), (other_entries, "do not lead"), (too_many_entries, "more")]
)
async def test_a_head_that_brings_other_entries_than_were_signed_is_refused(
    make_world: Any, change: Any, why: str
) -> None:
    world = await died_after_the_swap(make_world)
    data, etag = world.log.objects[HEAD_KEY]
    head = msgspec.json.decode(data)
    change(head)
    world.log.objects[HEAD_KEY] = (encoded(head), etag)

    with pytest.raises(HeadError, match=why):
        await world.anchor().stand()

    assert world.published().size == 0
    assert not [key for key in world.log.objects if key.startswith("tile/")]


@pytest.mark.parametrize("size", [3, 255])
@pytest.mark.parametrize("kind", ["0", "entries"])
async def test_nothing_is_finished_on_a_damaged_edge(world: Any, size: int, kind: str) -> None:
    for _ in range(size):
        await world.chains[0].seal([])
    anchor = world.anchor()
    await anchor.append()
    before = dict(world.log.objects)
    await world.chains[0].seal([])
    await anchor.append()
    # As if its writer had died after the swap.
    world.log.objects = before | {HEAD_KEY: world.log.objects[HEAD_KEY]}
    path = f"tile/{kind}/000.p/{size}"
    data, etag = world.log.objects[path]
    world.log.objects[path] = (data[:-1] + bytes([data[-1] ^ 1]), etag)

    with pytest.raises(HeadError):
        await world.anchor().stand()

    assert world.log.objects.keys() == before.keys()


async def test_a_head_of_before_heads_brought_their_entries_is_stood_on(world: Any) -> None:
    await world.chains[0].seal_samples(1)
    await world.anchor().append()
    data, etag = world.log.objects[HEAD_KEY]
    head = msgspec.json.decode(data)
    no_entries(head)
    world.log.objects[HEAD_KEY] = (encoded(head), etag)
    await world.chains[0].seal_samples(1)

    assert await world.anchor().append() == 1

    await world.require_whole()
