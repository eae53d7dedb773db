"""What integrators install: publish signed events, await receipts."""

from salus.client.auth import make_bearer
from salus.client.errors import (
    ClientError,
    DeliveryError,
    EventRefusedError,
    PublisherClosedError,
    ReceiptUnavailableError,
    Undelivered,
)
from salus.client.handle import Handle
from salus.client.publisher import Publisher
from salus.client.receipts import Receipt

__all__ = [
    "ClientError",
    "DeliveryError",
    "EventRefusedError",
    "Handle",
    "Publisher",
    "PublisherClosedError",
    "Receipt",
    "ReceiptUnavailableError",
    "Undelivered",
    "make_bearer",
]
