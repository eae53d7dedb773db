"""The rows of a block in the making, out of records and the verdicts on them, column by column."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from salus.archive.body import ACCEPTED, SCHEMA
from salus.archive.leaves import leaf_hashes_of
from salus.events.canonical import UNCERTAIN, Attribute, Attributes
from salus.events.envelope import Event
from salus.events.fields import microseconds
from salus.events.judging import Judgement
from salus.ledger.merkle import HASH_SIZE
from salus.ledger.records import Cells, Records

FROM_EVENT = ("id", "source", "type", "subject", "time")


@dataclass(frozen=True, slots=True)
class Refused:
    """What a rejected row keeps: its status, the digest of its value, and its signature if it is one."""

    status: str
    digest: bytes
    signature: bytes | None


class Assembled(NamedTuple):
    """A body's rows, and their leaf hashes, joined."""

    table: pa.Table
    leaf_hashes: bytes


def assemble(parts: Sequence[Records], judgement: Judgement, refused: Mapping[int, Refused]) -> Assembled:
    """Return the body's rows, in the records' order, which must be leaf order.

    `refused` are the rows that are rejected, and no others; `judgement` tells of the rest.

    Raises:
        ValueError: records and verdicts do not go together.
    """
    columns = {"topic": _repeated(parts, "topic"), "partition": _repeated(parts, "partition")}
    for name in ("offset", "timestamp"):
        columns[name] = _numbers(name, b"".join(getattr(part, f"{name}s") for part in parts))
    columns["status"] = pa.repeat(pa.scalar(ACCEPTED, _type_of("status")), len(columns["topic"]))
    columns |= _from_events(judgement.attributes)
    columns["digest"] = pa.nulls(len(columns["topic"]), _type_of("digest"))
    columns["signature"] = column_of_cells(judgement.signatures, "signature")
    columns["value"] = column_of_cells(judgement.values, "value")
    for name, cells in _changes(judgement.accepted, refused).items():
        columns[name] = _with(columns[name], cells)
    digests = bytearray(judgement.digests)
    for row, rest in refused.items():
        digests[HASH_SIZE * row : HASH_SIZE * (row + 1)] = rest.digest
    hashes = leaf_hashes_of(columns, bytes(digests))
    columns["leaf_hash"] = _numbers("leaf_hash", hashes)
    return Assembled(pa.Table.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA), hashes)


def column_of_cells(cells: Cells, name: str) -> pa.Array:
    """Return the cells as the body's column of this name; they are not copied."""
    places = pa.Array.from_buffers(pa.uint64(), len(cells.places), [None, pa.py_buffer(cells.places)])
    valid = None if cells.valid is None else pa.py_buffer(cells.valid)
    buffers = [valid, places.cast(pa.int32()).buffers()[1], pa.py_buffer(cells.data)]
    return pa.Array.from_buffers(_type_of(name), len(cells), buffers)


def _type_of(name: str) -> pa.DataType:
    return SCHEMA.field(name).type


def _numbers(name: str, cells: bytes | array[int]) -> pa.Array:
    """Return a column of cells of fixed width that lacks none."""
    kind = _type_of(name)
    data = pa.py_buffer(cells)
    return pa.Array.from_buffers(kind, data.size * 8 // kind.bit_width, [None, data])


def _repeated(parts: Sequence[Records], name: str) -> pa.Array:
    """Return a column of what the records of a part have in common."""
    runs = [
        pa.repeat(pa.scalar(common, _type_of(name)), sum(map(len, run)))
        for common, run in groupby(parts, key=lambda part: getattr(part, name))
    ]
    return pa.concat_arrays(runs) if runs else pa.array([], _type_of(name))


def _from_events(found: Attributes) -> dict[str, pa.Array]:
    texts = {attribute.name.lower(): found.texts(attribute) for attribute in Attribute}
    columns = {name: column_of_cells(cells, name) for name, cells in texts.items()}
    columns["time"] = _numbers("time", found.times)
    names = pa.array([entry.name for entry in found.types], _type_of("type"))
    numbers = pa.Array.from_buffers(pa.int32(), len(found.numbers), [None, pa.py_buffer(found.numbers)])
    if UNCERTAIN in found.numbers:
        numbers = pc.if_else(pc.equal(numbers, UNCERTAIN), None, numbers)
    columns["type"] = names.take(numbers)
    return columns


def _changes(accepted: Mapping[int, Event], refused: Mapping[int, Refused]) -> dict[str, dict[int, Any]]:
    """Return the cells that are other than what was read of all rows together."""
    if not accepted and not refused:
        return {}
    changes: dict[str, dict[int, Any]] = {name: {} for name in FROM_EVENT}
    for row, event in accepted.items():
        envelope = event.envelope
        cells = (envelope.id, envelope.source, event.type.name, envelope.subject, microseconds(envelope.time))
        for name, cell in zip(FROM_EVENT, cells, strict=True):
            changes[name][row] = cell
    for name in FROM_EVENT:
        changes[name] |= dict.fromkeys(refused)
    changes["value"] = dict.fromkeys(refused)
    for name in ("status", "digest", "signature"):
        changes[name] = {row: getattr(rest, name) for row, rest in refused.items()}
    return changes


def _with(column: pa.Array, cells: Mapping[int, Any]) -> pa.Array:
    """Return the column with other cells in some rows."""
    if not cells:
        return column
    rows = sorted(cells)
    mask = bytearray(len(column))
    for row in rows:
        mask[row] = 1
    changed = pa.Array.from_buffers(pa.uint8(), len(mask), [None, pa.py_buffer(mask)]).cast(pa.bool_())
    return pc.replace_with_mask(column, changed, pa.array([cells[row] for row in rows], column.type))
