"""Leaf hashes of a body in the making are those of its leaves, one by one."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.archive import leaves
from salus.archive.body import SCHEMA
from salus.archive.leaves import leaf_hashes_of
from salus.archive.quick_rows import load
from salus.ledger.block import Leaf

LEAVES = st.lists(
    st.builds(
        Leaf,
        st.sampled_from(["salus.clinical.events", "t"]),
        st.integers(0, 2**31 - 1),
        st.integers(0, 2**63 - 1),
        st.integers(0, 2**63 - 1),
        st.sampled_from(["accepted", "rejected:tombstone"]),
        st.binary(min_size=32, max_size=32),
        st.none() | st.binary(max_size=600),
    ),
    max_size=40,
)


@pytest.fixture(params=["compiled", "python"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(leaves, "_quick", None)
    elif load() is None:
        pytest.skip("no C compiler, or a processor without vector lanes")


def columns_of(made: list[Leaf]) -> dict[str, pa.Array]:
    names = {name: name for name in ("topic", "partition", "offset", "status", "signature")}
    return {
        name: pa.array([getattr(leaf, of_leaf) for leaf in made], SCHEMA.field(name).type)
        for name, of_leaf in (names | {"timestamp": "timestamp_ms"}).items()
    }


@given(LEAVES)
def test_they_are_the_hashes_of_the_leaves(made: list[Leaf]) -> None:
    hashes = leaf_hashes_of(columns_of(made), b"".join(leaf.digest for leaf in made))

    assert hashes == b"".join(leaf.hash() for leaf in made)


@pytest.mark.parametrize("digests", [bytes(32) * 19, bytes(32) * 21, bytes(32) * 20 + b"x"])
def test_as_many_digests_as_rows_are_needed(digests: bytes) -> None:
    made = [Leaf("t", 0, offset, 0, "accepted", bytes(32), None) for offset in range(20)]

    with pytest.raises(ValueError, match="different length"):
        leaf_hashes_of(columns_of(made), digests)
