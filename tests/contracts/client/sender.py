"""What the publisher relies on in a `Sender`: the unit tests' fake and the real producer must keep it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from salus.client.ports import Sender
from salus.messaging import Position

Stored = Callable[[Position], Awaitable[tuple[bytes | None, bytes | None, dict[str, bytes]]]]
Check = Callable[[Sender, str, Stored], Awaitable[None]]
RECORDS = 12


async def check_that_answers_say_where_records_are(sender: Sender, topic: str, stored: Stored) -> None:
    answer = await sender.enqueue(topic, key=b"k", value=b"v", headers=(("a", b"1"), ("b", b"2")))
    position = await answer

    assert position.topic == topic
    assert await stored(position) == (b"k", b"v", {"a": b"1", "b": b"2"})


async def check_that_records_of_a_key_keep_the_order_of_the_calls(
    sender: Sender, topic: str, stored: Stored
) -> None:
    answers = [await sender.enqueue(topic, key=b"k", value=b"%d" % i) for i in range(RECORDS)]
    positions = await asyncio.gather(*answers)

    assert len({position.partition for position in positions}) == 1
    assert [position.offset for position in positions] == sorted({position.offset for position in positions})
    assert [(await stored(position))[1] for position in positions] == [b"%d" % i for i in range(RECORDS)]


async def check_that_the_partition_of_a_key_is_told_beforehand(
    sender: Sender, topic: str, stored: Stored
) -> None:
    keys = [b"key-%d" % i for i in range(RECORDS)]
    await asyncio.gather(*[await sender.enqueue(topic, key=keys[0], value=b"v")])
    told = [sender.partition_of(topic, key) for key in keys]
    by_key = await asyncio.gather(*[await sender.enqueue(topic, key=key, value=b"v") for key in keys])
    by_number = await asyncio.gather(
        *[
            await sender.enqueue(topic, key=key, value=b"v", partition=at)
            for key, at in zip(keys, told, strict=True)
        ]
    )

    assert [position.partition for position in by_key] == told
    assert [position.partition for position in by_number] == told
    assert (await stored(by_number[0]))[:2] == (keys[0], b"v")


async def check_that_of_a_topic_that_it_knows_nothing_of_no_partition_is_told(
    sender: Sender,
    topic: str,
    stored: Stored,  # noqa: ARG001  # as all checks
) -> None:
    assert sender.partition_of(f"{topic}-unknown", b"k") is None


CHECKS: list[Check] = [
    check_that_answers_say_where_records_are,
    check_that_records_of_a_key_keep_the_order_of_the_calls,
    check_that_the_partition_of_a_key_is_told_beforehand,
    check_that_of_a_topic_that_it_knows_nothing_of_no_partition_is_told,
]
