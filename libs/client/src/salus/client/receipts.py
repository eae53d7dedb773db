"""Fetches receipts from anchoring and trusts none before it is verified."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpx

from salus.client.errors import EventRefusedError, ReceiptUnavailableError
from salus.ledger.errors import ReceiptError
from salus.ledger.policy import Policy
from salus.ledger.receipt import RECEIPT_BYTES_MAX, VerifiedReceipt, verify_receipt
from salus.messaging import Position

# One request waits on the server for so long at most, then another one is sent.
SERVER_WAIT_S_MAX = 10.0
ANSWER_S = 5.0
RETRY_S = 0.2
# "Not yet", "too many", "away for now": the same question may be answered later.
_ASK_AGAIN = frozenset({202, 204, 404, 408, 425, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class Receipt:
    """The receipt file of one event; `verified` says what it proves, if a policy was there to check it."""

    data: bytes
    verified: VerifiedReceipt | None


class ReceiptSource:
    """Asks `GET {url}/receipts`; use it as an async context manager."""

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
            self._http = httpx.AsyncClient(base_url=self._url.rstrip("/"), transport=self._transport)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection pool."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def fetch(self, *, id: str, position: Position, value: bytes, timeout_s: float) -> Receipt:  # noqa: A002  # CloudEvents' name
        """Return the receipt of the record at that position, verified if there is a policy.

        Raises:
            ReceiptUnavailableError: none within `timeout_s` seconds, or no URL was given.
            EventRefusedError: it proves that the record was rejected.
            salus.ledger.errors.LedgerError: it does not prove what it should.
        """
        if self._http is None:
            raise ReceiptUnavailableError("no receipts_url was given, or the publisher is closed")
        try:
            async with asyncio.timeout(timeout_s):
                data = await self._ask(self._http, position, timeout_s)
        except TimeoutError:
            raise ReceiptUnavailableError(f"no receipt of event {id} within {timeout_s} s") from None
        if self._policy is None:
            return Receipt(data=data, verified=None)
        return Receipt(data=data, verified=_verify(self._policy, data, id, position, value))

    async def _ask(self, http: httpx.AsyncClient, position: Position, timeout_s: float) -> bytes:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while True:
            wait_s = max(0.0, min(SERVER_WAIT_S_MAX, deadline - loop.time() - RETRY_S))
            query: dict[str, str | float] = {
                "topic": position.topic,
                "partition": position.partition,
                "offset": position.offset,
                "wait_s": round(wait_s, 3),
            }
            with suppress(httpx.TransportError):
                async with http.stream("GET", "/receipts", params=query, timeout=wait_s + ANSWER_S) as answer:
                    if answer.status_code == httpx.codes.OK:
                        return await _read(answer)
                    if answer.status_code not in _ASK_AGAIN:
                        raise ReceiptUnavailableError(f"anchoring answered {answer.status_code}")
            await asyncio.sleep(RETRY_S)


async def _read(answer: httpx.Response) -> bytes:
    content = bytearray()
    async for chunk in answer.aiter_bytes():
        content += chunk
        if len(content) > RECEIPT_BYTES_MAX:
            raise ReceiptUnavailableError("what came back is too large for a receipt")
    return bytes(content)


def _verify(policy: Policy, data: bytes, id: str, position: Position, value: bytes) -> VerifiedReceipt:  # noqa: A002  # as above
    verified = verify_receipt(data, policy, event=value)
    leaf = verified.leaf
    if (leaf.topic, leaf.partition, leaf.offset) != (position.topic, position.partition, position.offset):
        raise ReceiptError("leaf", "the receipt is of another record")
    if not leaf.is_accepted:
        raise EventRefusedError(id=id, reason=leaf.status.removeprefix("rejected:"), receipt=data)
    return verified
