"""A block's body: one Parquet file, one row a leaf, in leaf order (docs/ledger-format.md).

The one definition of the columns. The sequencer encodes bodies; receipts, fsck and queries decode them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq

from salus.archive.errors import BodyError
from salus.archive.parquet_bounds import EXPANDED_BYTES_MAX, LEAVES_MAX, expanded_bytes, require_bounded
from salus.archive.parquet_footer import require_sound_footer
from salus.ledger.merkle import HASH_SIZE

SCHEMA = pa.schema(
    [
        pa.field("topic", pa.string(), nullable=False),
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("type", pa.string()),
        pa.field("subject", pa.string()),
        pa.field("time", pa.timestamp("us", tz="UTC")),
        pa.field("leaf_hash", pa.binary(HASH_SIZE), nullable=False),
        pa.field("digest", pa.binary(HASH_SIZE)),
        pa.field("signature", pa.binary()),
        pa.field("value", pa.binary()),
    ]
)
_NULLABLE = [field.nullable for field in SCHEMA]
ACCEPTED = "accepted"

# A damaged page costs at most this many rows their readability, and queries skip groups by statistics.
ROWS_PER_GROUP = 4096
# Not more, or a batch is put together from two groups; not fewer, or calls cost more than the work.
ROWS_PER_BATCH = ROWS_PER_GROUP
# What pyarrow raises for bytes that are not what they should be.
_UNREADABLE = (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError, KeyError)
_DICTIONARY = ["topic", "status", "source", "type"]
_STATISTICS = ["topic", "partition", "offset", "timestamp", "status", "source", "type", "subject", "time"]
# Hashes do not compress; trying costs time.
_COMPRESSION = {n: "NONE" if n in {"leaf_hash", "digest"} else "ZSTD" for n in SCHEMA.names}
_LEVELS = {n: 1 for n, c in _COMPRESSION.items() if c == "ZSTD"}


@dataclass(slots=True)
class BodyColumns:
    """The columns of a small body; the lists have one element a leaf, in leaf order.

    An accepted row has everything but `digest`, which is the RFC 6962 leaf hash of its value. A rejected
    row has `digest` (32 zero bytes for a tombstone), no value and nothing decoded from the value.
    `signature` is the record's signature header as received, None when there was none.
    """

    topic: list[str] = field(default_factory=list)
    partition: list[int] = field(default_factory=list)
    offset: list[int] = field(default_factory=list)
    timestamp: list[int] = field(default_factory=list)
    status: list[str] = field(default_factory=list)
    id: list[str | None] = field(default_factory=list)
    source: list[str | None] = field(default_factory=list)
    type: list[str | None] = field(default_factory=list)
    subject: list[str | None] = field(default_factory=list)
    time: list[datetime | None] = field(default_factory=list)
    leaf_hash: list[bytes] = field(default_factory=list)
    digest: list[bytes | None] = field(default_factory=list)
    signature: list[bytes | None] = field(default_factory=list)
    value: list[bytes | None] = field(default_factory=list)


def encode_body(columns: BodyColumns) -> bytes:
    """Return the Parquet file of these columns; releases the GIL for most of its work.

    Raises:
        ValueError: columns of different length, a missing required element or a hash that is not 32 bytes.
    """
    try:
        table = pa.Table.from_arrays([_column_of(columns, name) for name in SCHEMA.names], schema=SCHEMA)
        table.validate()
    except pa.ArrowException as error:
        raise ValueError(f"not the columns of a body: {error}") from error
    return encode_table(table)


def encode_table(table: pa.Table) -> bytes:
    """Return the Parquet file of a table that has the body's schema."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table,
        sink,
        row_group_size=ROWS_PER_GROUP,
        compression=_COMPRESSION,
        compression_level=_LEVELS,
        use_dictionary=_DICTIONARY,
        write_statistics=_STATISTICS,
        write_page_checksum=True,
        store_schema=False,
    )
    body: bytes = sink.getvalue().to_pybytes()
    return body


def decode_body(data: bytes, *, columns: Sequence[str] | None = None, verify_pages: bool = False) -> pa.Table:
    """Return the body's rows, all columns or those named.

    Nothing is known about the rows until leaf hashes, root and the header's signature were checked. What they
    take is bounded (`salus.archive.parquet_bounds`).

    Args:
        data: the whole Parquet file.
        columns: names of columns to decode; the others cost nothing.
        verify_pages: check the CRC of every page read, which names the damaged column in the error.

    Raises:
        BodyError: not a Parquet file, damaged, too large, or not of the body's schema.
    """
    names = SCHEMA.names if columns is None else list(columns)
    try:
        return _open(data, names, verify_pages=verify_pages).read(columns=names, use_threads=False)
    except _UNREADABLE as error:
        raise BodyError(f"the Parquet file cannot be read: {error}") from error


def body_batches(data: bytes) -> Iterator[pa.RecordBatch]:
    """Yield the body's rows, a group of rows at a time, decoding each when it is asked for.

    Raises:
        BodyError: as `decode_body`.
    """
    try:
        yield from _open(data, SCHEMA.names).iter_batches(batch_size=ROWS_PER_BATCH, use_threads=False)
    except _UNREADABLE as error:
        raise BodyError(f"the Parquet file cannot be read: {error}") from error


def _open(data: bytes, names: Iterable[str], *, verify_pages: bool = False) -> pq.ParquetFile:
    file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=verify_pages)
    if file.schema_arrow.remove_metadata() != SCHEMA:
        raise BodyError("the Parquet file does not have the columns of a body")
    require_sound_footer(data, nullable=_NULLABLE)
    require_bounded(file.metadata, data, columns=[SCHEMA.get_field_index(name) for name in names])
    return file


def _column_of(columns: BodyColumns, name: str) -> pa.Array:
    column: pa.Field = SCHEMA.field(name)
    cells = pa.array(getattr(columns, name), type=column.type)
    if cells.null_count and not column.nullable:
        raise ValueError(f"{name} lacks an element")
    return cells


def unreadable_parts(
    data: bytes, *, rows_max: int = LEAVES_MAX, expanded_bytes_max: int = EXPANDED_BYTES_MAX
) -> list[str]:
    """Return, for a damaged file, which columns of which rows have pages that fail their checksum.

    Raises:
        BodyError: it has more rows, or expands to more.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        groups = [file.metadata.row_group(group) for group in range(file.num_row_groups)]
        shaped = file.schema_arrow.remove_metadata() == SCHEMA
        if shaped:
            require_sound_footer(data, nullable=_NULLABLE)
    except (BodyError, *_UNREADABLE) as error:
        return [f"the file's footer cannot be read ({_first_line(error)})"]
    if not shaped:
        return ["it does not have the columns of a body"]
    found = []
    first = expanded = 0
    for number, group in enumerate(groups):
        rows = group.num_rows
        if first + rows > rows_max:
            raise BodyError(f"it has more than {rows_max} rows")
        for place, name in enumerate(SCHEMA.names):
            try:
                expanded += expanded_bytes(group.column(place), data, rows=rows)
                if expanded <= expanded_bytes_max:
                    file.read_row_group(number, columns=[name], use_threads=False)
            except (BodyError, *_UNREADABLE) as error:
                found.append(f"column {name} of rows {first} to {first + rows - 1} ({_first_line(error)})")
            if expanded > expanded_bytes_max:
                raise BodyError(f"it expands to more than {expanded_bytes_max} bytes")
        first += rows
    return found


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]
