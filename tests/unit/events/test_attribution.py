"""Members find their rejected records, and nobody finds anything else in what is told of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from salus.events.attribution import Attribution, attribution_of
from salus.events.contexts.ledger import RecordRejected
from salus.events.did import LocalSigner
from salus.events.envelope import encode_event
from salus.events.errors import Reason
from salus.events.signature import sign_values

SIGNER = LocalSigner.from_seed(b"memb" * 8)
KEY = SIGNER.verification_method


def told(
    reason: Reason = Reason.SCHEMA_VIOLATION, *, signature: bytes | None = None, **event: object
) -> Attribution:
    value = json.dumps({"source": SIGNER.did, "id": "event-1", "data": {"name": "Anna"}} | event).encode()
    return attribution_of(value=value, signature=signature or sign_values([value], SIGNER)[0], reason=reason)


# case people.md: rejection events named neither source, id nor signer
def test_of_a_validly_signed_record_key_source_and_id_are_told() -> None:
    assert told() == Attribution(KEY, SIGNER.did, "event-1")
    assert told(Reason.DUPLICATE) == Attribution(KEY, SIGNER.did, "event-1")


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.DUPLICATE])
def test_source_and_id_are_told_only_where_the_signature_was_found_valid(reason: Reason) -> None:
    order = [*Reason]
    vouched = order.index(reason) > order.index(Reason.MALFORMED_JSON)

    assert told(reason) == (Attribution(KEY, SIGNER.did, "event-1") if vouched else Attribution(KEY))


@pytest.mark.parametrize("id_", ["Anna Meier", "anna@clinic", "a\nb", "", "x" * 129, "é", 7, None])
def test_an_id_in_which_a_sentence_fits_is_not_told(id_: object) -> None:
    assert told(id=id_).id is None


@pytest.mark.parametrize("source", ["did:key:z6MkOther", "Anna Meier", 7])
def test_a_source_that_did_not_sign_is_not_told(source: object) -> None:
    assert told(Reason.WRONG_SOURCE, source=source) == Attribution(KEY)


@pytest.mark.parametrize("signature", [b"Anna Meier", b"v1 did:key:z#\xff 0/1 AAAA"])
def test_of_a_malformed_signature_nothing_is_told(signature: bytes) -> None:
    assert told(signature=signature) == Attribution()


def test_of_a_record_without_value_or_signature_nothing_is_told_but_the_key() -> None:
    assert attribution_of(value=None, signature=None, reason=Reason.TOMBSTONE) == Attribution()
    signature = sign_values([b"{}"], SIGNER)[0]
    assert attribution_of(value=b"{}", signature=signature, reason=Reason.DUPLICATE) == Attribution(KEY)


def test_what_is_told_fits_the_announcement() -> None:
    one = told()
    value = encode_event(
        RecordRejected(
            topic="t",
            partition=0,
            offset=0,
            reason=Reason.DUPLICATE,
            detail="",
            digest="0" * 64,
            shard=0,
            height=0,
            key=one.key,
            source=one.source,
            id=one.id,
        ),
        id="a",
        source=SIGNER.did,
        subject="s",
        time=datetime(2026, 1, 1, tzinfo=UTC),
    )

    assert json.loads(value)["data"]["id"] == "event-1"
