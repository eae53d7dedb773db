"""A deep fsck names every event that was accepted again, beyond any window (case B1 of red team B)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.archive.small_ledger import SmallLedger
from tests.unit.archive.test_check_duplicates import records
from tests.unit.archive.test_deep import REGISTERED, judged_trust
from tests.unit.archive.test_resuming import body_of

from salus.archive import repetitions as repetitions_module
from salus.archive.building import BEGIN_MS, TOPIC, SampleRecord
from salus.archive.duplicates import WindowSize
from salus.archive.fsck import fsck
from salus.archive.report import Finding, Report


async def ledger_of_member() -> SmallLedger:
    """A ledger whose first block registers the member that signs the samples."""
    ledger = SmallLedger()
    ledger.trust = judged_trust()
    await ledger.chains[0].seal([REGISTERED])
    for chain in ledger.chains.values():
        chain.identity_position = 1
    return ledger


def of_partition(
    partition: int, numbers: list[int], *, first: int = 0, after_ms: int = 0
) -> list[SampleRecord]:
    """Accepted events of these numbers on a partition, appended so long after BEGIN."""
    return [
        SampleRecord(r.topic, partition, r.offset, r.value, r.signature, timestamp_ms=BEGIN_MS + after_ms)
        for r in records(numbers, first=first)
    ]


async def deep(ledger: SmallLedger, window: WindowSize | None = None) -> Report:
    await ledger.anchor.append()
    return await fsck(ledger.stores, ledger.trust, deep=True, window=window or WindowSize())


def repeated(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.code == "repeated"]


async def test_an_event_that_another_shard_accepted_again_is_named_with_both_places() -> None:
    ledger = await ledger_of_member()
    await ledger.chains[1].seal(of_partition(1, [1, 2]))
    await ledger.anchor.append()
    await ledger.chains[0].seal(of_partition(0, [3, 2], after_ms=1))

    report = await deep(ledger)

    assert report.ok, "each shard did as the format says"
    [found] = repeated(report)
    assert (found.severity, found.key, found.row) == ("info", body_of(ledger, 0, 1), 1)
    assert (found.partition, found.offset, found.event) == (0, 1, "event-2")
    assert f"at shard 1, {TOPIC} 1 1," in found.detail


async def test_an_event_that_is_accepted_again_after_the_window_is_named() -> None:
    ledger = await ledger_of_member()
    for offset, number in enumerate((1, 2, 3, 1)):
        await ledger.chains[0].seal(of_partition(0, [number], first=offset))

    report = await deep(ledger, WindowSize(blocks=2))

    assert report.ok
    assert [(f.height, f.row) for f in repeated(report)] == [(4, 0)]


async def test_of_what_is_accepted_twice_within_the_window_it_is_told_which_one_counts() -> None:
    ledger = await ledger_of_member()
    await ledger.chains[0].seal(of_partition(0, [1, 1]))

    report = await deep(ledger)

    assert [f.code for f in report.errors] == ["accepted-twice"]
    assert [(f.height, f.row) for f in repeated(report)] == [(1, 1)]


async def test_a_flood_of_repetitions_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repetitions_module, "ROWS_READ_MAX", 6)
    ledger = await ledger_of_member()
    await ledger.chains[0].seal(of_partition(0, list(range(10))))
    await ledger.anchor.append()
    await ledger.chains[1].seal(of_partition(1, list(range(10))))

    found = repeated(await deep(ledger))

    assert len(found) == 4
    assert found[-1].detail == "and 7 more rows"


@settings(max_examples=25)
@given(
    blocks=st.lists(
        st.tuples(st.integers(0, 1), st.lists(st.integers(0, 4), min_size=1, max_size=3), st.integers(0, 3)),
        max_size=6,
    )
)
async def test_all_but_the_first_that_the_broker_appended_are_named(
    blocks: list[tuple[int, list[int], int]],
) -> None:
    ledger = await ledger_of_member()
    copies, nexts = list[tuple[int, int, int, int]](), [0, 0]
    for shard, numbers, after_ms in blocks:
        offset = nexts[shard]
        await ledger.chains[shard].seal(of_partition(shard, numbers, first=offset, after_ms=after_ms))
        copies += [(after_ms, shard, offset + at, number) for at, number in enumerate(numbers)]
        nexts[shard] += len(numbers)
    firsts: dict[int, tuple[int, int, int, int]] = {}
    for copy in sorted(copies):
        firsts.setdefault(copy[3], copy)

    report = await deep(ledger)

    found = {(f.partition, f.offset) for f in repeated(report)}
    assert found == {copy[1:3] for copy in copies} - {first[1:3] for first in firsts.values()}
