"""JSON is certain exactly if the standard library reads it too, apart from what is seldom written."""

from __future__ import annotations

import json
import re

import pyarrow as pa
import pytest
from tests.unit.archive.one_event import CELLS, MEMBERS, column, is_certain, json_of

from salus.archive.quick_rows import QuickRows
from salus.archive.sound_body import FROM_VALUE

EVERY_KIND = (
    r'{"a":[0,-0,0.5,10,-2.50,987654321012345,true,false,null,{},[],[1],{"b":2}],'
    r'"\"\\\/\b\f\n\r\t":" !~' + "\x7f\u00fc\u20ac\U0001f600" + r'"}'
).encode()
# What is read the long way although it is JSON: escapes by number, exponents, many digits.
SELDOM = re.compile(rb"\\u|[0-9][eE]|[0-9]{16}")
BOUNDS = b'"\\\x1f\x7f\x80\xbf\xc0\xff'
LEADS = bytes.fromhex("7f80bfc0c1c2dfe0e1ecedeeeff0f1f3f4f5ff")


def with_data(text: bytes) -> bytes:
    return json_of(MEMBERS | {"data": '"@"'}).replace(b'"@"', text)


def is_json(text: bytes) -> bool:
    try:
        json.loads(text.decode(), parse_constant=lambda word: pytest.fail(f"{word} among the samples"))
    except ValueError:
        return False
    return True


def under_null(cells: pa.Array) -> pa.Array:
    """Return one cell as a null that keeps its bytes."""
    _, *buffers = cells.buffers()
    return pa.Array.from_buffers(cells.type, 1, [pa.py_buffer(b"\0"), *buffers])


def test_any_other_byte_anywhere_is_doubted_unless_it_makes_other_json(quick: QuickRows) -> None:
    assert is_certain(quick, with_data(EVERY_KIND))
    for at in range(len(EVERY_KIND)):
        for byte in range(256):
            other = EVERY_KIND[:at] + bytes([byte]) + EVERY_KIND[at + 1 :]
            certain = is_certain(quick, with_data(other))
            assert certain == is_json(other) or (SELDOM.search(other) and not certain)


def test_any_byte_left_out_or_doubled_is_doubted_unless_it_makes_other_json(quick: QuickRows) -> None:
    for at in range(len(EVERY_KIND)):
        for middle in (b"", EVERY_KIND[at : at + 1] * 2):
            other = EVERY_KIND[:at] + middle + EVERY_KIND[at + 1 :]
            # 16 digits are too many to be sure of the number.
            assert is_certain(quick, with_data(other)) == (
                is_json(other) and not re.search(rb"\d{16}", other)
            )


@pytest.mark.parametrize("more", [1, 2, 3])
def test_every_byte_of_a_wide_character_is_within_its_bounds(quick: QuickRows, more: int) -> None:
    for lead in LEADS:
        for at in range(1, more + 1):
            for byte in range(256) if at == 1 else BOUNDS:
                some = bytearray([lead, *b"\x90\x90\x90"[:more]])
                some[at] = byte
                text = b'"' + some + b'"'
                assert is_certain(quick, with_data(text)) == is_json(text)


@pytest.mark.parametrize("bad", [b"\x00", b"\x1f", b"\x80", b"\xff", b'"', b"\\x"])
@pytest.mark.parametrize("after", [0, 1, 20])
def test_no_place_in_a_string_is_left_out(quick: QuickRows, bad: bytes, after: int) -> None:
    for before in range(50):
        assert not is_certain(quick, with_data(b'"' + b"x" * before + bad + b"x" * after + b'"'))
        assert is_certain(quick, with_data(b'"' + b"x" * before + b'\\"' + b"x" * after + b'"'))


@pytest.mark.parametrize(
    "tail", [b"", b'"', b'"\\', b"\\", b"1", b"-", b"1.", b"tru", b"[", b"[1", b"{", b'{"a"', b'{"a":']
)
def test_a_piece_of_an_event_is_doubted_whatever_it_ends_with(quick: QuickRows, tail: bytes) -> None:
    """Nothing lies beyond its last byte: with `make sanitized` a look there ends the run."""
    whole = json_of({"data": '"\u00fc\u20ac\U0001f600"'} | MEMBERS)

    for end in range(len(whole)):
        assert not is_certain(quick, whole[:end] + tail)


@pytest.mark.parametrize("escape", [r"\"", r"\\", r"\/", r"\b", r"\f", r"\n", r"\r", r"\t"])
@pytest.mark.parametrize("at", range(4))
def test_an_attribute_with_an_escape_is_not_what_its_bytes_are(
    quick: QuickRows, at: int, escape: str
) -> None:
    name, cell = FROM_VALUE[at], f"{CELLS[at]}{escape}"

    assert not is_certain(
        quick, json_of(MEMBERS | {name: f'"{cell}"'}), (*CELLS[:at], cell, *CELLS[at + 1 :])
    )


@pytest.mark.parametrize("name", FROM_VALUE)
def test_an_attribute_of_another_name_is_none(quick: QuickRows, name: str) -> None:
    others = {name[:at] + "x" + name[at + kept :] for at in range(len(name) + 1) for kept in (0, 1)}
    for other in (*others, *(name[:at] + name[at + 1 :] for at in range(len(name)))):
        members = {other if key == name else key: text for key, text in MEMBERS.items()}
        assert not is_certain(quick, json_of(members))
        assert is_certain(quick, json_of(MEMBERS | {other: MEMBERS[name]}))


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_depth_has_an_end_long_before_the_stack_has(quick: QuickRows, opening: str, closing: str) -> None:
    deep = [opening * depth + "1" + closing * depth for depth in (5, 40, 200_000)]

    assert [is_certain(quick, json_of(MEMBERS | {"data": text})) for text in deep] == [True, False, False]


def test_what_lies_under_a_null_is_nothing(quick: QuickRows) -> None:
    """Arrow says nothing about the bytes of a cell that is null."""
    cells = {"topic": "t", "partition": 0, "offset": 0, "timestamp": 0, "status": "s", "digest": bytes(32)}
    columns = {name: column(name, [cell]) for name, cell in cells.items()}
    columns |= {name: column(name, [cell]) for name, cell in zip(FROM_VALUE, CELLS, strict=True)}
    plain = columns | {name: column(name, [None]) for name in ("signature", "value")}
    hidden = {name: under_null(column(name, [b"hidden"])) for name in ("signature", "value")}

    assert quick.leaf_hashes(columns | hidden) == quick.leaf_hashes(plain)
    assert list(quick.doubtful(columns | hidden)) == []
    for name in FROM_VALUE[:4]:
        texts = columns | {name: under_null(columns[name]), "value": column("value", [json_of(MEMBERS)])}
        assert list(quick.doubtful(texts)) == [0]
