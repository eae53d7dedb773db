"""A receipt is asked for until there is one, and trusted only when it proves what it should."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.client import (
    EventName,
    EventRefusedError,
    IdReusedError,
    NoReceipt,
    ReceiptUnavailableError,
)
from salus.client import receipts as module
from salus.client.receipts import Receipt, ReceiptSource, StoredEvent
from salus.ledger.block import NO_PREVIOUS, Header, Leaf, Range, sign_header
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.errors import ReceiptError
from salus.ledger.merkle import leaf_hash
from salus.ledger.note import NoteSigner
from salus.ledger.policy import Policy
from salus.ledger.receipt import RECEIPT_BYTES_MAX, build_receipt
from salus.messaging import Position

VALUE = b'{"id":"event-1"}'
EARLIER = datetime(2026, 11, 22, 14, 59, 59, 123456, tzinfo=UTC)
NAME = EventName("did:key:member", "event-1")
AT = Position("salus.clinical.events", 2, 41)
SHARD = NoteSigner("salus.example/shard/0", Ed25519PrivateKey.from_private_bytes(b"shard" + bytes(27)))
LOG = NoteSigner("salus.example/log", Ed25519PrivateKey.from_private_bytes(b"log" + bytes(29)))
POLICY = Policy(logs=(LOG.verifier,), shards={SHARD.name: SHARD.verifier})


def receipt_of(value: bytes = VALUE, at: Position = AT, status: str = "accepted") -> bytes:
    """The receipt of the only leaf of the only block of a log."""
    leaf = Leaf(at.topic, at.partition, at.offset, 1_795_359_600_000, status, leaf_hash(value), None)
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
    answer: Callable[[httpx.Request], httpx.Response],
    *,
    policy: Policy | None = POLICY,
    timeout_s: float = 5,
    value_at: Callable[[datetime], bytes] | None = None,
) -> Receipt:
    source = ReceiptSource("http://anchoring/", policy, transport=httpx.MockTransport(answer))
    async with source:
        return await source.fetch(StoredEvent(NAME, AT, VALUE, value_at), timeout_s=timeout_s)


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
    content = receipt_of(status="rejected:unknown-key")
    with pytest.raises(EventRefusedError) as caught:
        await fetch(lambda _: httpx.Response(200, content=content))

    assert (caught.value.reason, caught.value.receipt) == ("unknown-key", content)


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


def ledger_with(accepted: bytes) -> Callable[[httpx.Request], httpx.Response]:
    """Has refused the record at AT as a duplicate, and accepted this value of the same name before."""

    def answer(request: httpx.Request) -> httpx.Response:
        query = request.url.params
        if "offset" in query:
            return httpx.Response(200, content=receipt_of(status="rejected:duplicate"))
        assert (query["source"], query["id"]) == (NAME.source, NAME.id)
        content = receipt_of(accepted, Position(AT.topic, AT.partition, 7))
        return httpx.Response(200, content=content, headers={"salus-event-time": EARLIER.isoformat()})

    return answer


# case K4
async def test_a_repetition_is_told_what_the_first_attempt_would_have_been_told() -> None:
    receipt = await fetch(ledger_with(VALUE))

    assert receipt.verified is not None
    assert (receipt.verified.leaf.offset, receipt.verified.leaf.is_accepted) == (7, True)


# case K4
async def test_a_repetition_at_another_time_is_the_same_event() -> None:
    def value_at(time: datetime) -> bytes:
        return b"at " + time.isoformat().encode()

    receipt = await fetch(ledger_with(value_at(EARLIER)), value_at=value_at)

    assert receipt.value == value_at(EARLIER)
    with pytest.raises(IdReusedError):
        await fetch(ledger_with(b"other"), value_at=value_at)


# case K4
async def test_another_event_of_the_same_id_is_no_repetition() -> None:
    with pytest.raises(IdReusedError) as caught:
        await fetch(ledger_with(b"other"))

    assert caught.value.reason == "id-reused"
    assert caught.value.receipt == receipt_of(status="rejected:duplicate")
    assert caught.value.accepted == receipt_of(b"other", Position(AT.topic, AT.partition, 7))


async def test_a_lookup_that_leads_to_a_refusal_is_not_believed() -> None:
    content = receipt_of(status="rejected:duplicate")
    with pytest.raises(ReceiptError, match="not an accepted record"):
        await fetch(lambda _: httpx.Response(200, content=content))


async def many(
    answer: Callable[[httpx.Request], httpx.Response], wanted: list[Position | EventName]
) -> list[Receipt | NoReceipt]:
    source = ReceiptSource("http://anchoring/", POLICY, transport=httpx.MockTransport(answer))
    async with source:
        return [one async for one in source.fetch_many(wanted)]


async def test_many_receipts_are_asked_for_at_once_and_each_is_verified(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RECEIPTS_AT_ONCE_MAX", 2)
    asked: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        records = json.loads(request.content)["records"]
        asked.append(len(records))
        lines = [
            {"code": "unknown-event", "detail": "none"}
            if record == {"source": "did:a", "id": "b"}
            else {"receipt": receipt_of().decode(), "topic": AT.topic}
            for record in records
        ]
        return httpx.Response(200, text="".join(json.dumps(line) + "\n" for line in lines))

    found = await many(answer, [AT, EventName("did:a", "b"), NAME])

    assert asked == [2, 1]
    assert found[1] == NoReceipt("unknown-event", "none")
    assert [one.verified is not None for one in found if isinstance(one, Receipt)] == [True, True]
    with pytest.raises(ReceiptError, match="another record"):
        await many(answer, [Position(AT.topic, 0, 0)])


@pytest.mark.parametrize("a_request", [2, 0])
async def test_what_one_request_does_not_come_to_is_asked_for_again_as_long_as_there_is_more(
    a_request: int,
) -> None:
    asked: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        records = json.loads(request.content)["records"]
        asked.append(len(records))
        made = {"receipt": receipt_of().decode(), "topic": AT.topic}
        late = {"status": 503, "code": "too-many-blocks", "detail": "ask again"}
        lines = [made if n < a_request else late for n in range(len(records))]
        return httpx.Response(200, text="".join(json.dumps(line) + "\n" for line in lines))

    found = await many(answer, [AT] * 5)

    assert asked == ([5, 3, 1] if a_request else [5, 5])
    assert [isinstance(one, Receipt) for one in found] == [bool(a_request)] * 5


@pytest.mark.parametrize("content", [b"", b"no json", b"{}\n{}\n"])
async def test_an_answer_of_another_length_or_form_is_no_answer(content: bytes) -> None:
    with pytest.raises(ReceiptUnavailableError):
        await many(lambda _: httpx.Response(200, content=content), [AT])
