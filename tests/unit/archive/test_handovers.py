"""What fsck says of partitions that change their shard, by block and by log entry."""

from __future__ import annotations

import pytest

from salus.archive.check_log import LogState
from salus.archive.fsck import check_coverage
from salus.ledger.check_coverage import CoverageChecker, Span, Taking

LAB = ("salus.lab.events", 0)
SHARDS = {"net/shard/0": 0, "net/shard/1": 1}
GIVER, TAKER = ("net/shard/0", 4), ("net/shard/1", 0)


def moved(*, taken: bool = True) -> list[CoverageChecker | None]:
    """Shard 0 covers up to 5 and gives; shard 1 takes and covers up to 9: a stretch of each chain."""
    giver = CoverageChecker(
        spans={LAB: [Span("net/shard/0", 0, 5, 0, 4, given=True)]},
        gave={("net/shard/0/block/4", LAB): (5, "net/shard/1")},
    )
    taker = CoverageChecker(
        spans={LAB: [Span("net/shard/1", 5, 9, 0, 0)]},
        took=[Taking("net/shard/1/block/0", LAB, 5, "net/shard/0/block/4")],
    )
    return [giver, taker if taken else CoverageChecker()]


@pytest.mark.parametrize("places", [[], [GIVER], [GIVER, TAKER], [GIVER, None, TAKER]])
def test_a_hand_over_in_order_is_no_finding(places: list[tuple[str, int] | None]) -> None:
    assert check_coverage(moved(), SHARDS, LogState(places=places)) == []


@pytest.mark.parametrize("places", [[TAKER], [TAKER, GIVER]])
def test_a_taking_before_its_giving_in_the_log_is_found(places: list[tuple[str, int] | None]) -> None:
    (finding,) = check_coverage(moved(), SHARDS, LogState(places=places))

    assert (finding.severity, finding.code, finding.shard, finding.height) == ("error", "entry-order", 1, 0)
    assert "entry 0" in finding.detail


def test_what_is_not_taken_yet_is_worth_knowing_and_no_error() -> None:
    (finding,) = check_coverage(moved(taken=False), SHARDS, LogState())

    assert (finding.severity, finding.code) == ("info", "handover-pending")
    assert finding.key == "shard/0/000000000004/header"
    assert "salus.lab.events 0 is given at offset 5 to net/shard/1" in finding.detail


def test_nothing_is_said_where_a_header_is_unknown() -> None:
    assert check_coverage([*moved()[1:], None], SHARDS, LogState()) == []
