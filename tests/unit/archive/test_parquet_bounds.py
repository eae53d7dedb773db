"""A body expands to a bounded size, or is refused before anything of it is expanded (case F15)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.unit.archive.test_sound_body import BODY

from salus.archive.body import SCHEMA, body_batches, decode_body, encode_table, unreadable_parts
from salus.archive.check_body import check_body
from salus.archive.errors import BodyError
from salus.archive.parquet_bounds import EXPANDED_BYTES_MAX, LEAVES_MAX
from salus.ledger.block import NO_PREVIOUS, Header, Range

ROW = {
    "topic": "t",
    "status": "accepted",
    "partition": 0,
    "offset": 0,
    "timestamp": 0,
    "leaf_hash": bytes(32),
}


def repeated(rows: int, **cells: object) -> pa.Table:
    """Rows that are all alike: they take no room in a file, and all of it in memory."""
    row = ROW | cells
    columns = {f.name: repeated_cell(pa.scalar(row.get(f.name), f.type), rows) for f in SCHEMA}
    fields = [pa.field(f.name, columns[f.name].type, nullable=f.nullable) for f in SCHEMA]
    return pa.Table.from_arrays(list(columns.values()), schema=pa.schema(fields))


def repeated_cell(cell: pa.Scalar, rows: int) -> pa.Array:
    if not isinstance(cell, pa.StringScalar) or not cell.is_valid:
        return pa.repeat(cell, rows)
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), rows), [cell.as_py()])


def written(table: pa.Table, **choices: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, **({"compression": "zstd", "store_schema": False} | choices))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def header_of(data: bytes, *, leaves: int) -> Header:
    return Header(
        origin="t/shard/0",
        height=0,
        leaves=leaves,
        root=bytes(32),
        previous=NO_PREVIOUS,
        time=datetime(2026, 11, 22, tzinfo=UTC),
        accepted=leaves,
        body_bytes=len(data),
        body_sha256=sha256(data).digest(),
        identity=("i", 0, 0),
        ranges=(Range("t", 0, 0, leaves),),
    )


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is expanded: whatever decodes rows is not to be reached."""

    class Unread(pq.ParquetFile):  # type: ignore[misc]  # pyarrow has no types
        def read(self, *_: object, **__: object) -> None:
            pytest.fail("it was decoded")

        read_row_group = iter_batches = read

    monkeypatch.setattr(pq, "ParquetFile", Unread)


MANY_ROWS = written(repeated(4_000_000), row_group_size=4_000_000)
LONG_TEXT = written(repeated(4096, id="x" * (1 << 19)))
LONG_TOPICS = written(repeated(4096, topic="x" * (1 << 19)))


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize(
    ("bomb", "why"),
    [
        pytest.param(MANY_ROWS, "4000000 rows", id="rows"),
        pytest.param(LONG_TEXT, "expands to more", id="text"),
        pytest.param(LONG_TOPICS, "expands to more", id="dictionary"),
    ],
)
def test_a_small_file_that_expands_is_not_expanded(bomb: bytes, why: str) -> None:
    assert len(bomb) < 300_000

    for read in (decode_body, lambda data: list(body_batches(data))):
        with pytest.raises(BodyError, match=r"rows|expands to more"):
            read(bomb)
    with pytest.raises(BodyError, match=why):
        decode_body(bomb)


@pytest.mark.parametrize("bomb", [MANY_ROWS, LONG_TEXT, LONG_TOPICS])
def test_a_damaged_file_that_expands_is_not_looked_into(bomb: bytes) -> None:
    with pytest.raises(BodyError, match=r"rows|expands to more"):
        unreadable_parts(bomb)


def test_what_is_not_what_was_signed_expands_to_no_more_than_a_body_does() -> None:
    changed = written(repeated(4096, value=bytes(8192)), use_dictionary=["value"])
    other = replace(header_of(BODY, leaves=4096), body_bytes=len(changed))

    [found] = check_body(0, other, changed)

    assert found.code == "body-hash"
    assert "not looked into" in found.detail


def test_what_has_more_rows_than_were_signed_is_not_looked_into() -> None:
    changed = written(repeated(3))

    [found] = check_body(0, replace(header_of(changed, leaves=2), body_sha256=bytes(32)), changed)

    assert (found.code, "more than 2 rows" in found.detail) == ("body-hash", True)


@pytest.mark.parametrize("bomb", [MANY_ROWS, LONG_TEXT])
def test_a_signed_body_that_expands_is_unreadable(bomb: bytes) -> None:
    assert [f.code for f in check_body(0, header_of(bomb, leaves=1), bomb)] == ["body-unreadable"]


@pytest.mark.parametrize(
    "choices",
    [
        pytest.param({"data_page_version": "2.0"}, id="pages of version 2"),
        pytest.param({"compression": "gzip"}, id="gzip"),
        pytest.param(
            {"column_encoding": {"value": "DELTA_BYTE_ARRAY"}, "use_dictionary": False}, id="deltas"
        ),
    ],
)
def test_what_no_body_is_written_with_is_refused(choices: dict[str, Any]) -> None:
    data = written(repeated(10, value=b"x"), **choices)

    with pytest.raises(BodyError):
        decode_body(data)


@pytest.mark.parametrize("compression", ["zstd", "none"])
def test_dictionaries_of_any_column_are_read(compression: str) -> None:
    cells = {"value": b"value", "digest": b"\xff" * 32, "time": datetime(2026, 11, 22, tzinfo=UTC), "id": "a"}
    row = repeated(100, leaf_hash=b"\xfe" * 32, **cells)

    assert decode_body(written(row, use_dictionary=True, compression=compression)).num_rows == 100


def test_the_largest_body_is_read() -> None:
    # So many rows, and nearly so many bytes of them.
    table = repeated(LEAVES_MAX, value=bytes(3000))
    assert table.nbytes > EXPANDED_BYTES_MAX * 3 // 4

    assert decode_body(encode_table(table.cast(SCHEMA))).num_rows == LEAVES_MAX
    with pytest.raises(BodyError, match="65537 rows"):
        decode_body(written(repeated(LEAVES_MAX + 1)))
