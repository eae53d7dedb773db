"""What the publisher needs from the world."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Protocol

from salus.messaging import Position


class Sender(Protocol):
    """Takes records in order; `salus.messaging.RecoveringProducer` is the real one."""

    @property
    def trouble(self) -> str | None:
        """Why nothing is acknowledged, while that is so and known."""

    def partition_of(self, topic: str, key: bytes) -> int | None:
        """Return the partition that records of this key go to; None if that is not known yet."""

    async def enqueue(
        self,
        topic: str,
        *,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        partition: int | None = None,
    ) -> Awaitable[Position]:
        """Wait for room, then return an awaitable of the acknowledged position.

        Callers may rely on: records of one partition are stored in the order of these calls, and each
        awaitable ends with a position or with MessagingError. NotSentError and RecordRefusedError say that
        the record is not in the topic and will not get there.
        """
