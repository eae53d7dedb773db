"""Batches are as few as possible, and of one partition where that costs none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from salus.client.batching import batches_of

LANES = st.lists(st.integers(0, 3), max_size=60)


@given(lanes=LANES, batch_max=st.integers(1, 9))
def test_all_items_go_in_as_few_batches_as_they_fit_in(lanes: list[int], batch_max: int) -> None:
    items = [*enumerate(lanes)]

    batches = [*batches_of(items, lambda item: item[1], batch_max=batch_max)]

    assert sorted(item for batch in batches for item in batch) == items
    assert len(batches) == -(-len(items) // batch_max)
    assert all(1 <= len(batch) <= batch_max for batch in batches)


@given(lanes=LANES, batch_max=st.integers(1, 9))
def test_the_items_of_a_lane_keep_their_order_and_stand_together(lanes: list[int], batch_max: int) -> None:
    batches = [*batches_of([*enumerate(lanes)], lambda item: item[1], batch_max=batch_max)]

    for lane in set(lanes):
        numbers = [number for batch in batches for number, of in batch if of == lane]
        assert numbers == sorted(numbers)
    for batch in batches:
        met = [of for _, of in batch]
        assert met == [of for lane in dict.fromkeys(met) for of in [lane] * met.count(lane)]


@given(lanes=LANES, batch_max=st.integers(1, 9))
def test_what_fills_batches_of_its_own_is_not_mixed_with_others(lanes: list[int], batch_max: int) -> None:
    batches = [*batches_of([*enumerate(lanes)], lambda item: item[1], batch_max=batch_max)]

    pure = [{of for _, of in batch} for batch in batches if len(batch) == batch_max]
    for lane in set(lanes):
        assert pure.count({lane}) >= lanes.count(lane) // batch_max
