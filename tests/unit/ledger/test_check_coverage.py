"""Together the shards cover every offset once, whatever was handed over between them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from salus.ledger.block import Header, Range
from salus.ledger.check_coverage import CoverageChecker


def _covering(header: Header, shard: int, first: int, following: int) -> Header:
    covered = (Range("salus.lab.events", 0, first, following),)
    return replace(header, origin=f"salus.example/shard/{shard}", ranges=covered)


def _found(headers: list[Header]) -> list[tuple[str, str]]:
    checker = CoverageChecker()
    for header in headers:
        checker.add(header)
    return [(finding.code, finding.detail) for finding in checker.findings()]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5)), max_size=12))
def test_a_partition_that_moves_between_shards_is_covered_once(
    header: Header, steps: list[tuple[int, int]]
) -> None:
    headers, at = [], 0
    for shard, count in steps:
        headers.append(_covering(header, shard, at, at + count))
        at += count

    assert _found(headers) == []
    assert _found(sorted(headers, key=lambda h: h.origin)) == []


def test_offsets_in_no_block_are_found(header: Header) -> None:
    found = _found([_covering(header, 0, 0, 5), _covering(header, 1, 7, 9)])

    between = "between salus.example/shard/0 and salus.example/shard/1"
    assert found == [("coverage-gap", f"offsets 5 to 6, {between}, are in no block")]


def test_a_beginning_after_offset_zero_is_a_gap(header: Header) -> None:
    assert [code for code, _ in _found([_covering(header, 0, 3, 5)])] == ["coverage-gap"]


def test_offsets_that_two_shards_claim_are_found(header: Header) -> None:
    found = _found([_covering(header, 0, 0, 5), _covering(header, 1, 4, 9)])

    assert [code for code, _ in found] == ["coverage-overlap"]
    assert "from 4 to 4" in found[0][1]
