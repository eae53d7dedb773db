"""Leaf hashes of a body in the making are those of its leaves, one by one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.archive import leaves
from salus.archive.body import BodyColumns
from salus.archive.leaves import leaf_hashes_of
from salus.archive.quick_rows import load
from salus.ledger.block import Leaf

LEAVES = st.lists(
    st.builds(
        Leaf,
        st.sampled_from(["salus.clinical.events", "t"]),
        st.integers(0, 2**31 - 1),
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


def columns_of(made: list[Leaf]) -> BodyColumns:
    return BodyColumns(
        topic=[leaf.topic for leaf in made],
        partition=[leaf.partition for leaf in made],
        offset=[leaf.offset for leaf in made],
        status=[leaf.status for leaf in made],
        signature=[leaf.signature for leaf in made],
    )


@given(LEAVES)
def test_they_are_the_hashes_of_the_leaves(made: list[Leaf]) -> None:
    hashes = leaf_hashes_of(columns_of(made), [leaf.digest for leaf in made])

    assert hashes == [leaf.hash() for leaf in made]


def test_as_many_digests_as_rows_are_needed() -> None:
    made = [Leaf("t", 0, offset, "accepted", bytes(32), None) for offset in range(20)]

    with pytest.raises(ValueError, match=r"different length|shorter|longer"):
        leaf_hashes_of(columns_of(made), [bytes(32)] * 19)
