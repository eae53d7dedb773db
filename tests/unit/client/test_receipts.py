"""A receipt is asked for until there is one, and trusted only when it proves what it should."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.client import EventRefusedError, ReceiptUnavailableError
from salus.client import receipts as module
from salus.client.receipts import Receipt, ReceiptSource
from salus.ledger.block import NO_PREVIOUS, Header, Leaf, Range, sign_header
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.errors import ReceiptError
from salus.ledger.merkle import leaf_hash
from salus.ledger.note import NoteSigner
from salus.ledger.policy import Policy
from salus.ledger.receipt import RECEIPT_BYTES_MAX, build_receipt
from salus.messaging import Position

VALUE = b'{"id":"event-1"}'
AT = Position("salus.clinical.events", 2, 41)
SHARD = NoteSigner("salus.example/shard/0", Ed25519PrivateKey.from_private_bytes(b"shard" + bytes(27)))
LOG = NoteSigner("salus.example/log", Ed25519PrivateKey.from_private_bytes(b"log" + bytes(29)))
POLICY = Policy(logs=(LOG.verifier,), shards={SHARD.name: SHARD.verifier})


def receipt_of(value: bytes = VALUE, at: Position = AT, status: str = "accepted") -> bytes:
    """The receipt of the only leaf of the only block of a log."""
    leaf = Leaf(at.topic, at.partition, at.offset, status, leaf_hash(value), None)
    header = Header(
        origin=SHARD.name,
        height=0,
        leaves=1,
        root=leaf.hash(),
        previous=NO_PREVIOUS,
        time=datetime(2026, 11, 22, 15, tzinfo=UTC),
        accepted=1 if leaf.is_accepted else 0,
        body_bytes=10,
        body_sha256=sha256(b"body").digest(),
        identity=("salus.identity.events", 0, 17),
        ranges=(Range(at.topic, at.partition, at.offset, at.offset + 1),),
    )
    note = sign_header(header, SHARD)
    checkpoint = sign_checkpoint(Checkpoint(LOG.name, 1, leaf_hash(note)), [LOG])
    return build_receipt(leaf.data(), 0, [], note, 0, [], checkpoint)


async def fetch(
    answer: Callable[[httpx.Request], httpx.Response], *, policy: Policy | None = POLICY, timeout_s: float = 5
) -> Receipt:
    source = ReceiptSource("http://anchoring/", policy, transport=httpx.MockTransport(answer))
    async with source:
        return await source.fetch(id="event-1", position=AT, value=VALUE, timeout_s=timeout_s)


async def test_a_receipt_that_proves_the_event_is_returned() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=receipt_of())

    receipt = await fetch(answer)
    query = asked[0].url.params

    assert receipt.data == receipt_of()
    assert receipt.verified is not None
    assert receipt.verified.leaf.offset == AT.offset
    assert (query["topic"], query["partition"], query["offset"]) == (AT.topic, "2", "41")
    assert 0 < float(query["wait_s"]) <= module.SERVER_WAIT_S_MAX


async def test_without_a_policy_nothing_is_claimed() -> None:
    receipt = await fetch(lambda _: httpx.Response(200, content=b"anything"), policy=None)

    assert (receipt.data, receipt.verified) == (b"anything", None)


async def test_it_is_asked_for_until_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0)
    answers = [404, 503, 429, None, 200]

    def answer(request: httpx.Request) -> httpx.Response:
        status = answers.pop(0)
        if status is None:
            raise httpx.ConnectError("away", request=request)
        return httpx.Response(status, content=receipt_of())

    assert (await fetch(answer)).verified is not None
    assert answers == []


async def test_there_is_a_deadline() -> None:
    with pytest.raises(ReceiptUnavailableError, match="event-1"):
        await fetch(lambda _: httpx.Response(404), timeout_s=0.01)


async def test_an_answer_that_will_not_change_is_not_asked_for_again() -> None:
    with pytest.raises(ReceiptUnavailableError, match="422"):
        await fetch(lambda _: httpx.Response(422))


async def test_what_is_too_large_for_a_receipt_is_not_read() -> None:
    with pytest.raises(ReceiptUnavailableError, match="too large"):
        await fetch(lambda _: httpx.Response(200, content=b"x" * (RECEIPT_BYTES_MAX + 1)))


async def test_the_receipt_of_a_rejected_record_is_an_error_with_its_reason() -> None:
    content = receipt_of(status="rejected:duplicate")
    with pytest.raises(EventRefusedError) as caught:
        await fetch(lambda _: httpx.Response(200, content=content))

    assert (caught.value.reason, caught.value.receipt) == ("duplicate", content)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (receipt_of(value=b"another"), "event-digest"),
        (receipt_of(at=Position("salus.clinical.events", 2, 42)), "leaf"),
        (receipt_of().replace(b"salus.example/log", b"salus.example/elsewhere"), "checkpoint-signature"),
        (b"not a receipt", "malformed"),
    ],
)
async def test_a_receipt_that_proves_something_else_is_an_error(content: bytes, code: str) -> None:
    with pytest.raises(ReceiptError) as caught:
        await fetch(lambda _: httpx.Response(200, content=content))

    assert caught.value.code == code
