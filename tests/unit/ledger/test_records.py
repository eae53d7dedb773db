"""Records as columns: what is put together is what was there, with and without the compiled library."""

from __future__ import annotations

from array import array
from typing import NamedTuple, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.ledger import records
from salus.ledger.records import HEADERS, STRIDE, UNBOUNDED, Cells, Part, Records, cells_of, gather


class Single(NamedTuple):
    """A record by itself."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[bytes | None, ...]

    def header(self, name: str) -> bytes | None:
        return self.headers[HEADERS.index(name)]


Parts: TypeAlias = tuple[bytes | None, bytes | None, tuple[bytes | None, ...]]

CELLS = st.none() | st.binary(max_size=40)
PARTS = st.lists(st.tuples(CELLS, CELLS, st.tuples(CELLS, CELLS)), max_size=30)
MANY = st.lists(PARTS, max_size=5)
LIBRARIES = st.sampled_from([records.load(), None])


def singles(made: list[Parts]) -> list[Single]:
    return [Single(3 * number, 1000 + number, *parts) for number, parts in enumerate(made)]


@given(PARTS, LIBRARIES)
def test_values_are_counted_without_looking_at_each(
    made: list[Parts], library: records.Library | None
) -> None:
    columns = Records.of("topic", 7, singles(made))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_library", library)
        for rows in (columns, columns.between(2, 5)):
            assert rows.bytes_of(Part.VALUE) == sum(len(row.value or b"") for row in rows)


@given(PARTS)
def test_records_are_what_they_were_one_by_one(made: list[Parts]) -> None:
    found = singles(made)
    columns = Records.of("topic", 7, found)

    assert [(r.offset, r.timestamp_ms, r.key, r.value, (r.signature, r.trace)) for r in columns] == [
        tuple(r) for r in found
    ]
    assert {(r.topic, r.partition) for r in columns} <= {("topic", 7)}
    for offset in (0, 1, 3, 1000):
        assert [*columns.since(offset)] == [r for r in columns if r.offset >= offset]
    assert [*columns.between(2, 5)] == [*columns][2:5]


@given(MANY, st.sampled_from(Part), st.sampled_from([0, 20, UNBOUNDED]), LIBRARIES)
def test_a_column_has_one_part_of_every_record(
    many: list[list[Parts]],
    part: Part,
    size_max: int,
    library: records.Library | None,
) -> None:
    apart = [Records.of("topic", 0, singles(made)) for made in many]
    spans = [(r.data, r.spans) for r in apart]
    there = [(row.key, row.value, row.signature, row.trace)[part] for records in apart for row in records]
    expected = [None if cell is None else cell if len(cell) <= size_max else b"" for cell in there]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(records, "_library", library)
        column = gather(spans, part, size_max=size_max)

    assert [*column] == expected
    assert column == cells_of(expected)
    assert (column.valid is None) == (None not in expected)


@pytest.mark.parametrize("library", [records.load(), None])
def test_what_is_exactly_as_large_as_allowed_is_kept(
    library: records.Library | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_library", library)
    spans = array("Q", [0, 2, 0, 3, 0, 4])

    assert [*gather([(b"abcd", spans)], 0, stride=2, size_max=3)] == [b"ab", b"abc", b""]


@pytest.mark.parametrize("library", [records.load(), None])
@pytest.mark.parametrize("span", [(0, 4), (2, 1), (4, 5), (1 << 62, (1 << 62) + 1)])
def test_spans_that_lead_astray_are_refused(
    span: tuple[int, int], library: records.Library | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "_library", library)
    spans = array("q", [0, 3] * len(Part) + [*span] * len(Part))

    with pytest.raises(ValueError, match="backwards or beyond"):
        gather([(b"abc", spans)], Part.VALUE)


def test_other_rows_may_have_other_spans() -> None:
    rows = array("Q", [0, 1, 1, 3, 3, 3])

    assert gather([(b"abc", rows)], 0, stride=2) == Cells(b"abc", array("Q", [0, 1, 3, 3]))
    assert STRIDE == 8


def test_without_the_library_there_is_none() -> None:
    assert records.load("/nowhere") is None
    assert records.load() is not None
