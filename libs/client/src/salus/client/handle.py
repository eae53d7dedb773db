"""What a caller holds of an event that is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from salus.client.errors import DeliveryError, Undelivered
from salus.client.receipts import Receipt
from salus.messaging import Position


class Handle:
    """One published event: its id, the exact bytes that were signed, and what becomes of it."""

    __slots__ = (
        "_ask",
        "_done",
        "_outcome",
        "_reported",
        "deadline",
        "headers",
        "id",
        "key",
        "partition",
        "sent",
        "topic",
        "value",
        "value_at",
    )

    def __init__(  # noqa: PLR0913  # the facts of one record; `deadline` is on the loop's clock
        self,
        *,
        id: str,  # noqa: A002  # the CloudEvents attribute's name
        topic: str,
        key: bytes,
        value: bytes,
        headers: tuple[tuple[str, bytes], ...],
        deadline: float,
        ask: Callable[[Handle, float], Awaitable[Receipt]],
    ) -> None:
        self.id = id
        self.topic = topic
        self.key = key
        self.value = value
        self.headers = headers
        # Where it is going, once that was looked up.
        self.partition: int | None = None
        # Whether it may be in the topic, confirmed or not.
        self.sent = False
        # The bytes it would have had at another time, if its time is that of publishing.
        self.value_at: Callable[[datetime], bytes] | None = None
        self.deadline = deadline
        self._ask = ask
        self._done = asyncio.Event()
        self._outcome: Position | Undelivered | None = None
        self._reported = False

    async def position(self) -> Position:
        """Wait until all in-sync replicas have the event; return where it stands.

        Raises:
            DeliveryError: the network did not confirm it.
        """
        await self._done.wait()
        if isinstance(self._outcome, Position):
            return self._outcome
        assert self._outcome is not None  # noqa: S101  # _done is set after it
        self._reported = True
        raise DeliveryError([self._outcome])

    async def wait(self) -> None:
        """Wait until it is known what became of it, well or not."""
        await self._done.wait()

    async def receipt(self, timeout_s: float = 30) -> Receipt:
        """Wait for the receipt: the proof that the ledger has accepted exactly these bytes.

        If this is a repetition, it is the receipt of the first attempt, whose position the receipt names.

        Raises:
            DeliveryError: the event did not reach the topic.
            IdReusedError: the ledger has accepted another event with this id.
            EventRefusedError: the ledger has it as a rejected leaf.
            ReceiptUnavailableError: none could be had within `timeout_s` seconds.
            salus.ledger.errors.LedgerError: what came back proves something else.
        """
        return await self._ask(self, timeout_s)

    @property
    def undelivered(self) -> Undelivered | None:
        """Why it is not delivered, if that is so and known by now."""
        return self._outcome if isinstance(self._outcome, Undelivered) else None

    @property
    def unreported(self) -> bool:
        """Whether it failed and nobody has been told."""
        return self.undelivered is not None and not self._reported

    @property
    def settled(self) -> bool:
        """Whether it is known what became of it."""
        return self._outcome is not None

    def mark_reported(self) -> None:
        """Note that its failure has been told."""
        self._reported = True

    def settle(self, outcome: Position | Undelivered) -> None:
        """Record what became of it; the first word stands."""
        if self._outcome is None:
            self._outcome = outcome
            self._done.set()
