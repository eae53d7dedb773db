"""The quick look at a body doubts exactly those in which the slow one finds something."""

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.archive import body as body_module
from salus.archive import sound_body
from salus.archive.body import SCHEMA, body_batches, decode_body, encode_body, encode_table
from salus.archive.building import TOPIC, SampleRecord, columns_of, sample_records
from salus.archive.check_body import Blamed, check_body, check_rows
from salus.archive.columns import columns_of_body
from salus.archive.sound_body import is_sound
from salus.events.did import LocalSigner
from salus.ledger.block import Header, Range, leaf_hashes
from salus.ledger.merkle import leaf_hash, root_of

SIGNER = LocalSigner.from_seed(b"s" * 32)
RECORDS = [
    *sample_records(5, signer=SIGNER),
    SampleRecord(TOPIC, 0, 7, b"no event", None, "rejected:malformed-json"),
    SampleRecord(TOPIC, 0, 9, None, b"sig", "rejected:tombstone"),
    *sample_records(4, signer=SIGNER, partition=1, first=20),
    *sample_records(3, signer=SIGNER, partition=0, topic="salus.lab.events"),
]

ROWS = [0, 4, 5, 6, 7, 11, 13]  # of each kind, and at both ends of a partition


def header_of(records, body):
    columns = columns_of(records)
    places = sorted({(r.topic, r.partition) for r in records})
    ranges = []
    for place in places:
        offsets = [r.offset for r in records if (r.topic, r.partition) == place]
        ranges.append(Range(*place, min(offsets), max(offsets) + 1))
    return Header(
        origin="test/shard/0",
        height=0,
        leaves=len(records),
        root=root_of(columns.leaf_hash),
        previous=bytes(32),
        time=datetime(2026, 11, 22, tzinfo=UTC),
        accepted=sum(r.status == "accepted" for r in records),
        body_bytes=len(body),
        body_sha256=sha256(body).digest(),
        identity=("salus.identity.events", 0, 0),
        ranges=tuple(ranges),
    )


BODY = encode_body(columns_of(RECORDS))
HEADER = header_of(RECORDS, BODY)
OTHER = {
    "topic": "salus.pharma.events",
    "partition": 3,
    "offset": 8,
    "timestamp": datetime(2026, 11, 22, 15, 0, 0, 9000, tzinfo=UTC),
    "status": "rejected:bad-signature",
    "id": "another",
    "source": "did:key:another",
    "type": "another",
    "subject": "another",
    "time": datetime(2026, 11, 22, 15, 0, 0, 1, tzinfo=UTC),
    "leaf_hash": b"h" * 32,
    "digest": b"d" * 32,
    "signature": b"another",
    "value": b"another",
}


@pytest.fixture(autouse=True, params=[(3, True), (4096, True), (3, False), (4096, False)])
def each_way(request, monkeypatch):
    rows, compiled = request.param
    monkeypatch.setattr(body_module, "ROWS_PER_BATCH", rows)
    if not compiled:
        monkeypatch.setattr(sound_body, "_quick", None)
    elif sound_body._quick is None:
        pytest.skip("no C compiler, or a processor without vector lanes")


def changed(row, name, value):
    rows = decode_body(BODY).to_pylist()
    rows[row][name] = value
    return encode_table(pa.Table.from_pylist(rows, schema=SCHEMA))


def slow(header, body):
    return check_rows(Blamed(0, header), columns_of_body(body))


def test_a_body_with_rejected_records_and_several_partitions_is_sound():
    assert is_sound(HEADER, body_batches(BODY))
    assert slow(HEADER, BODY) == []


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", SCHEMA.names)
def test_any_other_cell_is_doubted_and_named(row, name):
    body = changed(row, name, OTHER[name])

    assert not is_sound(HEADER, body_batches(body))
    assert slow(HEADER, body)


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("name", [field.name for field in SCHEMA if field.nullable])
def test_a_cell_that_is_gone_is_doubted_exactly_if_it_is_found(row, name):
    body = changed(row, name, None)

    assert is_sound(HEADER, body_batches(body)) == (slow(HEADER, body) == [])


