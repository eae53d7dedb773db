"""fsck finds an event that was accepted twice, however sound the blocks are (case F1)."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.archive.small_ledger import EVENT_SIGNER, SmallLedger
from tests.unit.archive.test_resuming import body_of, interrupted, resumed

from salus.archive import fsck as fsck_module
from salus.archive.building import TOPIC, SampleRecord, sample_value
from salus.archive.duplicates import WindowSize
from salus.archive.fsck import fsck
from salus.archive.report import Finding
from salus.events.signature import sign_values

REJECTED = "rejected:duplicate"


def records(numbers: list[int], *, first: int, status: str = "accepted") -> list[SampleRecord]:
    """Accepted records with events of these numbers."""
    values = [sample_value(number, EVENT_SIGNER) for number in numbers]
    signatures = sign_values(values, EVENT_SIGNER) if values else []
    return [
        SampleRecord(TOPIC, 0, first + at, value, signature, status)
        for at, (value, signature) in enumerate(zip(values, signatures, strict=True))
    ]


async def ledger_of(blocks: list[list[int]], *, shard: int = 0) -> SmallLedger:
    ledger, first = SmallLedger(), 0
    for numbers in blocks:
        await ledger.chains[shard].seal(records(numbers, first=first))
        first += len(numbers)
    await ledger.anchor.append()
    return ledger


async def repeated(ledger: SmallLedger, window: WindowSize) -> list[Finding]:
    report = await fsck(ledger.stores, ledger.trust, window=window)
    assert {f.code for f in report.errors} <= {"accepted-twice"}
    return report.errors


async def test_an_event_that_was_accepted_twice_is_named() -> None:
    ledger = await ledger_of([[1, 2], [], [3, 1]])

    [found] = await repeated(ledger, WindowSize())

    assert (found.code, found.key) == ("accepted-twice", body_of(ledger, 0, 2))
    assert (found.shard, found.height, found.row) == (0, 2, 1)
    assert (found.topic, found.partition, found.offset, found.event) == (TOPIC, 0, 3, "event-1")


async def test_a_duplicate_that_was_rejected_is_none() -> None:
    ledger = await ledger_of([[1, 2]])
    await ledger.chains[0].seal(records([1], first=2, status=REJECTED))
    await ledger.chains[1].seal(records([1], first=0))
    await ledger.anchor.append()

    report = await fsck(ledger.stores, ledger.trust)

    assert {f.code for f in report.errors} <= {"coverage-overlap"}


async def test_a_body_that_accepts_one_event_many_times_gets_a_bounded_number_of_findings() -> None:
    ledger = await ledger_of([[1] * 50])

    found = await repeated(ledger, WindowSize())

    assert len(found) == 21
    assert found[-1].detail == "and 29 more rows"


@given(
    blocks=st.lists(st.lists(st.integers(0, 5), max_size=4), min_size=1, max_size=8),
    window=st.builds(WindowSize, st.integers(1, 6), st.integers(1, 4)),
    stretch=st.integers(1, 3),
)
async def test_what_is_found_is_what_the_sequencer_would_have_refused(
    blocks: list[list[int]], window: WindowSize, stretch: int
) -> None:
    ledger = await ledger_of(blocks)
    expected, recent, counted = [], deque[tuple[int, int]](), 0
    for height, numbers in enumerate(blocks):
        recent = deque(pair for pair in recent if pair[0] > counted - window.blocks)
        for row, number in enumerate(numbers):
            if any(number == known for _, known in recent):
                expected.append((height, row))
            else:
                recent.append((counted, number))
                recent = deque(recent, maxlen=window.pairs)
        counted += any(block == counted for block, _ in recent)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fsck_module, "BLOCKS_A_STRETCH", stretch)
        found = await repeated(ledger, window)

    assert [(f.height, f.row) for f in found] == expected


async def test_a_resumed_run_finds_what_was_accepted_before_the_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsck_module, "BLOCKS_A_STRETCH", 1)
    ledger = await ledger_of([[1], [2], [3], [4, 1]])
    await interrupted(tmp_path, ledger, blocks=3)

    report = await resumed(tmp_path, ledger)

    assert report.counts.spared == 3
    assert [(f.code, f.height, f.row) for f in report.errors] == [("accepted-twice", 3, 1)]


async def test_a_resumed_run_tells_what_it_cannot_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsck_module, "BLOCKS_A_STRETCH", 1)
    ledger = await ledger_of([[1], [2], [3], [4, 1]])
    await interrupted(tmp_path, ledger, blocks=3)
    # It rots under its ETag, so nothing but the reading back can tell.
    ledger.flip("ledger", body_of(ledger, 0, 0), 40)

    report = await resumed(tmp_path, ledger)

    assert [(f.code, f.height) for f in report.errors] == [("body-hash", 0)]


async def test_a_damaged_body_accuses_nobody_else() -> None:
    ledger = await ledger_of([[1], [2], [1]])
    ledger.flip("ledger", body_of(ledger, 0, 0), 40)

    report = await fsck(ledger.stores, ledger.trust)

    assert {f.height for f in report.errors} == {0}
