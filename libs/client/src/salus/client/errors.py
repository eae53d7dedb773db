"""What can go wrong between an integrator and the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_NAMED_MAX = 10


class ClientError(Exception):
    """Base of all errors of this package."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """An event that the network did not confirm, where it was going, and why it did not get there."""

    id: str
    topic: str
    why: str


class DeliveryError(ClientError):
    """Events were not confirmed; `undelivered` names every one of them.

    An unconfirmed event may still be in the topic, its answer lost. Publishing it again with the same `id`
    is harmless: the ledger accepts the first and rejects the other as a duplicate.
    """

    def __init__(self, undelivered: Sequence[Undelivered]) -> None:
        self.undelivered = tuple(undelivered)
        named = ", ".join(f"{u.id} ({u.topic}: {u.why})" for u in self.undelivered[:_NAMED_MAX])
        more = len(self.undelivered) - _NAMED_MAX
        super().__init__(f"not delivered: {named}{f' and {more} more' if more > 0 else ''}")


class PublisherClosedError(ClientError):
    """The publisher is not open (any more), so the event was not taken."""


class ReceiptUnavailableError(ClientError):
    """No receipt could be had in time; the event is in the topic, and asking again is harmless."""


class EventRefusedError(ClientError):
    """The ledger has the record, as a rejected leaf: the receipt proves the refusal and its reason."""

    def __init__(self, *, id: str, reason: str, receipt: bytes) -> None:  # noqa: A002  # CloudEvents' name
        super().__init__(f"event {id} was refused: {reason}")
        self.id = id
        self.reason = reason
        self.receipt = receipt