@settings(max_examples=60, deadline=None)
@given(st.permutations(range(len(RECORDS))), st.integers(min_value=0, max_value=len(RECORDS)))
def test_rows_in_another_order_or_left_out_are_doubted_exactly_if_they_are_found(order, keep):
    records = [RECORDS[at] for at in order[:keep]]
    body = encode_body(columns_of(records))
    header = replace(
        HEADER,
        leaves=len(records),
        accepted=sum(r.status == "accepted" for r in records),
        root=root_of(columns_of(records).leaf_hash),
    )

    assert is_sound(header, body_batches(body)) == (slow(header, body) == [])


@pytest.mark.parametrize(
    "facts", [{"leaves": 13}, {"accepted": 11}, {"root": b"r" * 32}, {"ranges": HEADER.ranges[:2]}]
)
def test_a_header_that_says_something_else_is_doubted(facts):
    header = replace(HEADER, **facts)

    assert not is_sound(header, body_batches(BODY))
    assert slow(header, BODY)


def test_a_sound_body_has_no_findings_and_no_row_is_looked_at_alone(monkeypatch):
    monkeypatch.setattr("salus.archive.check_body.check_rows", lambda *_: pytest.fail("looked at rows"))

    assert check_body(0, HEADER, BODY) == []


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T15:00:00Z",
        "2026-11-22T15:00:00.000000Z",
        "2026-11-22T15:00:00.000000000Z",
        "2026-11-22T16:00:00+01:00",
        "2026-11-22T15:00:00z",
        "2026-11-22t15:00:00Z",
        "2026-11-22 15:00:00Z",
        "2026-11-22T15:00:00",
        "2026-11-22T15:00Z",
        "2026-11-22T15Z",
        "2026-11-22T16:00:00+0100",
        "2026-11-22T16:00:00+01",
        "20261122T150000Z",
        "tomorrow",
    ],
)
def test_a_time_in_a_form_that_the_slow_look_refuses_is_not_sound(text):
    records = sample_records(1, signer=SIGNER)
    columns = columns_of(records)
    value = (records[0].value or b"").replace(b"2026-11-22T15:00:00Z", text.encode())
    columns.value = [value]
    columns.leaf_hash = leaf_hashes(
        [(TOPIC, 0, 0, records[0].timestamp_ms, "accepted", leaf_hash(value), records[0].signature)]
    )
    body = encode_body(columns)
    header = replace(header_of(records, body), root=root_of(columns.leaf_hash))

    assert text.encode() in value
    assert not is_sound(header, body_batches(body)) or slow(header, body) == []


def codes_of(record):
    """What is found in a block that was sealed with this record, hashes and counts being right."""
    body = encode_body(columns_of([record]))
    header = header_of([record], body)
    assert is_sound(header, body_batches(body)) == (slow(header, body) == [])
    return {finding.code for finding in check_body(0, header, body)}


@pytest.mark.parametrize(
    "status",
    [
        "",
        "lost",
        "Accepted",
        "accepted ",
        "accepted 5\nrejected:x",
        "rejected:",
        "rejected:Lost",
        "rejected:lost\n",
        "rejected:" + "x" * 65,
    ],
)
def test_a_row_sealed_with_another_status_is_malformed(status):
    assert codes_of(SampleRecord(TOPIC, 0, 0, b"value", None, status)) == {"row-malformed"}


def test_every_reason_of_the_grammar_is_a_status():
    assert codes_of(SampleRecord(TOPIC, 0, 0, b"value", None, "rejected:" + "x-9" * 21)) == set()


def test_an_accepted_row_sealed_without_a_signature_is_malformed():
    (record,) = sample_records(1, signer=SIGNER)

    assert codes_of(record) == set()
    assert codes_of(replace(record, signature=None)) == {"row-malformed"}


@pytest.mark.parametrize("name", ["topic", "status", "id"])
def test_a_text_that_is_not_utf_8_is_a_finding(name):
    table = decode_body(BODY)
    texts = [b"rejected:\xff", *[b"x"] * (len(table) - 1)]
    broken = pa.Array.from_buffers(pa.string(), len(texts), pa.array(texts, pa.binary()).buffers())
    body = encode_table(table.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), broken))
    header = replace(HEADER, body_bytes=len(body), body_sha256=sha256(body).digest())

    assert [finding.code for finding in check_body(0, header, body)] == ["body-unreadable"]
