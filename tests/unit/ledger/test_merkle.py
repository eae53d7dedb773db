"""The Merkle tree agrees with RFC 6962, with transparency-dev's vectors, and with its own laws."""

from __future__ import annotations

import json
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.ledger.errors import ConsistencyError, InclusionError
from salus.ledger.merkle import (
    EMPTY_ROOT,
    joined_paths,
    leaf_hash,
    levels_of,
    path_in,
    root_from_path,
    root_of,
    verify_consistency,
    verify_inclusion,
)

DATA = Path(__file__).parents[2] / "data" / "merkle"
INCLUSION = sorted((DATA / "transparency-dev" / "inclusion").rglob("*.json"))
CONSISTENCY = sorted((DATA / "transparency-dev" / "consistency").rglob("*.json"))
KNOWN = json.loads((DATA / "rfc6962_known_roots.json").read_bytes())
LEAVES = st.lists(st.binary(max_size=8).map(leaf_hash), min_size=1, max_size=70)


def _hash(text: str | None) -> bytes:
    return b64decode(text or "")


def _vector(path: Path) -> dict[str, Any]:
    vector: dict[str, Any] = json.loads(path.read_bytes())
    return vector


def test_the_vectors_are_all_there() -> None:
    assert len(INCLUSION) == 53
    assert len(CONSISTENCY) == 43


@pytest.mark.parametrize("path", INCLUSION, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_an_inclusion_vector_is_judged_as_its_authors_say(path: Path) -> None:
    vector = _vector(path)

    def verify() -> None:
        verify_inclusion(
            leaf=_hash(vector["leafHash"]),
            index=vector["leafIdx"],
            tree_size=vector["treeSize"],
            path=[_hash(node) for node in vector["proof"] or []],
            expected_root=_hash(vector["root"]),
        )

    if vector["wantErr"]:
        with pytest.raises(InclusionError):
            verify()
    else:
        verify()


@pytest.mark.parametrize("path", CONSISTENCY, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_consistency_vector_is_judged_as_its_authors_say(path: Path) -> None:
    vector = _vector(path)

    def verify() -> None:
        verify_consistency(
            first=vector["size1"],
            second=vector["size2"],
            first_root=_hash(vector["root1"]),
            second_root=_hash(vector["root2"]),
            proof=[_hash(node) for node in vector["proof"] or []],
        )

    if vector["wantErr"]:
        with pytest.raises(ConsistencyError):
            verify()
    else:
        verify()


@pytest.mark.parametrize("size", range(9))
def test_the_roots_of_rfc_6962s_reference_tree_are_known(size: int) -> None:
    leaves = [leaf_hash(bytes.fromhex(data)) for data in KNOWN["leaf_inputs_hex"][:size]]

    assert root_of(leaves).hex() == KNOWN["root_hex_by_size"][size]


def test_the_empty_tree_hashes_no_bytes() -> None:
    assert root_of([]) == EMPTY_ROOT == sha256(b"").digest()


@given(LEAVES)
def test_every_leaf_has_a_proof(leaves: list[bytes]) -> None:
    levels = levels_of(leaves)

    for index, leaf in enumerate(leaves):
        verify_inclusion(
            leaf=leaf,
            index=index,
            tree_size=len(leaves),
            path=path_in(levels, index),
            expected_root=levels[-1][0],
        )


@given(LEAVES, st.data())
def test_no_flipped_bit_of_a_path_or_leaf_verifies(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    levels = levels_of(leaves)
    whole = leaves[index] + b"".join(path_in(levels, index))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    leaf, *path = (bytes(flipped[i : i + 32]) for i in range(0, len(flipped), 32))

    assert root_from_path(leaf=leaf, index=index, tree_size=len(leaves), path=path) != levels[-1][0]


@given(LEAVES, st.data())
def test_a_path_proves_no_other_index(leaves: list[bytes], data: st.DataObject) -> None:
    leaves = [leaf_hash(leaf + i.to_bytes(2, "big")) for i, leaf in enumerate(leaves)]
    levels = levels_of(leaves)
    index, other = data.draw(st.integers(0, len(leaves) - 1)), data.draw(st.integers(-2, len(leaves) + 2))
    if index == other:
        return

    with pytest.raises(InclusionError):
        verify_inclusion(
            leaf=leaves[index],
            index=other,
            tree_size=len(leaves),
            path=path_in(levels, index),
            expected_root=levels[-1][0],
        )


@given(LEAVES)
def test_a_longer_or_shorter_path_proves_nothing(leaves: list[bytes]) -> None:
    levels = levels_of(leaves)
    path = path_in(levels, 0)

    for wrong in ([*path, bytes(32)], [bytes(32), *path], path[:-1] if path else [bytes(32)]):
        with pytest.raises(InclusionError):
            verify_inclusion(
                leaf=leaves[0], index=0, tree_size=len(leaves), path=wrong, expected_root=levels[-1][0]
            )


def test_no_leaf_outside_the_tree_has_a_path() -> None:
    levels = levels_of([bytes(32)])

    for index in (-1, 1):
        with pytest.raises(IndexError):
            path_in(levels, index)


def test_the_empty_tree_is_consistent_with_nothing_that_could_be_told() -> None:
    with pytest.raises(ConsistencyError):
        verify_consistency(first=0, second=1, first_root=EMPTY_ROOT, second_root=bytes(32), proof=[])


@given(LEAVES)
def test_all_paths_at_once_are_the_paths_one_by_one(leaves: list[bytes]) -> None:
    levels = levels_of(leaves)

    assert joined_paths(levels) == [b"".join(path_in(levels, index)) for index in range(len(leaves))]
