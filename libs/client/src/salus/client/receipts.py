"""Fetches receipts from anchoring and trusts none before it is verified."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx

from salus.client.bounded_http import bounded_client
from salus.client.errors import EventRefusedError, IdReusedError, ReceiptUnavailableError
from salus.events.errors import Reason, RejectedError
from salus.ledger.errors import ReceiptError
from salus.ledger.json_reader import JsonError, read_json
from salus.ledger.merkle import leaf_hash
from salus.ledger.policy import Policy
from salus.ledger.receipt import RECEIPT_BYTES_MAX, VerifiedReceipt, verify_receipt
from salus.messaging import Position

# One request waits on the server for so long at most, then another one is sent.
SERVER_WAIT_S_MAX = 10.0
ANSWER_S = 5.0
RETRY_S = 0.2
# So many receipts are asked for in one request.
RECEIPTS_AT_ONCE_MAX = 1000
# A receipt takes some kilobytes.
BULK_ANSWER_BYTES_MAX = 128 * 1024 * 1024
# The server answers a request for many within a minute.
BULK_ANSWER_S = 90.0
# What a server says of records in more blocks than it reads for one request.
_TOO_MANY = "too-many-blocks"
_REFUSED = "rejected:"
_EVENT_TIME = "salus-event-time"
# "Not yet", "too many", "away for now": the same question may be answered later.
_ASK_AGAIN = frozenset({202, 204, 404, 408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Receipt:
    """The receipt file of one event; `verified` says what it proves, if a policy was there to check it.

    `value` is the event that it is of: of a repetition, the bytes that were accepted at the first attempt.
    """

    data: bytes
    verified: VerifiedReceipt | None
    value: bytes | None = None


@dataclass(frozen=True, slots=True)
class EventName:
    """The source and the id of an event, by which anchoring finds the record that the ledger accepted."""

    source: str
    id: str


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event that was sent: where it stands, and its bytes.

    `value_at` makes the bytes that it would have had at another time; it is given for an event whose time
    is that of publishing, so that a repetition is the same event.
    """

    name: EventName
    position: Position
    value: bytes
    value_at: Callable[[datetime], bytes] | None = None


@dataclass(frozen=True, slots=True)
class NoReceipt:
    """Why anchoring has no receipt of a record (yet); `code` is stable."""

    code: str
    detail: str


