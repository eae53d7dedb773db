"""What integrators install: publish signed events, await receipts."""

from salus.client.auth import RequestLine, RequestSigner, make_bearer
from salus.client.errors import (
    ClientError,
    DeliveryError,
    EventRefusedError,
    IdReusedError,
    PublisherClosedError,
    ReceiptUnavailableError,
    Undelivered,
)
from salus.client.handle import Handle
from salus.client.own_types import own_event_type
from salus.client.pseudonyms import NewPseudonym, new_pseudonym
from salus.client.publisher import Publisher
from salus.client.receipts import EventName, NoReceipt, Receipt, ReceiptSource

__all__ = [
    "ClientError",
    "DeliveryError",
    "EventName",
    "EventRefusedError",
    "Handle",
    "IdReusedError",
    "NewPseudonym",
    "NoReceipt",
    "Publisher",
    "PublisherClosedError",
    "Receipt",
    "ReceiptSource",
    "ReceiptUnavailableError",
    "RequestLine",
    "RequestSigner",
    "Undelivered",
    "make_bearer",
    "new_pseudonym",
    "own_event_type",
]
