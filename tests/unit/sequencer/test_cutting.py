"""Where batches are cut: by count and by bytes, and however the records came."""

from __future__ import annotations

from collections import deque
from itertools import count

from hypothesis import example, given
from hypothesis import strategies as st

from salus.ledger.records import Records, Row
from salus.sequencer.gathering import Cut

# Of value, key and signature.
SIZES = st.lists(
    st.tuples(st.sampled_from([None, 0, 1, 2, 3, 50]), st.sampled_from([0, 1, 40]), st.sampled_from([0, 2])),
    min_size=1,
    max_size=6,
)
POLLED = st.lists(st.lists(SIZES, min_size=1, max_size=4), min_size=1, max_size=4)


def one_by_one(
    polled: list[list[list[Row]]], records_max: int, bytes_max: int
) -> tuple[list[Row], list[Row], bool]:
    """Return what is taken, what is left over, and whether the batch is full: record by record."""
    taken: list[Row] = []
    carried: deque[Row] = deque()
    room, beside, full = bytes_max, bytes_max, False
    for runs in polled:
        carried.extend(row for run in runs for row in run)
        while carried and not full:
            room -= len(carried[0].value or b"")
            beside -= len(carried[0].key or b"") + len(carried[0].signature or b"")
            if taken and (room < 0 or beside < 0 or len(taken) == records_max):
                full = True
            else:
                taken.append(carried.popleft())
        full |= len(taken) == records_max or room <= 0 or beside <= 0
    return taken, [*carried], full


@given(POLLED, st.integers(1, 20), st.integers(1, 12) | st.integers(50, 120))
@example([[[(50, 0, 0)]]], 9, 49)
@example([[[(1, 0, 0)], [(50, 0, 0)]]], 9, 50)
@example([[[(1, 0, 0), (2, 0, 0), (50, 0, 0)]]], 9, 3)
@example([[[(None, 40, 0)] * 3]], 9, 80)
@example([[[(1, 0, 0), (2, 0, 0)]], [[(None, 0, 0), (0, 0, 0)], [(0, 0, 0), (1, 0, 0)]]], 9, 4)
def test_a_batch_is_cut_where_it_is_full_record_by_record(
    sizes: list[list[list[tuple[int | None, int, int]]]], records_max: int, bytes_max: int
) -> None:
    offsets = count()
    polled = [
        [
            [
                Row(
                    *("t", 0, next(offsets), 0),
                    *(bytes(key), None if size is None else bytes(size), bytes(signature)),
                )
                for size, key, signature in run
            ]
            for run in runs
        ]
        for runs in sizes
    ]
    cut, carried = Cut(records_max, bytes_max), deque[Records]()
    for runs in polled:
        carried.extend(Records.of("t", 0, run) for run in runs)
        cut.take(carried)

    taken, left, full = one_by_one(polled, records_max, bytes_max)
    assert [row for part in cut.taken for row in part] == taken
    assert [row for part in carried for row in part] == left
    assert (cut.is_full, cut.records_left) == (full, records_max - len(taken))
    assert all([*cut.taken, *carried]), "no part is empty"