class ReceiptSource:
    """Asks `GET {url}/receipts` and `POST {url}/receipts`; use it as an async context manager."""

    def __init__(
        self, url: str | None, policy: Policy | None, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._url = url
        self._policy = policy
        self._transport = transport
        self._http: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        """Open the connection pool; nothing is sent yet."""
        if self._url is not None:
            self._http = bounded_client(
                BULK_ANSWER_BYTES_MAX, base_url=self._url.rstrip("/"), transport=self._transport
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection pool."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def fetch(self, event: StoredEvent, *, timeout_s: float) -> Receipt:
        """Return the receipt of an event, verified if there is a policy.

        A record that the ledger refused as a duplicate leads to the one that it accepted: whoever repeats an
        event is told what the first attempt would have told.

        Raises:
            ReceiptUnavailableError: none within `timeout_s` seconds, or no URL was given.
            IdReusedError: the ledger has accepted another event of this source and id.
            EventRefusedError: it proves that the record was rejected.
            salus.ledger.errors.LedgerError: it does not prove what it should.
        """
        name = event.name
        try:
            async with asyncio.timeout(timeout_s):
                data, _ = await self._ask(_of_position(event.position), timeout_s)
                if self._policy is None:
                    return Receipt(data, None, event.value)
                verified = _verify(self._policy, data, event.position, event.value)
                if verified.leaf.status == _REFUSED + Reason.DUPLICATE:
                    return await self._accepted(self._policy, event, data, timeout_s)
        except TimeoutError:
            raise ReceiptUnavailableError(f"no receipt of event {name.id} within {timeout_s} s") from None
        if not verified.leaf.is_accepted:
            reason = verified.leaf.status.removeprefix(_REFUSED)
            raise EventRefusedError(id=name.id, reason=reason, receipt=data)
        return Receipt(data, verified, event.value)

    async def fetch_many(self, wanted: Sequence[Position | EventName]) -> AsyncIterator[Receipt | NoReceipt]:
        """Yield for each of the wanted records, in their order, its receipt or why there is none.

        Each is verified if there is a policy; whether it was accepted is for the caller to look at.

        Raises:
            ReceiptUnavailableError: anchoring does not answer.
            salus.ledger.errors.LedgerError: a receipt does not prove what it should.
        """
        for first in range(0, len(wanted), RECEIPTS_AT_ONCE_MAX):
            part = wanted[first : first + RECEIPTS_AT_ONCE_MAX]
            lines = await self._lines_of(part)
            for one, line in zip(part, lines, strict=True):
                yield self._opened(one, line)

    async def _lines_of(self, wanted: Sequence[Position | EventName]) -> list[dict[str, Any]]:
        """Ask for all, and again for those that the server did not come to, as long as it comes to more."""
        lines = await self._ask_many(wanted)
        before = len(wanted) + 1
        while 0 < len(left := [n for n, line in enumerate(lines) if line.get("code") == _TOO_MANY]) < before:
            before = len(left)
            again = await self._ask_many([wanted[n] for n in left])
            for number, line in zip(left, again, strict=True):
                lines[number] = line
        return lines

    def _opened(self, wanted: Position | EventName, line: Mapping[str, Any]) -> Receipt | NoReceipt:
        if "receipt" not in line:
            return NoReceipt(str(line.get("code")), str(line.get("detail")))
        data = str(line["receipt"]).encode()
        if self._policy is None:
            return Receipt(data=data, verified=None)
        if isinstance(wanted, Position):
            return Receipt(data, _verify(self._policy, data, wanted, None))
        return Receipt(data, verify_receipt(data, self._policy))

    async def _accepted(
        self, policy: Policy, event: StoredEvent, refusal: bytes, timeout_s: float
    ) -> Receipt:
        name = event.name
        data, time = await self._ask({"source": name.source, "id": name.id}, timeout_s)
        verified = verify_receipt(data, policy)
        if not verified.leaf.is_accepted:
            raise ReceiptError("leaf", "what was found by source and id is not an accepted record")
        for value in _values_of(event, time):
            if leaf_hash(value) == verified.leaf.digest:
                return Receipt(data, verified, value)
        raise IdReusedError(id=name.id, receipt=refusal, accepted=data)

    def _open(self) -> httpx.AsyncClient:
        if self._http is None:
            raise ReceiptUnavailableError("no receipts_url was given, or the publisher is closed")
        return self._http

    async def _ask(self, query: Mapping[str, str | int], timeout_s: float) -> tuple[bytes, str | None]:
        http, loop = self._open(), asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            wait_s = max(0.0, min(SERVER_WAIT_S_MAX, deadline - loop.time() - RETRY_S))
            params = {**query, "wait_s": round(wait_s, 3)}
            with suppress(httpx.TransportError):
                async with http.stream(
                    "GET", "/receipts", params=params, timeout=wait_s + ANSWER_S
                ) as answer:
                    if answer.status_code == httpx.codes.OK:
                        return await _read(answer, RECEIPT_BYTES_MAX), answer.headers.get(_EVENT_TIME)
                    if answer.status_code not in _ASK_AGAIN:
                        raise ReceiptUnavailableError(f"anchoring answered {answer.status_code}")
            await asyncio.sleep(RETRY_S)

    async def _ask_many(self, wanted: Sequence[Position | EventName]) -> list[dict[str, Any]]:
        records = [
            _of_position(one) if isinstance(one, Position) else {"source": one.source, "id": one.id}
            for one in wanted
        ]
        body = {"records": records}
        try:
            async with self._open().stream("POST", "/receipts", json=body, timeout=BULK_ANSWER_S) as answer:
                if answer.status_code != httpx.codes.OK:
                    raise ReceiptUnavailableError(f"anchoring answered {answer.status_code}")
                content = await _read(answer, BULK_ANSWER_BYTES_MAX)
            lines = [read_json(line) for line in content.split(b"\n")[:-1]]
        except (httpx.TransportError, JsonError) as error:
            raise ReceiptUnavailableError(f"anchoring does not answer: {type(error).__name__}") from error
        found = [line for line in lines if isinstance(line, dict)]
        if len(found) != len(wanted):
            raise ReceiptUnavailableError(f"anchoring answered {len(found)} of {len(wanted)}")
        return found


def _values_of(event: StoredEvent, time: str | None) -> Iterator[bytes]:
    """Yield the bytes that are this event: those sent now, and those of an earlier attempt at that time."""
    yield event.value
    if event.value_at is not None and time is not None:
        with suppress(ValueError, RejectedError):
            yield event.value_at(datetime.fromisoformat(time))


def _of_position(position: Position) -> dict[str, Any]:
    return {"topic": position.topic, "partition": position.partition, "offset": position.offset}


async def _read(answer: httpx.Response, bytes_max: int) -> bytes:
    content = bytearray()
    async for chunk in answer.aiter_bytes():
        content += chunk
        if len(content) > bytes_max:
            raise ReceiptUnavailableError("what came back is too large for a receipt")
    return bytes(content)


def _verify(policy: Policy, data: bytes, position: Position, value: bytes | None) -> VerifiedReceipt:
    verified = verify_receipt(data, policy, event=value)
    leaf = verified.leaf
    if (leaf.topic, leaf.partition, leaf.offset) != (position.topic, position.partition, position.offset):
        raise ReceiptError("leaf", "the receipt is of another record")
    return verified
