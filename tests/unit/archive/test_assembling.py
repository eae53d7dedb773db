"""A block's rows put together column by column are the rows of its records, one by one."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import NETWORK

from salus.archive import leaves
from salus.archive.assembling import Refused, assemble
from salus.archive.body import decode_body, encode_body, encode_table
from salus.archive.building import BEGIN, SampleRecord, columns_of, sample_value
from salus.archive.quick_rows import load
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.judging import judge_batch
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.events.signature import sign_values
from salus.ledger.block import ACCEPTED
from salus.ledger.merkle import leaf_hash
from salus.ledger.records import Row, records_of

SIGNER = LocalSigner.from_seed(b"assembling".ljust(32))
NOON = BEGIN + timedelta(hours=1)
STATUS = "rejected:tombstone"
REFUSED = ["tombstone", "unsigned", "garbage", "large"]
KINDS = st.lists(st.sampled_from(["plain", "spaced", "umlaut", *REFUSED]), max_size=24)


def ring() -> KeyRing:
    key = PublicKey(SIGNER.verification_method, multibase_of(SIGNER.public_key), BEGIN)
    made = KeyRing.rooted(CATALOGUE, network=NETWORK, did=SIGNER.did, key=key)
    made.parties[SIGNER.did] = Party(did=SIGNER.did, kind="member", roles=frozenset(), member=None)
    return made


def made(kind: str, partition: int, offset: int) -> SampleRecord:
    value = sample_value(offset, SIGNER)
    topic = "salus.clinical.events"
    if kind == "spaced":
        value = json.dumps(json.loads(value)).encode()
    if kind == "umlaut":
        value = value.replace(b'"id":"', '"id":"ö'.encode())
    if kind == "garbage":
        value = b"no event"
    if kind == "large":
        value = b" " * (2 << 20)
    signature = sign_values([value], SIGNER)[0] if kind != "unsigned" else None
    return SampleRecord(
        topic,
        partition,
        offset,
        None if kind == "tombstone" else value,
        signature,
        STATUS if kind in REFUSED else ACCEPTED,
    )


def single(record: SampleRecord) -> Row:
    """As it came from the log: with a key, which the sample record does not have."""
    try:
        key = json.loads(record.value or b"")["subject"].encode()
    except ValueError:
        key = None
    return Row(
        *(record.topic, record.partition, record.offset, record.timestamp_ms),
        *(key, record.value, record.signature),
    )


def kept(row: SampleRecord) -> Refused:
    digest = bytes(32) if row.value is None else leaf_hash(row.value)
    return Refused(row.status, digest, row.signature)


@pytest.fixture(params=["compiled", "python"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "python":
        monkeypatch.setattr(leaves, "_quick", None)
    elif load() is None:
        pytest.skip("no C compiler, or a processor without vector lanes")


@given(st.lists(KINDS, max_size=3))
def test_the_columns_are_those_of_the_rows(kinds: list[list[str]]) -> None:
    rows = [made(kind, p, offset) for p, many in enumerate(kinds) for offset, kind in enumerate(many)]
    parts = records_of(map(single, rows))
    judgement = judge_batch(parts, ring=ring())
    assert [*judgement.refused] == [n for n, row in enumerate(rows) if row.status != ACCEPTED]
    refused = {row: kept(rows[row]) for row in judgement.refused}

    table, hashes = assemble(parts, judgement, refused)

    expected = columns_of(rows)
    table.validate(full=True)
    assert table.equals(decode_body(encode_body(expected)))
    assert hashes == b"".join(expected.leaf_hash)
    assert encode_table(table) == encode_body(expected)
