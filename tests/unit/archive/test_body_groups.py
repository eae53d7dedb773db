"""Bodies are read and hashed in groups; what is found does not depend on how they are grouped."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.archive.small_ledger import SmallLedger

from salus.archive import check_blocks
from salus.archive.building import BEGIN, IDENTITY
from salus.archive.check_blocks import BODIES_TOGETHER, BYTES_TOGETHER_MAX, _digests, _groups
from salus.archive.fsck import fsck
from salus.ledger.block import Header
from salus.ledger.merkle import EMPTY_ROOT
from salus.objects.memory import MemoryObjects

HEADER = Header(
    origin="test/shard/0",
    height=0,
    leaves=0,
    root=EMPTY_ROOT,
    previous=bytes(32),
    time=BEGIN,
    accepted=0,
    body_bytes=0,
    body_sha256=bytes(32),
    identity=(IDENTITY, 0, 0),
    ranges=(),
)


class Counting(MemoryObjects):
    """A store that knows which bodies were read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []

    async def get(self, key: str, *, bytes_max: int) -> bytes:
        if key.endswith(".parquet"):
            self.read.append(key)
        return await super().get(key, bytes_max=bytes_max)


@pytest.fixture
async def long_ledger() -> SmallLedger:
    ledger = SmallLedger(ledger=Counting())
    for size in range(1, 2 * BODIES_TOGETHER + 4):
        await ledger.chains[0].seal_samples(size % 5 + 3)
    await ledger.anchor.append()
    return ledger


@pytest.mark.parametrize("together", [1, 2, 7, BODIES_TOGETHER])
@pytest.mark.parametrize("bytes_max", [1, 50_000, BYTES_TOGETHER_MAX])
async def test_each_damaged_and_each_missing_body_is_named_however_they_are_grouped(
    long_ledger: Any, monkeypatch: pytest.MonkeyPatch, together: int, bytes_max: int
) -> None:
    monkeypatch.setattr(check_blocks, "BODIES_TOGETHER", together)
    monkeypatch.setattr(check_blocks, "BYTES_TOGETHER_MAX", bytes_max)
    bodies = sorted(key for key in long_ledger.ledger.objects if key.endswith(".parquet"))
    changed, gone = {bodies[0], bodies[15], bodies[16], bodies[-1]}, {bodies[3], bodies[20]}
    for key in changed:
        long_ledger.flip("ledger", key, 40)
    for key in gone:
        del long_ledger.ledger.objects[key]

    report = await fsck(long_ledger.stores, long_ledger.trust)

    assert {f.key for f in report.errors if f.code == "body-hash"} == changed
    assert {f.key for f in report.errors if f.code == "body-missing"} == gone
    assert {f.key for f in report.errors} == changed | gone
    assert sorted(long_ledger.ledger.read) == bodies


@given(st.lists(st.integers(0, 100), max_size=60))
def test_groups_hold_every_header_once_in_order_and_few_bytes(sizes: list[int]) -> None:
    headers = [replace(HEADER, height=at, body_bytes=size) for at, size in enumerate(sizes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check_blocks, "BYTES_TOGETHER_MAX", 150)
        groups = _groups(headers)

    assert [one for group in groups for one in group] == headers
    for group in groups:
        assert 1 <= len(group) <= BODIES_TOGETHER
        assert len(group) == 1 or sum(one.body_bytes for one in group) <= 150


@pytest.mark.parametrize("sizes", [[], [0], [700] * 3, [700] * 20, [*range(600, 700)], [9] * 15 + [90_000]])
def test_bodies_have_their_own_digests_side_by_side_or_not(
    sizes: list[int],
) -> None:
    bodies: list[bytes | None] = [bytes([at]) * size for at, size in enumerate(sizes)]
    bodies[1:2] = [None]

    assert _digests(bodies) == [sha256(body or b"").digest() for body in bodies]


def test_a_body_much_longer_than_the_others_is_not_hashed_side_by_side(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side_by_side = Mock(return_value=[])
    monkeypatch.setattr(check_blocks, "hash_each", side_by_side)

    _digests([b"x" * 9] * 15 + [b"x" * 90_000])
    side_by_side.assert_not_called()
    _digests([b"x" * 9_000] * 15 + [b"x" * 9_900])
    side_by_side.assert_called_once()
