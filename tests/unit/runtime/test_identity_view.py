"""The key ring that a service keeps by following the identity topic, and what it says of later records."""

from __future__ import annotations

from typing import Any, cast

import pytest
from structlog.testing import capture_logs
from tests.asking import NETWORK

from salus.events.contexts import CATALOGUE
from salus.events.effect import Refused
from salus.events.keyring import KeyRing
from salus.ledger.records import Flaw
from salus.messaging import NOTHING_RESTORED, Position, Record, RestoredRanges
from salus.runtime.identity_view import (
    IDENTITY_TOPIC,
    IdentityView,
    NotFoldedYetError,
    UnstatedRestorationError,
)


class Network:
    def restored_ranges(self) -> RestoredRanges:
        return NOTHING_RESTORED

    def new_ring(self) -> KeyRing:
        return KeyRing(CATALOGUE, NETWORK, position=5)


class Topic:
    """Identity's topic with one record, which its sender dated."""

    async def end_offsets(self) -> dict[tuple[str, int], int]:
        return {(IDENTITY_TOPIC, 0): 1}

    async def position(self, *_: object) -> int:
        return 0

    async def poll(self, **_: int) -> list[Record]:
        return [Record(IDENTITY_TOPIC, 0, 0, 0, b"k", b"v", (), Flaw.CREATE_TIME)]

    @property
    def partitions(self) -> list[tuple[str, int]]:
        return [(IDENTITY_TOPIC, 0)]

    def require_whole_topics(self) -> None:
        """It is whole."""

    def seek(self, at: Position) -> None:
        """Nothing is read twice here."""


async def test_a_topic_that_was_restored_is_not_passed_over_in_silence() -> None:
    # Red team B6, 1: a service that was not given the network.json of after the restoration.
    view = IdentityView(cast("Any", Topic()), cast("Any", Network()))

    for _ in range(2):
        with pytest.raises(UnstatedRestorationError, match="restore-topics"):
            await view.catch_up()


class Flooded(Topic):
    """The topic after a flood of records without a signature."""

    def __init__(self, records: int) -> None:
        self._end, self._at = records, 0

    async def end_offsets(self) -> dict[tuple[str, int], int]:
        return {(IDENTITY_TOPIC, 0): self._end}

    async def position(self, *_: object) -> int:
        return self._at

    async def poll(self, **asked: int) -> list[Record]:
        first, self._at = self._at, min(self._at + asked["max_records"], self._end)
        return [Record(IDENTITY_TOPIC, 0, n, 1, None, b"x", ()) for n in range(first, self._at)]


async def test_a_flood_on_identitys_topic_is_one_line_of_log() -> None:
    # Red team B6, 7
    view = IdentityView(cast("Any", Flooded(5000)), cast("Any", Network()))

    with capture_logs() as lines:
        await view.catch_up()

    assert [(line["event"], line["first"], line["last"], line["reasons"]) for line in lines] == [
        ("records refused", 0, 4999, {"missing-signature": 5000})
    ]


def test_of_a_record_that_is_not_folded_yet_nobody_says_that_it_is_refused() -> None:
    # Red team 4: identity's database would have left out its effect for ever.
    view = IdentityView(cast("Any", None), cast("Any", Network()))

    for offset in (5, 6, 1000):
        with pytest.raises(NotFoldedYetError) as caught:
            view.outcome(offset)
        assert (caught.value.offset, caught.value.position) == (offset, 5)
    assert view.outcome(4) == Refused("folded-long-ago")
