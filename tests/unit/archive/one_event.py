"""An event, the cells of a body that repeat it, and whether the compiled look at both is certain of them."""

from __future__ import annotations

import ctypes
from typing import Any

import pyarrow as pa

from salus.archive.body import SCHEMA
from salus.archive.quick_rows import QuickRows
from salus.archive.sound_body import FROM_VALUE, repeats

MEMBERS = {
    "specversion": '"1.0"',
    "id": '"1"',
    "source": '"did:key:z6Mk"',
    "type": '"salus.lab.result.v1"',
    "subject": '"urn:uuid:1"',
    "time": '"2026-11-22T15:00:00.5Z"',
    "data": '{"a":[1,-2.50,true,false,null,{},[],"\u00fc\u20ac\U0001f600\\n\\"\\\\"],"id":"2"}',
}
CELLS = ("1", "did:key:z6Mk", "salus.lab.result.v1", "urn:uuid:1", 1_795_359_600_500_000)


def column(name: str, cells: list[Any]) -> pa.Array:
    """Return a column of a body in buffers that end where it does: a sanitizer sees what reads beyond."""
    array = pa.array(cells, SCHEMA.field(name).type)
    valid, *rest = (buffer and buffer.to_pybytes() for buffer in array.buffers())
    ends = [4 * (len(cells) + 1), int.from_bytes(rest[0][4 * len(cells) :][:4], "little")]
    if len(rest) == 1:
        ends = [len(cells) * array.type.bit_width // 8]
    sizes = zip((valid, *rest), ((len(cells) + 7) // 8, *ends), strict=True)
    # Bytes of Python's have one more than they say.
    buffers = [
        None if whole is None else pa.py_buffer((ctypes.c_char * end).from_buffer_copy(whole))
        for whole, end in sizes
    ]
    return pa.Array.from_buffers(array.type, len(cells), buffers)


def json_of(members: dict[str, str]) -> bytes:
    return ("{" + ",".join(f'"{name}":{text}' for name, text in members.items()) + "}").encode()


def is_certain(quick: QuickRows, value: bytes, cells: tuple[Any, ...] = CELLS) -> bool:
    columns = {name: column(name, [cell]) for name, cell in zip(FROM_VALUE, cells, strict=True)}
    certain = not quick.doubtful(columns | {"value": column("value", [value])})
    assert not certain or repeats(value, cells)
    return certain
