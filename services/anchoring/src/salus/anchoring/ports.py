"""What anchoring needs from the world beyond the object store."""

from __future__ import annotations

from typing import Protocol


class Announcements(Protocol):
    """Tells the network that the log has a new checkpoint; nothing depends on it being heard."""

    async def announce(self, *, size: int, checkpoint: str) -> None:
        """Publish `salus.ledger.checkpoint-published.v1`.

        Raises:
            MessagingError, ClientError: it may or may not have been published; repeating is harmless.
        """
