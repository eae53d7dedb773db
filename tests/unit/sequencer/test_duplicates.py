"""The window of duplicates: pairs admitted together are what they are one after the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from salus.sequencer.duplicates import DuplicateWindow, fingerprints

PAIRS = st.integers(0, 12).map(lambda number: b"pair %d" % number)
BLOCKS = st.lists(st.lists(PAIRS, max_size=10) | st.lists(PAIRS, max_size=10, unique=True), max_size=12)


@given(BLOCKS, st.integers(1, 15), st.integers(1, 4))
def test_pairs_are_admitted_together_as_one_by_one(blocks: list[list[bytes]], size: int, kept: int) -> None:
    together, singly = DuplicateWindow(size, kept), DuplicateWindow(size, kept)

    for pairs in blocks:
        assert together.admit(pairs) == [fresh for pair in pairs for fresh in singly.admit([pair])]
        assert len(together) == len(singly) <= size
        assert {pair for pair in pairs if pair in together} == {pair for pair in pairs if pair in singly}
        together.end_block()
        singly.end_block()


@given(BLOCKS, st.integers(1, 15), st.integers(1, 4))
def test_a_pair_is_refused_exactly_while_it_is_in_the_window(
    blocks: list[list[bytes]], size: int, kept: int
) -> None:
    window = DuplicateWindow(size, kept)
    accepted: list[tuple[int, bytes]] = []

    for number, pairs in enumerate(blocks):
        for pair, fresh in zip(pairs, window.admit(pairs), strict=True):
            recent = [known for block, known in accepted[-size:] if block > number - kept]
            assert fresh is (pair not in recent)
            if fresh:
                accepted.append((number, pair))
        window.end_block()


def test_source_and_id_are_told_apart() -> None:
    assert len(set(fingerprints([(b"ab", b"c"), (b"a", b"bc"), (b"abc", b"")]))) == 3
