"""Bodies: what is encoded is decoded, what is not a body is refused, damage is located."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.archive.small_ledger import EVENT_SIGNER, rejected_records

from salus.archive.body import SCHEMA, BodyColumns, decode_body, encode_body, unreadable_parts
from salus.archive.building import BEGIN, columns_of, sample_records
from salus.archive.columns import columns_of_body
from salus.archive.errors import BodyError
from salus.ledger.records import TIMESTAMP_MS_MAX, appended_at

hashes = st.binary(min_size=32, max_size=32)
words = st.none() | st.text(max_size=20)
times = st.none() | st.integers(-(2**51), 2**52).map(lambda us: BEGIN + timedelta(microseconds=us))
rows = st.tuples(
    st.text(min_size=1, max_size=20),
    st.integers(0, 2**31 - 1),
    st.integers(0, 2**63 - 1),
    st.integers(0, TIMESTAMP_MS_MAX),
    st.sampled_from(["accepted", "rejected:tombstone"]),
    words,
    words,
    words,
    words,
    times,
    hashes,
    st.none() | hashes,
    st.none() | st.binary(max_size=100),
    st.none() | st.binary(max_size=100),
)


def sample_columns() -> BodyColumns:
    return columns_of([*sample_records(5, signer=EVENT_SIGNER), *rejected_records(first=5)])


@given(st.lists(rows, max_size=20))
def test_what_is_encoded_is_decoded(made: list[tuple[Any, ...]]) -> None:
    columns = BodyColumns(*map(list, zip(*made, strict=True))) if made else BodyColumns()

    decoded = decode_body(encode_body(columns), verify_pages=True)

    appended = {"timestamp": [appended_at(ms) for ms in columns.timestamp]}
    assert decoded.to_pydict() == {name: getattr(columns, name) for name in SCHEMA.names} | appended


@given(st.lists(rows, max_size=20))
def test_the_fast_lists_are_those_of_arrow(made: list[tuple[Any, ...]]) -> None:
    columns = BodyColumns(*map(list, zip(*made, strict=True))) if made else BodyColumns()
    body = encode_body(columns)
    since = [
        None if time is None else (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        for time in columns.time
    ]

    assert columns_of_body(body) == decode_body(body).to_pydict() | {
        "time": since,
        "timestamp": columns.timestamp,
    }
    assert columns_of_body(body, names=["offset", "value"]) == {
        "offset": columns.offset,
        "value": columns.value,
    }


def test_the_fast_lists_go_over_several_groups_of_rows() -> None:
    columns = columns_of(sample_records(1, signer=EVENT_SIGNER))
    many = BodyColumns(**{name: getattr(columns, name) * 9000 for name in SCHEMA.names})
    many.digest[1::2] = [bytes(32)] * 4500
    many.value[1::2] = [None] * 4500
    body = encode_body(many)

    lists = columns_of_body(body)

    assert lists["digest"] == many.digest
    assert lists["value"] == many.value


def test_the_same_columns_have_the_same_bytes() -> None:
    assert encode_body(sample_columns()) == encode_body(sample_columns())


def test_times_are_kept_as_the_moment_they_are() -> None:
    columns = columns_of(sample_records(1, signer=EVENT_SIGNER))
    columns.time = [datetime(2026, 11, 22, 17, 0, tzinfo=timezone(timedelta(hours=2)))]

    decoded = decode_body(encode_body(columns))

    assert decoded["time"].to_pylist() == [datetime(2026, 11, 22, 15, 0, tzinfo=UTC)]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("topic", [None] * 8),
        ("partition", [0] * 7),
        ("partition", [2**31] * 8),
        ("leaf_hash", [bytes(32)] * 7 + [bytes(31)]),
        ("leaf_hash", [bytes(33)] + [bytes(32)] * 6 + [bytes(31)]),
        ("digest", [bytes(31)] * 8),
        ("value", ["text"] + [1] * 7),
    ],
)
def test_what_is_not_a_column_of_a_body_is_refused(name: str, values: list[Any]) -> None:
    columns = sample_columns()
    setattr(columns, name, values)

    with pytest.raises(ValueError, match=r"not the columns|not 32 bytes|lacks an element"):
        encode_body(columns)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1"])
def test_what_is_not_parquet_is_a_body_error(data: bytes) -> None:
    with pytest.raises(BodyError):
        decode_body(data)


def test_parquet_of_other_columns_is_a_body_error() -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"topic": ["x"]}), sink)

    with pytest.raises(BodyError, match="columns of a body"):
        decode_body(sink.getvalue().to_pybytes())


@given(st.data())
def test_whatever_byte_is_changed_reading_ends_in_rows_or_a_body_error(data: st.DataObject) -> None:
    body = bytearray(encode_body(sample_columns()))
    place = data.draw(st.integers(0, len(body) - 1))
    body[place] ^= data.draw(st.integers(1, 255))

    with suppress(BodyError):
        unreadable_parts(bytes(body))
    for verify in (True, False):
        try:
            decode_body(bytes(body), verify_pages=verify).to_pydict()
        except (BodyError, ValueError, OverflowError):
            continue


def test_a_damaged_page_is_located_by_column_and_rows() -> None:
    body = bytearray(encode_body(sample_columns()))
    column = pq.ParquetFile(pa.BufferReader(bytes(body))).metadata.row_group(0).column(2)
    body[column.data_page_offset + column.total_compressed_size - 2] ^= 1

    (found,) = unreadable_parts(bytes(body))

    assert found.startswith("column offset of rows 0 to 7")


def test_a_whole_body_has_no_unreadable_parts() -> None:
    assert unreadable_parts(encode_body(sample_columns())) == []


def test_another_parquet_reader_reads_a_body(tmp_path: Any) -> None:
    file = tmp_path / "body.parquet"
    file.write_bytes(encode_body(sample_columns()))

    query = f"SELECT status, count(*), min(time) FROM '{file}' GROUP BY 1 ORDER BY 2 DESC"
    counted = duckdb.connect().execute(query).fetchall()

    assert counted[0][:2] == ("accepted", 5)
