"""What can go wrong between an integrator and the network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_NAMED_MAX = 10


class ClientError(Exception):
    """Base of all errors of this package."""


@dataclass(frozen=True, slots=True)
class Undelivered:
    """An event that the network did not confirm, where it was going, and why it did not get there.

    `may_arrive` tells the two cases apart: the event was sent and its fate is unknown, so that it may be in
    the topic or still get there; or it was not sent, or was refused, and is not and will not be there.
    """

    id: str
    topic: str
    why: str
    may_arrive: bool


class DeliveryError(ClientError):
    """Events were not confirmed; `undelivered` names every one of them.

    Of each, `may_arrive` says whether it is certain that it is not in the topic. Publishing an event again
    with the same `id` is harmless: the ledger accepts the first and rejects the other as a duplicate, and
    `Handle.receipt` of either gives the receipt of the accepted one.
    """

    def __init__(self, undelivered: Sequence[Undelivered]) -> None:
        self.undelivered = tuple(undelivered)
        named = ", ".join(
            f"{u.id} ({u.topic}: {u.why}; {'it may arrive' if u.may_arrive else 'it was not sent'})"
            for u in self.undelivered[:_NAMED_MAX]
        )
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


class IdReusedError(EventRefusedError):
    """The ledger has accepted another event with this source and id: `accepted` is that one's receipt."""

    def __init__(self, *, id: str, receipt: bytes, accepted: bytes) -> None:  # noqa: A002  # as above
        super().__init__(id=id, reason="id-reused", receipt=receipt)
        self.accepted = accepted


class DidError(ClientError):
    """A DID does not resolve to a document that can be trusted; `code` is stable.

    `invalid-did`, `did-not-found`, `did-deactivated`, `did-unreachable`, `did-inward`, `did-redirected`,
    `did-mismatch` or `did-document-invalid`. The sentence quotes nothing of what the host sent.
    """

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
