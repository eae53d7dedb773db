"""A read on its way out: its right is asked for again while it goes on, and it breaks off when that ends."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from salus.crypto.errors import CryptoError
from salus.messaging import MessagingError
from salus.objects import ObjectsError
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal
from salus.storage.domain import ObjectState
from salus.storage.handlers.byte_ranges import ByteRange


class BrokenOffError(Exception):
    """A read ended before all of it was sent; there is no other way to tell than to end the connection."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"a read was broken off: {reason}")
        self.reason = reason


@dataclass
class Outgoing:
    """What is sent of an object, once.

    `require_right` is asked every `recheck_s` seconds, and before the last piece. `tell` records that a read
    was broken off: the reason, and how many bytes had been sent.
    """

    stored: ObjectState
    span: ByteRange
    content: AsyncGenerator[bytes]
    require_right: Callable[[], Awaitable[None]]
    tell: Callable[[str, int], Awaitable[None]]
    recheck_s: float
    clock: Callable[[], float] = time.monotonic
    sent_bytes: int = field(default=0, init=False)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the content; raises BrokenOffError, after that was recorded."""
        try:
            async with aclosing(self.content):
                async for piece in self._while_allowed():
                    yield piece
                    self.sent_bytes += len(piece)
        except Refusal as refusal:
            await self.break_off(refusal.code)
        except CryptoError:
            await self.break_off("object-corrupt")
        except (ObjectsError, MessagingError, ProblemError):
            await self.break_off("unavailable")

    async def break_off(self, reason: str) -> None:
        """Record that the read ended early, and raise BrokenOffError."""
        await self.tell(reason, self.sent_bytes)
        raise BrokenOffError(reason)

    async def _while_allowed(self) -> AsyncIterator[bytes]:
        """Yield each piece once it is known what follows it, so that the end is checked before it goes."""
        # At once: between the answer's beginning and its first piece it may have waited for a place.
        due = self.clock()
        held = b""
        async for piece in self.content:
            if held:
                if self.clock() >= due:
                    await self.require_right()
                    due = self.clock() + self.recheck_s
                yield held
            held = piece
        await self.require_right()
        if held:
            yield held
