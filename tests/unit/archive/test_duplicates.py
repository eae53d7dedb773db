"""The window of duplicates: what is refused is what was accepted lately, compiled and in Python."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from salus.archive import duplicates
from salus.archive.duplicates import (
    FINGERPRINT_BYTES,
    PAIRS_MAX,
    SEED_BYTES,
    SLOT_BYTES,
    SLOTS_A_PAIR,
    CompiledRecent,
    DuplicateWindow,
    PlainRecent,
    Recent,
    fingerprints,
    load,
    new_recent,
)
from salus.ledger import hashing
from salus.ledger.records import Cells, cells_of

LIBRARY = load()
# Pairs that differ only in their first or last byte, or in the middle.
PAIRS = st.builds(
    lambda at, byte: bytes(at) + bytes([byte]) + bytes(FINGERPRINT_BYTES - 1 - at),
    st.sampled_from([0, 7, 14]),
    st.integers(0, 6),
)
BLOCKS = st.lists(st.lists(PAIRS, max_size=40) | st.lists(PAIRS, max_size=10, unique=True), max_size=12)
# All pairs in one slot; all in one, with numbers that go round; and as it is.
SEEDS = st.sampled_from([bytes(SEED_BYTES), bytes(32) + b"\xfa\xff\xff\xff"]) | st.binary(
    min_size=SEED_BYTES, max_size=SEED_BYTES
)
MANY = [sha256(b"%d" % number).digest()[:FINGERPRINT_BYTES] for number in range(1500)]
SEED = sha256(b"seed").digest() + bytes([1, 0, 0, 0])
TEXTS = st.none() | st.binary(max_size=70)

Way = Callable[[int], Recent]


def _compiled(seed: bytes | None) -> Way:
    if LIBRARY is None:
        pytest.skip("no C compiler")
    library = LIBRARY
    return lambda size: CompiledRecent(library, size, seed)


WAYS = SEEDS.map(_compiled) | st.just(PlainRecent)


@given(WAYS, BLOCKS, st.integers(1, 15), st.integers(1, 4))
def test_pairs_are_admitted_together_as_one_by_one(
    way: Way, blocks: list[list[bytes]], size: int, kept: int
) -> None:
    together, singly = (DuplicateWindow(size, kept, way(size)) for _ in range(2))

    for pairs in blocks:
        assert together.admit(b"".join(pairs)) == b"".join(map(singly.admit, pairs))
        assert len(together) == len(singly) <= size
        assert {pair for pair in pairs if pair in together} == {pair for pair in pairs if pair in singly}
        together.end_block()
        singly.end_block()


@given(WAYS, BLOCKS, st.integers(1, 15), st.integers(1, 4))
def test_a_pair_is_refused_exactly_while_it_is_in_the_window(
    way: Way, blocks: list[list[bytes]], size: int, kept: int
) -> None:
    window = DuplicateWindow(size, kept, way(size))
    accepted: list[tuple[int, bytes]] = []

    for pairs in blocks:
        # Only a block that accepted something counts (case B1 of red team B).
        number = len({block for block, _ in accepted})
        for pair, fresh in zip(pairs, window.admit(b"".join(pairs)), strict=True):
            recent = [known for block, known in accepted[-size:] if block > number - kept]
            assert fresh == (pair not in recent)
            if fresh:
                accepted.append((number, pair))
        recent = [known for block, known in accepted[-size:] if block > number - kept]
        assert len(window) == len(recent)
        assert {pair for pair in set(pairs) if pair in window} == {*pairs} & {*recent}
        window.end_block()


@given(WAYS, st.lists(PAIRS, min_size=1, max_size=10), st.integers(0, 100))
def test_no_amount_of_refused_records_makes_a_pair_older(way: Way, pairs: list[bytes], refused: int) -> None:
    # case B1 of red team B: blocks of garbage pushed accepted pairs out of the window
    window = DuplicateWindow(10, 2, way(10))
    window.admit(b"".join(pairs))
    window.end_block()

    for _ in range(refused):
        window.admit(b"")
        window.end_block()

    assert window.admit(b"".join(pairs)) == bytes(len(pairs))


@given(st.integers(1, 600), st.integers(0, 2**32 - 1), st.integers(1, 3))
@example(400, 2**32 - 700, 1)
def test_a_ring_that_went_round_several_times_has_the_last_pairs(size: int, first: int, times: int) -> None:
    pairs = [MANY[number // times] for number in range(1500)]
    compiled = _compiled(SEED[:32] + first.to_bytes(4, "little"))(size)
    plain = PlainRecent(size)

    for at in range(0, len(pairs), 251):
        some = b"".join(pairs[at : at + 251])
        assert compiled.admit(some) == plain.admit(some)
        assert len(compiled) == len(plain)
        for pair in {*pairs[max(0, at - size) : at + 500 : 7]}:
            assert (pair in compiled) is (pair in plain)


@pytest.mark.parametrize("half", [slice(0, 8), slice(7, 15)])
def test_pairs_that_differ_in_either_half_are_spread_over_the_slots(half: slice) -> None:
    recent = _compiled(SEED)(len(MANY))
    assert isinstance(recent, CompiledRecent)
    pairs = [bytearray(FINGERPRINT_BYTES) for _ in MANY]
    for pair, digest in zip(pairs, MANY, strict=True):
        pair[half] = digest[half]
    recent.admit(b"".join(pairs))
    slots = array("I", bytes(recent._memory[: SLOT_BYTES * SLOTS_A_PAIR * len(MANY)]))

    # By chance it would be 1180, and a few dozen more or less.
    assert len(slots) - slots.count(0) == pytest.approx(1180, abs=100)


def test_no_two_windows_have_the_same_slots() -> None:
    one, two = (_compiled(None)(1) for _ in range(2))
    assert isinstance(one, CompiledRecent)
    assert isinstance(two, CompiledRecent)

    assert [*one._window.seed] != [*two._window.seed]


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=40))
def test_a_pair_is_told_by_the_hash_of_both(pairs: list[tuple[bytes | None, bytes | None]]) -> None:
    texts = [b"%b\n%b" % (source or b"", id_ or b"") for source, id_ in pairs]
    expected = b"".join(sha256(text).digest()[:FINGERPRINT_BYTES] for text in texts)
    sources, ids = (cells_of(column) for column in zip(*pairs, strict=True)) if pairs else (cells_of([]),) * 2

    with pytest.MonkeyPatch.context() as patch:
        for library in (LIBRARY, None):
            patch.setattr(duplicates, "_library", library)
            assert fingerprints(sources, ids) == expected


def test_a_pair_is_told_by_cells_out_of_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    sources = Cells(b"..abcd..", array("Q", [2, 4, 6]))
    for library in (LIBRARY, None):
        monkeypatch.setattr(duplicates, "_library", library)
        assert fingerprints(sources, cells_of([b"1", b"2"])) == fingerprints(
            cells_of([b"ab", b"cd"]), cells_of([b"1", b"2"])
        )


def test_source_and_id_are_told_apart() -> None:
    prints = fingerprints(cells_of([b"ab", b"a", b"abc"]), cells_of([b"c", b"bc", b""]))

    assert DuplicateWindow(3, 1).admit(prints) == b"\x01\x01\x01"


@pytest.mark.parametrize("places", [[0, 4], [3, 2], [1 << 63, 1 << 63]])
@pytest.mark.parametrize("is_source", [True, False])
def test_cells_that_lead_astray_are_refused(places: list[int], *, is_source: bool) -> None:
    if LIBRARY is None or hashing.lanes() == 1:
        pytest.skip("no C compiler, or a processor without vector lanes")
    astray, right = Cells(b"abc", array("Q", places)), cells_of([b"x"])

    with pytest.raises(ValueError, match="beyond the data"):
        fingerprints(astray, right) if is_source else fingerprints(right, astray)


def test_what_is_no_fingerprint_is_refused() -> None:
    for recent in (new_recent(2), PlainRecent(2)):
        assert recent.admit(b"") == b""
        assert b"short" not in recent
        with pytest.raises(ValueError, match="16 bytes"):
            recent.admit(bytes(FINGERPRINT_BYTES + 1))
    with pytest.raises(ValueError, match="no pairs"):
        fingerprints(cells_of([b"x"]), cells_of([]))


@pytest.mark.parametrize(("size", "blocks"), [(0, 1), (1, 0), (PAIRS_MAX + 1, 1)])
def test_a_window_has_room_for_something(size: int, blocks: int) -> None:
    with pytest.raises(ValueError, match="at least one block"):
        DuplicateWindow(size, blocks)


def test_without_the_library_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load("/nowhere") is None
    monkeypatch.setattr(duplicates, "_library", None)
    assert isinstance(new_recent(1), PlainRecent)
