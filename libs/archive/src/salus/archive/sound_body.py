"""Tells, column by column, whether a body is what its header says: what `check_body` names, row by row.

Nearly every body is sound, so this is where checking a ledger spends its time. Leaves and events' JSON are
looked at by compiled code (`salus.archive.quick_rows`); without it leaves by Arrow, and events one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from salus.archive.body import ACCEPTED
from salus.archive.columns import list_of, spans_of
from salus.archive.quick_rows import load
from salus.events.fields import microseconds
from salus.ledger.block import LEAF_ORIGIN, Header
from salus.ledger.hashing import hash_spans
from salus.ledger.leaf_grammar import is_status
from salus.ledger.merkle import HASH_SIZE, LEAF_PREFIX, root_of_joined
from salus.ledger.records import TIMESTAMP_MS_MAX
from salus.ledger.times import read_time

FROM_VALUE = ("id", "source", "type", "subject", "time")
_DIGEST = pa.binary(HASH_SIZE)


class Attributes(msgspec.Struct, frozen=True, gc=False):
    """The attributes of an event that a body repeats in columns."""

    id: str
    source: str
    type: str
    subject: str
    time: str


_ATTRIBUTES = msgspec.json.Decoder(Attributes)
_quick = load()


def is_sound(header: Header, batches: Iterable[pa.RecordBatch]) -> bool:
    """Tell whether `check_body` would find nothing in these rows, which are all of the body's."""
    rows, accepted, hashes = 0, 0, []
    order = _Order(header)
    for batch in batches:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        is_accepted = pc.equal(columns["status"], ACCEPTED)
        rows += batch.num_rows
        accepted += is_accepted.true_count
        stored = _joined(columns["leaf_hash"])
        try:
            if not (
                _keeps_what_it_should(columns, is_accepted)
                and order.goes_on(columns)
                and _hashes(columns) == stored
                and _repeats_the_events(columns)
            ):
                return False
        except ValueError:
            # A text that is not UTF-8, or columns that no writer writes.
            return False
        hashes.append(stored)
    return (rows, accepted) == (header.leaves, header.accepted) and root_of_joined(
        b"".join(hashes)
    ) == header.root


def repeats(value: bytes, cells: Sequence[Any]) -> bool:
    """Tell whether cells of `FROM_VALUE`, `time` in microseconds since 1970 UTC, repeat an event."""
    try:
        event = _ATTRIBUTES.decode(value)
        time = microseconds(read_time(event.time))
    except (ValueError, RecursionError):
        return False
    return (event.id, event.source, event.type, event.subject, time) == tuple(cells)


def _keeps_what_it_should(columns: Mapping[str, pa.Array], accepted: pa.BooleanArray) -> bool:
    """An accepted row has value and signature, a rejected one its digest, and there is no other status.

    Each has a time that a reader gives a record.
    """
    statuses = pc.unique(columns["status"].cast(pa.binary())).to_pylist()
    if not all(is_status(status.decode(errors="replace")) for status in statuses):
        return False
    times = pc.min_max(columns["timestamp"].cast(pa.int64()))
    if len(accepted) and not 0 <= times["min"].as_py() <= times["max"].as_py() <= TIMESTAMP_MS_MAX:
        return False
    whole = pc.and_(pc.is_valid(columns["value"]), pc.is_null(columns["digest"]))
    whole = pc.and_(whole, pc.is_valid(columns["signature"]))
    bare = pc.and_(pc.is_null(columns["value"]), pc.is_valid(columns["digest"]))
    for name in FROM_VALUE:
        bare = pc.and_(bare, pc.is_null(columns[name]))
    return bool(pc.all(pc.if_else(accepted, whole, bare)).as_py())


class _Order:
    """Each row lies within the header's ranges, after the row before it."""

    def __init__(self, header: Header) -> None:
        self._ranges = {(r.topic, r.partition): (r.first, r.next) for r in header.ranges}
        self._last = ("", -1, -1)

    def goes_on(self, columns: Mapping[str, pa.Array]) -> bool:
        """Tell whether these rows do, after those of the calls before."""
        for place, start, end in _runs(columns["topic"], columns["partition"]):
            run = columns["offset"].slice(start, end - start)
            first, following = self._ranges.get(place, (0, 0))
            lowest, highest = run[0].as_py(), run[-1].as_py()
            if (*place, lowest) <= self._last or lowest < first or highest >= following:
                return False
            if len(run) > 1 and pc.min(pc.pairwise_diff(run)).as_py() <= 0:
                return False
            self._last = (*place, highest)
        return True


def _runs(topics: pa.Array, partitions: pa.Array) -> list[tuple[tuple[str, int], int, int]]:
    """Return each stretch of rows of one partition: which, its first row, and the row after its last."""
    named, numbered = pc.run_end_encode(topics), pc.run_end_encode(partitions)
    ends = sorted({*named.run_ends.to_pylist(), *numbered.run_ends.to_pylist()})
    starts = [0, *ends[:-1]]
    return [
        ((topics[start].as_py(), partitions[start].as_py()), start, end)
        for start, end in zip(starts, ends, strict=True)
    ]


def _hashes(columns: Mapping[str, pa.Array]) -> bytes:
    """Return the rows' leaf hashes, joined, out of position, timestamp, status, signature and value."""
    if _quick is not None:
        return _quick.leaf_hashes(columns)
    values = spans_of(columns["value"])
    computed = hash_spans(LEAF_PREFIX, values.data, values.places)
    rows = len(columns["value"])
    digests = pa.Array.from_buffers(_DIGEST, rows, [None, pa.py_buffer(computed)])
    if columns["value"].null_count:
        digests = pc.if_else(pc.is_valid(columns["value"]), digests, columns["digest"])
    leaves = spans_of(_leaf_data(columns, digests))
    return hash_spans(LEAF_PREFIX + LEAF_ORIGIN, leaves.data, leaves.places)


def _joined(hashes: pa.FixedSizeBinaryArray) -> bytes:
    start = hashes.offset * HASH_SIZE
    joined: bytes = hashes.buffers()[1][start : start + len(hashes) * HASH_SIZE].to_pybytes()
    return joined


def _leaf_data(columns: Mapping[str, pa.Array], digests: pa.Array) -> pa.BinaryArray:
    """Return what each leaf hashes, after its origin (docs/ledger-format.md)."""
    length = pc.fill_null(pc.cast(pc.binary_length(columns["signature"]), pa.string()), "-")
    numbers = [pc.cast(columns[name], pa.string()) for name in ("partition", "offset")]
    numbers.append(pc.cast(pc.cast(columns["timestamp"], pa.int64()), pa.string()))
    line = pc.binary_join_element_wise(columns["topic"], *numbers, columns["status"], length, " ")
    ended = pc.binary_join_element_wise(line, "\n", "")
    return pc.binary_join_element_wise(
        pc.cast(ended, pa.binary()),
        pc.cast(digests, pa.binary()),
        pc.fill_null(columns["signature"], b""),
        b"",
    )


def _repeats_the_events(columns: Mapping[str, pa.Array]) -> bool:
    if _quick is not None:
        doubtful = pa.array(_quick.doubtful(columns), pa.int64())
    else:
        doubtful = pc.indices_nonzero(pc.is_valid(columns["value"]))
    if len(doubtful) == 0:
        return True
    values, *told = (list_of(name, columns[name].take(doubtful)) for name in ("value", *FROM_VALUE))
    return all(map(repeats, values, zip(*told, strict=True)))
