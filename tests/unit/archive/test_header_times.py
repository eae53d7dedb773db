"""fsck says where a sequencer's clock was wrong (case B4 of red team B)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.archive.small_ledger import SmallLedger
from tests.unit.archive.test_check_duplicates import records

from salus.archive.building import BEGIN_MS, TOPIC, SampleRecord
from salus.archive.fsck import fsck
from salus.archive.header_times import FAR, HeaderTimes
from salus.ledger.block import header_key


@pytest.mark.parametrize(
    ("after_s", "said"),
    [
        (-840, "2 headers are dated up to 840 s after their newest record"),
        (-299, None),
        (300, None),
        (840, "2 headers are dated up to 840 s before the broker appended their records"),
    ],
)
async def test_headers_that_are_dated_far_from_their_records_are_an_info(
    after_s: int, said: str | None
) -> None:
    ledger = SmallLedger()
    for height in range(2):
        [made] = records([height], first=height)
        timestamp = BEGIN_MS + 1000 * (height + after_s)
        record = SampleRecord(TOPIC, 0, height, made.value, made.signature, timestamp_ms=timestamp)
        await ledger.chains[0].seal([record])
    await ledger.chains[0].seal([])
    await ledger.anchor.append()

    report = await fsck(ledger.stores, ledger.trust)

    assert report.ok
    found = [finding for finding in report.findings if finding.code == "header-time"]
    assert [f.detail for f in found] == ([f"{said}, this is the first of them"] if said else [])
    assert {f.key for f in found} <= {header_key(0, 0)}


@pytest.mark.parametrize("others", [0, 1])
async def test_a_leaf_without_a_time_says_nothing_about_the_clock(others: int) -> None:
    # Red team B6, 10: "1795993895 s" of an honest sequencer, in whose line a wrong clock could hide.
    ledger = SmallLedger()
    leaves = [SampleRecord(TOPIC, 0, 0, b"x", None, "rejected:unreadable", timestamp_ms=0)]
    if others:
        [made] = records([1], first=1)
        leaves.append(SampleRecord(TOPIC, 0, 1, made.value, made.signature, timestamp_ms=BEGIN_MS))
    await ledger.chains[0].seal(leaves)
    await ledger.anchor.append()

    report = await fsck(ledger.stores, ledger.trust)

    assert report.ok
    assert [finding for finding in report.findings if finding.code == "header-time"] == []


def test_each_shard_and_direction_is_told_once() -> None:
    times = HeaderTimes()
    for height in range(1000):
        times.take(0, [(height, FAR * (1 if height % 2 else -1))])
    times.take(1, [(7, 2 * FAR)])

    assert [note.key for note in times.notes()] == [header_key(0, 0), header_key(0, 1), header_key(1, 7)]


def test_the_farthest_is_told() -> None:
    times = HeaderTimes()
    times.take(0, [(3, 3 * FAR), (4, 2 * FAR), (5, timedelta(hours=1))])

    [note] = times.notes()
    assert "3 headers are dated up to 3600 s" in note.detail
