"""A structure is read by its shapes or refused: what a decoder passes over, or takes for another, is none."""

from __future__ import annotations

import pytest

from salus.archive.errors import BodyError
from salus.archive.thrift import BINARY, I32, I64, TRUTH, Shape, struct_at

SHAPES: dict[int, Shape] = {1: I32, 2: BINARY, 3: [I64], 4: {1: TRUTH}}
# Field 1 = 3, field 2 = "ab", field 3 = [1, 2], field 4 = {1: true}; a number is told by its distance.
WHOLE = b"\x15\x06" + b"\x18\x02ab" + b"\x19\x26\x02\x04" + b"\x1c\x11\x00" + b"\x00"


def test_a_structure_is_read_by_its_shapes() -> None:
    assert struct_at(WHOLE + b"more", 0, len(WHOLE), SHAPES) == (
        {1: 3, 2: None, 3: [1, 2], 4: {1: True}},
        len(WHOLE),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\x15\x06\x05\x02\x08\x00",  # field 1 twice: the second time by its number
        b"\x16\x06\x00",  # field 1 as i64
        b"\x55\x06\x00",  # a field that there is none of
        b"\x39\x25\x02\x04\x00",  # field 3 as a list of i32
        b"\x4c\x15\x02\x00\x00",  # a number in the place of a truth
        b"\x28\x09ab\x00",  # a text longer than what is left
        b"\x39\xf6\xff\xff\x03\x02",  # a list longer than what is left
        *(WHOLE[:end] for end in range(len(WHOLE))),
    ],
)
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(BodyError):
        struct_at(data, 0, len(data), SHAPES)
