"""Tiles are laid out as C2SP says and give the same roots and proofs as the whole tree."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.ledger.errors import TileError
from salus.ledger.merkle import (
    EMPTY_ROOT,
    leaf_hash,
    levels_of,
    path_in,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from salus.ledger.tiles import (
    ENTRIES,
    CompactRange,
    TileRef,
    consistency_proof,
    decode_bundle,
    decode_tile,
    encode_bundle,
    entries_path,
    inclusion_proof,
    new_tiles,
    range_at,
    root_at,
    tile_path,
    tile_width,
    tiles_for_append,
    tiles_for_consistency,
    tiles_for_inclusion,
    tiles_for_root,
    tiles_of,
)

# Past two full tiles of level 1 would take 131,072 entries; this has full tiles at 0 and a partial at 1.
SIZE = 1500
LOG_ENTRIES = [b"entry %d" % i for i in range(SIZE)]
HASHES = [leaf_hash(entry) for entry in LOG_ENTRIES]
SIZES = st.integers(1, SIZE) | st.sampled_from([1, 2, 255, 256, 257, 511, 512, 513, 1024, SIZE])


class Store(dict[str, bytes]):
    """Tiles by path; a fake of the log's bucket that remembers what was asked of it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[TileRef] = []

    def read(self, level: int, index: int, width: int) -> bytes:
        self.asked.append(TileRef(level, index, width))
        return self[tile_path(level, index, width)]

    def only(self, refs: list[TileRef]) -> Callable[[int, int, int], bytes]:
        found = {ref: self[ref.path] for ref in refs}
        return lambda level, index, width: found[TileRef(level, index, width)]


def grown(*sizes: int) -> Store:
    store, old = Store(), 0
    for size in sizes:
        store.update(new_tiles(old, LOG_ENTRIES[old:size], store.only(tiles_for_append(old))))
        old = size
    return store


WHOLE = grown(SIZE)


@pytest.mark.parametrize(
    ("level", "index", "width", "path"),
    [
        # The first is the specification's own example.
        (0, 1234067, 256, "tile/0/x001/x234/067"),
        (0, 0, 256, "tile/0/000"),
        (0, 999, 1, "tile/0/999.p/1"),
        (3, 1000, 255, "tile/3/x001/000.p/255"),
        (63, 5, 256, "tile/63/005"),
        (ENTRIES, 1234067, 8, "tile/entries/x001/x234/067.p/8"),
    ],
)
def test_paths_are_as_the_specification_says(level: int, index: int, width: int, path: str) -> None:
    assert tile_path(level, index, width) == path


def test_a_tree_of_70000_has_the_specifications_tiles() -> None:
    refs = tiles_of(70_000)

    assert sum(ref.level == 0 and ref.width == 256 for ref in refs) == 273
    assert [ref for ref in refs if ref.width < 256 or ref.level] == [
        TileRef(0, 273, 112),
        TileRef(1, 0, 256),
        TileRef(1, 1, 17),
        TileRef(2, 0, 1),
    ]


def test_a_tree_of_256_has_a_full_tile_and_one_hash_above() -> None:
    assert tiles_of(256) == [TileRef(0, 0, 256), TileRef(1, 0, 1)]
    assert tile_width(1, 1, 256) == 0


@pytest.mark.parametrize(
    ("level", "index", "width"), [(-2, 0, 1), (64, 0, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)]
)
def test_a_tile_that_cannot_be_has_no_path(level: int, index: int, width: int) -> None:
    with pytest.raises(TileError, match="out-of-range"):
        tile_path(level, index, width)


@given(st.lists(SIZES, min_size=1, max_size=6, unique=True).map(sorted))
@settings(max_examples=30)
def test_however_a_log_grew_it_has_the_same_tiles(sizes: list[int]) -> None:
    store = grown(*sizes)
    size = sizes[-1]

    for ref in tiles_of(size):
        start = ref.index << 8 * (ref.level + 1)
        width = 1 << 8 * ref.level
        expected = [root_of(HASHES[start + i * width : start + (i + 1) * width]) for i in range(ref.width)]
        assert decode_tile(store[ref.path], ref.width) == expected
        if ref.level == 0:
            bundle = store[entries_path(ref.index, ref.width)]
            assert decode_bundle(bundle) == LOG_ENTRIES[start : start + ref.width]
    assert root_at(size, store.read) == root_of(HASHES[:size])


