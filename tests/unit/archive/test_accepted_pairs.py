"""The accepted pairs of a body come as the broker appended them: that decides which one is the duplicate."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.unit.archive.small_ledger import SmallLedger
from tests.unit.archive.test_check_duplicates import records

from salus.archive.accepted_pairs import AcceptedPairs, accepted_pairs
from salus.archive.building import TOPIC, SampleRecord
from salus.archive.duplicates import FINGERPRINT_BYTES
from salus.ledger.block import body_key


async def pairs_of(times: Sequence[int | None]) -> tuple[AcceptedPairs, list[bytes]]:
    """Return the pairs of a block whose accepted rows have these times, and the print of each row."""
    made = records([*range(len(times))], first=0)
    leaves = [
        SampleRecord(TOPIC, 0, row, one.value, one.signature, timestamp_ms=at)
        if at is not None
        else SampleRecord(TOPIC, 0, row, b"x", None, "rejected:tombstone")
        for row, (one, at) in enumerate(zip(made, times, strict=True))
    ]

    async def sealed(some: Sequence[SampleRecord]) -> AcceptedPairs:
        ledger = SmallLedger()
        await ledger.chains[0].seal(some)
        header = ledger.chains[0].headers[-1]
        return accepted_pairs(await ledger.stores.ledger.get(body_key(0, 0, header.root), bytes_max=1 << 30))

    alone = [(await sealed([SampleRecord(TOPIC, 0, 0, one.value, one.signature)])).prints for one in made]
    return await sealed(leaves), alone


@pytest.mark.parametrize(
    ("times", "order"),
    [
        ([1, 2, 3], [0, 1, 2]),
        ([3, 2, 1], [2, 1, 0]),
        ([2, 1, 2, 1], [1, 3, 0, 2]),
        ([2, None, 1], [2, 0]),
        ([1, None, 2], [0, 2]),
        ([None, None], []),
    ],
)
async def test_they_are_ordered_by_time_and_then_by_place(times: list[int | None], order: list[int]) -> None:
    # Red team B6, 10
    pairs, alone = await pairs_of(times)

    size = FINGERPRINT_BYTES
    assert [pairs.prints[at : at + size] for at in range(0, len(pairs.prints), size)] == [
        alone[row] for row in order
    ]
    assert [pairs.row(number) for number in range(len(order))] == order
