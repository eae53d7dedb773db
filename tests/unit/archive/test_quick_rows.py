"""What the compiled look at an event is certain of, the slow one finds too: never the other way round."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.archive.one_event import CELLS, MEMBERS, column, is_certain, json_of

from salus.archive.building import TOPIC
from salus.archive.quick_rows import QuickRows, load
from salus.archive.sound_body import FROM_VALUE
from salus.ledger.block import Leaf
from salus.ledger.merkle import leaf_hash


def test_an_event_as_it_is_written_is_certain(quick: QuickRows) -> None:
    assert is_certain(quick, json_of(MEMBERS))
    assert is_certain(quick, json_of(dict(reversed(MEMBERS.items()))))
    assert is_certain(quick, b" \n" + json_of(MEMBERS).replace(b'":', b'" :\t') + b"\r")


@pytest.mark.parametrize("at", range(len(CELLS)))
def test_another_cell_is_doubted(quick: QuickRows, at: int) -> None:
    cell = CELLS[at]
    others = (cell + "1", cell[:-1], "") if isinstance(cell, str) else (cell + 1, cell - 1)
    for other in (*others, None):
        assert not is_certain(quick, json_of(MEMBERS), (*CELLS[:at], other, *CELLS[at + 1 :]))


@pytest.mark.parametrize("name", FROM_VALUE)
def test_an_attribute_that_lacks_or_stands_twice_or_is_nested_is_doubted(quick: QuickRows, name: str) -> None:
    without = {key: text for key, text in MEMBERS.items() if key != name}
    twice = json_of(MEMBERS)[:-1] + f',"{name}":{MEMBERS[name]}}}'.encode()

    assert not is_certain(quick, json_of(without))
    assert not is_certain(quick, twice)
    assert not is_certain(quick, json_of(without | {"data": json_of(MEMBERS).decode()}))
    assert not is_certain(quick, json_of(without | {name: "null"}))
    assert not is_certain(quick, json_of(without | {name: '["x"]'}))
    assert not is_certain(
        quick, json_of(without | {"\\u00" + f"{ord(name[0]):02x}" + name[1:]: MEMBERS[name]})
    )


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            "1,2",
            "01",
            "-",
            "1.",
            ".5",
            "+1",
            "1e5",
            "1E5",
            "0x1",
            "1" * 16,
            "NaN",
            "Infinity",
            "tru",
            "nul",
        ],
        *['"', '"\\', '"\\"', '"\\x"', '"\\u12"', '"\\u1234"', '"\t"', '"\x00"', '"\x1f"', "'x'", '"\\\x00"'],
        *[
            "[",
            "]",
            "[1",
            "[1,",
            "[1,]",
            "[,1]",
            "[1 2]",
            "{",
            '{"a"}',
            '{"a":}',
            '{"a":1,}',
            "{a:1}",
            "{1:1}",
        ],
        *["[" * 40 + "]" * 40, "[" * 2000 + "]" * 2000, "{}}", "[]]", "1}", "/**/1", "\u00a01"],
    ],
)
def test_what_is_no_json_or_seldom_is_doubted(quick: QuickRows, text: str) -> None:
    assert not is_certain(quick, json_of(MEMBERS | {"data": text}))
    assert not is_certain(quick, json_of({"data": text} | MEMBERS | {"data": text}))
    assert not is_certain(quick, json_of(MEMBERS | {"data": f'{{"deep":[{text}]}}'})) or text in ("", "1,2")


@pytest.mark.parametrize(
    "wide",
    [
        *[
            b"\x80",
            b"\xc3",
            b"\xc0\x80",
            b"\xc1\xbf",
            b"\xe0\x80\x80",
            b"\xe0\x9f\xbf",
            b"\xed\xa0\x80",
            b"\xe2\x82",
        ],
        *[
            b"\xf0\x80\x80\x80",
            b"\xf0\x8f\xbf\xbf",
            b"\xf4\x90\x80\x80",
            b"\xf5\x80\x80\x80",
            b"\xff",
            b"\xfe",
        ],
        *[b"\xe2\x28\xa1", b"\xf0\x90\x28\xbc", b"\xe2\x82\x28", b"\xc3\x28"],
    ],
)
def test_bytes_that_are_not_utf_8_are_doubted_wherever_they_stand(quick: QuickRows, wide: bytes) -> None:
    for filling in (b"", b"x" * 15, b"x" * 40):
        value = json_of(MEMBERS | {"data": '"@"'}).replace(b"@", filling + wide)
        assert not is_certain(quick, value)
        assert not is_certain(quick, value.replace(wide, wide + b"x" * 20))


def test_every_wide_character_is_certain_at_its_bounds(quick: QuickRows) -> None:
    for code in (
        0x80,
        0x7FF,
        0x800,
        0xFFF,
        0x1000,
        0xD7FF,
        0xE000,
        0xFFFF,
        0x10000,
        0xFFFFF,
        0x100000,
        0x10FFFF,
    ):
        assert is_certain(quick, json_of(MEMBERS | {"data": f'"{chr(code)}"'}))


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"x", b"[", b"null", b"{}"])
@pytest.mark.parametrize("after", [b"", b"x", b"\x00", b"{}", b",", b"}"])
def test_what_is_around_the_object_is_doubted(quick: QuickRows, before: bytes, after: bytes) -> None:
    assert is_certain(quick, before + json_of(MEMBERS) + after) == (before == after == b"")


def test_no_piece_of_an_event_is_certain(quick: QuickRows) -> None:
    value = json_of(MEMBERS)

    assert not any(is_certain(quick, value[:end]) for end in range(len(value)))


@settings(max_examples=300)
@given(st.integers(0, 2000), st.integers(0, 255), st.sampled_from(["change", "drop", "double"]))
def test_an_event_with_one_byte_changed_is_certain_only_if_it_still_says_the_same(
    quick: QuickRows, at: int, byte: int, how: str
) -> None:
    value = json_of(MEMBERS)
    at %= len(value)
    middle = {"change": bytes([byte]), "drop": b"", "double": value[at : at + 1] * 2}[how]

    is_certain(quick, value[:at] + middle + value[at + 1 :])


ROWS = st.lists(
    st.tuples(
        st.text(max_size=5),
        st.integers(-(2**31), 2**31 - 1),
        st.integers(-(2**63), 2**63 - 1),
        st.integers(-(2**63), 2**63 - 1),
        st.text(max_size=5),
        st.binary(min_size=32, max_size=32),
        st.none() | st.binary(max_size=700),
        st.none() | st.binary(max_size=200),
    ),
    min_size=1,
    max_size=40,
)


@given(ROWS, st.integers(0, 9))
def test_leaves_are_hashed_as_they_are_one_by_one_also_from_the_middle_of_a_table(
    quick: QuickRows, rows: list[tuple[Any, ...]], first: int
) -> None:
    names = ("topic", "partition", "offset", "timestamp", "status", "digest", "signature", "value")
    columns = {name: column(name, [row[at] for row in rows]) for at, name in enumerate(names)}
    first = min(first, len(rows))
    expected = [
        Leaf(
            row[0], row[1], row[2], row[3], row[4], row[5] if row[7] is None else leaf_hash(row[7]), row[6]
        ).hash()
        for row in rows
    ]

    assert quick.leaf_hashes(columns) == b"".join(expected)
    assert quick.leaf_hashes({n: c.slice(first) for n, c in columns.items()}) == b"".join(expected[first:])


def test_rows_are_told_apart_from_the_middle_of_a_table_and_rejected_ones_are_certain(
    quick: QuickRows,
) -> None:
    rows = [*[(json_of(MEMBERS), CELLS)] * 21, (b"{}", CELLS), (None, (None,) * 5), (json_of(MEMBERS), CELLS)]
    columns = {"value": column("value", [value for value, _ in rows])} | {
        name: column(name, [cells[at] for _, cells in rows]) for at, name in enumerate(FROM_VALUE)
    }

    for first in range(len(rows)):
        doubtful = quick.doubtful({name: cells.slice(first) for name, cells in columns.items()})
        assert list(doubtful) == ([21 - first] if first <= 21 else [])


def test_what_follows_a_value_is_no_part_of_it(quick: QuickRows) -> None:
    """Rows lie one after the other: a piece, and then the rest, must not be read as the whole."""
    value = json_of(MEMBERS)
    cells = {name: column(name, [cell] * 2) for name, cell in zip(FROM_VALUE, CELLS, strict=True)}

    for end in range(len(value) + 1):
        columns = cells | {"value": column("value", [value[:end], value[end:]])}
        assert list(quick.doubtful(columns)) == [row for row in (0, 1) if end != (len(value), 0)[row]]


HASHED, REPEATED = ("topic", "status", "signature", "value"), ("value", "id", "source", "type", "subject")


@pytest.mark.parametrize("places", [[0, 2, 1], [0, 99, 1], [1, -1, 1], [-1, 0, 1], [0, 0, 99], [5, 4, 4]])
@pytest.mark.parametrize(
    ("work", "name"),
    [
        *((QuickRows.leaf_hashes, name) for name in HASHED),
        *((QuickRows.doubtful, name) for name in REPEATED),
    ],
)
def test_columns_whose_places_are_astray_are_refused(
    quick: QuickRows, work: Callable[..., Any], name: str, places: list[int]
) -> None:
    cells = {
        "topic": TOPIC,
        "partition": 0,
        "offset": 0,
        "timestamp": 0,
        "status": "accepted",
        "digest": bytes(32),
    }
    cells |= {"signature": b"s", "value": b"v"} | dict(zip(FROM_VALUE, CELLS, strict=True))
    columns = {key: column(key, [cell] * 2) for key, cell in cells.items()}
    buffers = columns[name].buffers()
    # pyarrow looks at them itself when it makes an array, not later.
    changing = bytearray(buffers[1])
    buffers[1] = pa.py_buffer(changing)
    columns[name] = pa.Array.from_buffers(columns[name].type, 2, buffers)
    work(quick, columns)
    changing[:] = struct.pack("<3i", *places)

    with pytest.raises(ValueError, match="columns"):
        work(quick, columns)


def test_a_library_that_is_missing_or_older_is_done_without(tmp_path: Any) -> None:
    assert load(str(tmp_path / "none")) is None