@given(SIZES, st.data())
def test_a_tile_proof_is_the_trees_own_path(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    store = grown(size)
    proof = inclusion_proof(index, size, store.only(tiles_for_inclusion(index, size)))

    levels = levels_of(HASHES[:size])
    assert proof == path_in(levels, index)
    verify_inclusion(leaf=HASHES[index], index=index, tree_size=size, path=proof, expected_root=levels[-1][0])


@given(SIZES, SIZES)
def test_each_head_extends_the_one_before(one: int, other: int) -> None:
    first, second = sorted((one, other))
    store = grown(second)
    proof = consistency_proof(first, second, store.only(tiles_for_consistency(first, second)))

    verify_consistency(
        first=first,
        second=second,
        first_root=root_of(HASHES[:first]),
        second_root=root_of(HASHES[:second]),
        proof=proof,
    )


@given(st.integers(0, SIZE), st.integers(0, SIZE))
def test_a_compact_range_has_the_trees_root_and_goes_on_from_any_size(one: int, other: int) -> None:
    first, second = sorted((one, other))
    tree = range_at(first, grown(first).only(tiles_for_root(first))) if first else CompactRange()

    assert tree.root() == root_of(HASHES[:first])
    tree.extend(HASHES[first:second])
    assert (tree.size, tree.root()) == (second, root_of(HASHES[:second]))
    assert len(tree.hashes) == second.bit_count()


def test_the_callers_tiles_are_all_that_is_read() -> None:
    for size in (1, 255, 256, 1000):
        store = grown(size)
        new_tiles(size, LOG_ENTRIES[size : size + 300], store.read)

        assert set(store.asked) <= set(tiles_for_append(size))


def test_nothing_new_needs_no_tiles() -> None:
    assert new_tiles(300, [], grown(300).read) == {}
    assert root_at(0, WHOLE.read) == EMPTY_ROOT


def test_growing_never_changes_an_object_that_was_written() -> None:
    store = grown(200, 256, 700)
    before = dict(store)
    store.update(new_tiles(700, LOG_ENTRIES[700:], store.read))

    assert {path: store[path] for path in before} == before


@pytest.mark.parametrize(("first", "second"), [(0, 1), (2, 1), (-1, 5)])
def test_there_is_no_proof_of_what_cannot_be(first: int, second: int) -> None:
    with pytest.raises(TileError, match="out-of-range"):
        consistency_proof(first, second, WHOLE.read)
    with pytest.raises(TileError, match="out-of-range"):
        inclusion_proof(second, first if first < second else 0, WHOLE.read)


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_decoding_a_bundle_undoes_encoding(entries: list[bytes]) -> None:
    assert decode_bundle(encode_bundle(entries)) == entries


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_are_refused_or_are_a_bundle(data: bytes) -> None:
    with suppress(TileError):
        assert encode_bundle(decode_bundle(data)) == data


@pytest.mark.parametrize("entries", [[], [b""] * 257, [bytes(65_536)]])
def test_what_does_not_fit_into_a_bundle_is_refused(entries: list[bytes]) -> None:
    with pytest.raises(TileError, match="malformed"):
        encode_bundle(entries)


def test_the_longest_entry_fits() -> None:
    assert decode_bundle(encode_bundle([bytes(65_535)])) == [bytes(65_535)]


def test_a_tile_of_another_width_is_refused() -> None:
    with pytest.raises(TileError, match="malformed"):
        decode_tile(bytes(33), 1)
    short = {ENTRIES: encode_bundle([b"only one"]), 0: bytes(64)}
    with pytest.raises(TileError, match="1 entries instead of 2"):
        new_tiles(2, [b"x"], lambda level, *_: short[level])


@pytest.mark.parametrize("data", [b"", b"\0\0" * 257, b"\0", b"\0\1", b"\0\0\0"])
def test_what_is_no_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(TileError, match="malformed"):
        decode_bundle(data)


@pytest.mark.parametrize(("size", "hashes"), [(1, []), (2, [b"short"]), (-1, []), (3, [bytes(32)])])
def test_a_compact_range_has_one_hash_for_each_bit_of_its_size(size: int, hashes: list[bytes]) -> None:
    with pytest.raises(TileError, match="out-of-range"):
        CompactRange(size, hashes)
