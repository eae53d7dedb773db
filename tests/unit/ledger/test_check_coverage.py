"""Together the shards cover every offset once, and partitions move only where one gave and another took."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.ledger.block import Handover, Header, Range
from salus.ledger.check_coverage import CoverageChecker

LAB = ("salus.lab.events", 0)


def shard_name(shard: int) -> str:
    return f"salus.example/shard/{shard}"


def _covering(
    header: Header,
    shard: int,
    first: int,
    following: int,
    *,
    height: int = 0,
    handed: Sequence[Handover] = (),
) -> Header:
    covered = (Range(*LAB, first, following),)
    return replace(header, origin=shard_name(shard), height=height, ranges=covered, handovers=tuple(handed))


def gave(offset: int, to: int) -> Handover:
    return Handover("gave", *LAB, offset, shard_name(to))


def took(offset: int, shard: int, height: int) -> Handover:
    return Handover("took", *LAB, offset, f"{shard_name(shard)}/block/{height}")


def _checked(headers: Iterable[Header]) -> CoverageChecker:
    checker = CoverageChecker()
    for header in headers:
        checker.add(header)
    return checker


def _found(headers: Iterable[Header]) -> list[tuple[str, str, str]]:
    return [(finding.code, finding.where, finding.detail) for finding in _checked(headers).findings()]


def moved(header: Header, steps: Sequence[tuple[int, int]]) -> list[Header]:
    """Headers of a partition that moves: each step is how many blocks of two offsets a shard seals."""
    headers: list[Header] = []
    heights: dict[int, int] = defaultdict(int)
    at = 0
    for index, (shard, blocks) in enumerate(steps):
        for block in range(blocks):
            handed = []
            if block == 0 and headers:
                before = headers[-1]
                headers[-1] = replace(before, handovers=(gave(at, shard), *before.handovers))
                handed = [took(at, steps[index - 1][0], before.height)]
            one = _covering(header, shard, at, at + 2, height=heights[shard], handed=handed)
            headers.append(one)
            heights[shard] += 1
            at += 2
    return headers


STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=8).map(
    lambda steps: [step for i, step in enumerate(steps) if i == 0 or steps[i - 1][0] != step[0]]
)


@given(STEPS, st.data())
def test_a_partition_that_moves_between_shards_is_covered_once(
    header: Header, steps: list[tuple[int, int]], data: st.DataObject
) -> None:
    headers = moved(header, steps)
    by_shard = sorted(headers, key=lambda h: h.origin)

    assert _found(headers) == _found(by_shard) == []
    cut = data.draw(st.integers(0, len(by_shard)))
    merged = _checked(by_shard[:cut])
    merged.merge(_checked(by_shard[cut:]))
    assert merged.findings() == []
    assert merged.pending() == []


@given(STEPS.filter(lambda steps: len(steps) > 1), st.data())
def test_a_line_that_is_left_out_or_changed_is_found_at_its_block(
    header: Header, steps: list[tuple[int, int]], data: st.DataObject
) -> None:
    headers = moved(header, steps)
    taking = [h for h in headers if h.handed("took")]
    broken = data.draw(st.sampled_from(taking))
    kept = tuple(h for h in broken.handovers if h.way == "gave")
    (line,) = (h for h in broken.handovers if h.way == "took")
    wrong = data.draw(
        st.sampled_from([None, replace(line, offset=1), replace(line, other="x/shard/9/block/0")])
    )
    changed = replace(broken, handovers=kept if wrong is None else (*kept, wrong))

    found = _found([changed if h is broken else h for h in headers])

    assert [(code, where) for code, where, _ in found][-1] == ("handover-broken", broken.block_origin)


@given(STEPS.filter(lambda steps: len(steps) > 1), st.data())
def test_chains_that_grow_while_they_are_looked_at_are_not_blamed(
    header: Header, steps: list[tuple[int, int]], data: st.DataObject
) -> None:
    """One shard after the other is looked at: a later one may take what an earlier one gave meanwhile."""
    headers = moved(header, steps)
    now, seen = 0, []
    for shard in data.draw(st.permutations(range(3))):
        now = data.draw(st.integers(now, len(headers)))
        seen += [h for h in headers[:now] if h.origin == shard_name(shard)]
    checker = _checked(seen)

    growing = {shard_name(shard) for shard in range(3)}
    assert checker.findings(growing=growing) == []
    assert all(taking in checker.took for taking in checker.unseen(growing))


def test_what_was_given_twice_is_taken_once(header: Header) -> None:
    headers = [
        _covering(header, 0, 0, 5, handed=[gave(5, 1)]),
        _covering(header, 1, 5, 5, handed=[took(5, 0, 0)]),
        _covering(header, 1, 5, 7, height=1, handed=[took(5, 0, 0)]),
    ]

    assert [(code, where) for code, where, _ in _found(headers)] == [
        ("handover-broken", "salus.example/shard/1/block/1")
    ]


def test_a_shard_that_goes_on_after_it_gave_is_found_at_that_block(header: Header) -> None:
    gone_on = _covering(header, 0, 5, 9, height=1)
    given = [_covering(header, 0, 0, 5, handed=[gave(5, 1)]), gone_on]
    taken = _covering(header, 1, 5, 8, handed=[took(5, 0, 0)])

    assert [(code, where) for code, where, _ in _found(given)] == [("handover-broken", gone_on.block_origin)]
    assert [(code, where) for code, where, _ in _found([*given, taken])] == [
        ("coverage-overlap", gone_on.block_origin)
    ]


def test_what_nobody_has_taken_yet_is_pending_and_no_finding(header: Header) -> None:
    checker = _checked([_covering(header, 0, 0, 5, handed=[gave(5, 1)])])

    assert checker.findings() == []
    assert checker.pending() == [("salus.example/shard/0/block/0", LAB, 5, "salus.example/shard/1")]


def test_offsets_in_no_block_are_found(header: Header) -> None:
    found = _found([_covering(header, 0, 0, 5, height=3), _covering(header, 1, 7, 9, height=4)])

    between = "between salus.example/shard/0/block/3 and salus.example/shard/1/block/4"
    detail = f"offsets 5 to 6 of salus.lab.events 0, {between}, are in no block"
    assert found == [("coverage-gap", "salus.example/shard/1/block/4", detail)]


def test_a_beginning_after_offset_zero_is_a_gap(header: Header) -> None:
    assert [code for code, _, _ in _found([_covering(header, 0, 3, 5)])] == ["coverage-gap"]


@pytest.mark.parametrize(("end", "last"), [(9, 4), (5, 4)])
def test_offsets_that_two_shards_claim_are_found(header: Header, end: int, last: int) -> None:
    found = _found([_covering(header, 0, 0, 5), _covering(header, 1, 4, end)])

    assert [code for code, _, _ in found] == ["coverage-overlap"]
    assert (
        f"offsets 4 to {last} of salus.lab.events 0 are covered by salus.example/shard/0 too" in found[0][2]
    )


def _without(header: Header, shard: int, height: int) -> Header:
    """Return a block that covers another partition only."""
    covered = (Range("salus.lab.events", 1, 0, 0),)
    return replace(header, origin=shard_name(shard), height=height, ranges=covered, handovers=())


def _where(headers: Iterable[Header]) -> list[tuple[str, str]]:
    return [(code, where) for code, where, _ in _found(headers)]


def test_a_quiet_partition_moves_before_its_first_offset(header: Header) -> None:
    giver = _covering(header, 0, 0, 0, handed=[gave(0, 1)])
    taker = _covering(header, 1, 0, 0, handed=[took(0, 0, 0)])
    later = _covering(header, 1, 0, 5, height=1)

    assert _found([giver, taker, later]) == []
    assert _found([later, giver]) != []
    first, second = _checked([giver, taker]), _checked([later])
    first.merge(second)
    assert first.findings() == []


@pytest.mark.parametrize("shard", [0, 2])
@pytest.mark.parametrize("has_begun", [False, True])
def test_who_did_not_take_at_offset_0_what_was_given_there_is_found(
    header: Header, *, shard: int, has_begun: bool
) -> None:
    headers = [
        _covering(header, 0, 0, 0, handed=[gave(0, 1)]),
        _covering(header, 1, 0, 0, handed=[took(0, 0, 0)]),
        *([_covering(header, 1, 0, 5, height=1)] if has_begun else []),
        _without(header, 0, 1),
        stray := _covering(header, shard, 0, 5, height=2),
    ]

    assert ("handover-broken", stray.block_origin) in _where(headers)


def test_one_taking_is_one_beginning(header: Header) -> None:
    headers = [
        _covering(header, 0, 0, 10, handed=[gave(10, 1)]),
        _covering(header, 1, 10, 10, handed=[gave(10, 0), took(10, 0, 0)]),
        _covering(header, 0, 10, 10, height=1, handed=[gave(10, 1), took(10, 1, 0)]),
        _covering(header, 1, 10, 10, height=1, handed=[took(10, 0, 1)]),
        _without(header, 0, 2),
    ]
    stray = _covering(header, 0, 10, 15, height=3)

    assert _found(headers) == []
    assert _where([*headers, stray]) == [("handover-broken", stray.block_origin)]


def test_nobody_gives_what_he_never_covered(header: Header) -> None:
    headers = [
        _covering(header, 0, 0, 10, handed=[gave(10, 1)]),
        stray := _covering(header, 2, 10, 10, handed=[gave(10, 3)]),
        _covering(header, 3, 10, 20, handed=[took(10, 2, 0)]),
    ]

    assert _where(headers) == [("handover-broken", stray.block_origin)]


@pytest.mark.parametrize(
    ("height", "offset", "end", "broken"),
    [
        (0, 5, 1, []),
        *((*wrong, ["handover-broken"]) for wrong in [(0, 4, 1), (0, 5, None), (0, 5, 2), (1, 5, 1)]),
    ],
)
def test_a_shard_takes_what_a_chain_left_where_it_ended(
    header: Header, height: int, offset: int, end: int | None, broken: list[str]
) -> None:
    # redB7, 2 to 5: what a stolen key sealed counts nowhere, and another shard goes on before it
    handed = [took(offset, 0, height)]
    checker = _checked(
        [_covering(header, 0, 0, 5), _covering(header, 1, offset, offset + 1, height=7, handed=handed)]
    )
    ended = {} if end is None else {shard_name(0): end}

    assert [f.code for f in checker.findings(ended=ended) if f.code == "handover-broken"] == broken


def test_what_a_chain_left_and_nobody_took_is_known(header: Header) -> None:
    ended = {shard_name(0): 1}
    left = _checked([_covering(header, 0, 0, 5)])
    taken = _checked([_covering(header, 1, 5, 6, handed=[took(5, 0, 0)])])

    assert left.abandoned(ended) == [(f"{shard_name(0)}/block/0", LAB, 5)]
    assert left.abandoned({}) == left.abandoned({shard_name(0): 2}) == []
    left.merge(taken)
    assert left.abandoned(ended) == []


def test_what_was_given_to_a_shard_that_ended_before_it_took_it_another_takes(header: Header) -> None:
    headers = [
        _covering(header, 0, 0, 5, handed=[gave(5, 1)]),
        _covering(header, 2, 5, 6, handed=[took(5, 0, 0)]),
    ]

    assert [code for code, _, _ in _found(headers)] == ["handover-broken"]
    assert _checked(headers).findings(ended={shard_name(1): 3}) == []
