"""What anchoring needs from the world beyond the object store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from salus.archive.receipts import RecordPosition
from salus.archive.report import Finding
from salus.events.effect import Outcome


@dataclass(frozen=True, slots=True)
class StatedAt:
    """Where an event stands by what Kafka says, and the digest of its bytes, as in its leaf."""

    position: RecordPosition
    digest: bytes


class Announcements(Protocol):
    """Tells the network that the log has a new checkpoint; nothing depends on it being heard."""

    async def announce(self, *, size: int, checkpoint: str) -> None:
        """Publish `salus.ledger.checkpoint-published.v1`.

        Raises:
            MessagingError, ClientError: it may or may not have been published; repeating is harmless.
        """


class Alarms(Protocol):
    """Tells the network that the archive is damaged, and hears what became of that."""

    async def raise_alarm(self, finding: Finding, *, event_id: str) -> StatedAt:
        """Publish `salus.network.damage-found.v1` under this id, and return where it stands.

        Raises:
            MessagingError, ClientError: it may or may not have been published; repeating is harmless.
            RejectedError: nobody would accept it, and it was not published.
        """

    async def outcome(self, event_id: str, stated: StatedAt) -> Outcome:
        """Return whether the ledger accepted the event of this id, which `raise_alarm` published."""


class WitnessError(Exception):
    """A witness does not cosign, or does not answer; the sentence is shown in /status."""


class OtherSizeError(WitnessError):
    """The witness last cosigned the checkpoint of another size, which is `size`."""

    def __init__(self, size: int) -> None:
        super().__init__(f"it last cosigned size {size}")
        self.size = size


class Witness(Protocol):
    """A member's witness (c2sp.org/tlog-witness)."""

    async def add_checkpoint(self, old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
        """Return its signature lines, unverified.

        Raises:
            OtherSizeError: the proof must begin at that size.
            WitnessError: it refuses, or does not answer.
        """
