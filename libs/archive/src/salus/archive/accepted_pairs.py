"""Which (source, id) pairs a body accepts: what duplicates are recognised by."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from salus.archive.body import ACCEPTED, decode_body
from salus.archive.duplicates import fingerprints
from salus.archive.errors import BodyError
from salus.ledger.records import Cells, cells_of


@dataclass(frozen=True, slots=True)
class AcceptedPairs:
    """The fingerprints of the accepted rows, joined, in the order in which the broker appended them.

    `rows` says which row each is of; None: all rows are accepted, and stand in that order.
    """

    prints: bytes
    rows: array[int] | None = None

    def row(self, number: int) -> int:
        """Return the row of the pair of this number."""
        return number if self.rows is None else self.rows[number]


def accepted_pairs(body: bytes) -> AcceptedPairs:
    """Return the pairs of a body whose bytes were compared with its header.

    Raises:
        BodyError: as `decode_body`, or an accepted row lacks its source or id.
    """
    table = decode_body(body, columns=["status", "source", "id", "timestamp"]).combine_chunks()
    rows = pc.indices_nonzero(pc.equal(table["status"], ACCEPTED))
    times = pc.cast(table["timestamp"].take(rows), pa.int64())
    is_mixed = len(rows) > 1 and pc.any(pc.less(times[1:], times[:-1])).as_py()
    if is_mixed:
        # It is stable: rows are in the order of their places, which decides between equal times.
        rows = rows.take(pc.sort_indices(times))
    is_as_is = not is_mixed and len(rows) == len(table)
    table = table if is_as_is else table.take(rows).combine_chunks()
    sources, ids = table["source"], table["id"]
    if sources.null_count or ids.null_count:
        raise BodyError("an accepted row lacks its id")
    prints = fingerprints(_cells(sources), _cells(ids))
    return AcceptedPairs(prints, None if is_as_is else array("I", rows.to_pylist()))


def _cells(texts: pa.ChunkedArray) -> Cells:
    """Return a column that lacks none and is of one piece, in bytes."""
    if not len(texts):
        return cells_of([])
    (piece,) = texts.chunks
    _, places, data = piece.buffers()
    narrow = pa.Array.from_buffers(pa.int32(), len(piece) + 1, [None, places], offset=piece.offset)
    return Cells(data.to_pybytes(), array("Q", narrow.cast(pa.uint64()).buffers()[1].to_pybytes()))
