"""Records of a topic's own service that this version does not know: nobody is ready without them.

A service writes only what its version reads, so another version wrote the record. Who folds on would lack
what it states, a revocation for example, and would tell nobody.
"""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client import Gauge

from salus.events.errors import Reason, RejectedError
from salus.events.keyring import KeyRing
from salus.events.signature import parse_signature
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import PermanentError, Record

# What is found out after the signature was verified, so that nobody else can bring it about.
OF_ANOTHER_VERSION = frozenset({Reason.INVALID_ENVELOPE, Reason.UNKNOWN_TYPE, Reason.SCHEMA_VIOLATION})
HALTED = Gauge(
    "salus_fold_halted",
    "1: there is a record that another version of the topic's own service wrote.",
    ["topic"],
)


class UnreadRecordError(PermanentError):
    """A record of the topic's own service, signed with `method`, is not as this version's catalogue says."""

    def __init__(self, record: Record, reason: str, *, method: str) -> None:
        super().__init__(
            f"{record.topic} {record.partition} {record.offset} was written by another version of its "
            f"service ({reason}): run the version that wrote it, or a later one"
        )
        self.topic = record.topic
        self.method = method


def unread(record: Record, reason: str, *, ring: KeyRing, at: datetime) -> UnreadRecordError | None:
    """Return the error of a record that was rejected for that reason, if the topic's own service wrote it."""
    if reason not in OF_ANOTHER_VERSION:
        return None
    method = parse_signature(record.header(SIGNATURE_HEADER) or b"").verification_method
    signer = ring.party_at(ring.key_for(method, at=at).did, at)
    owners = {entry.owner for entry in ring.catalogue.types() if entry.topic == record.topic}
    if signer.kind != "service" or owners.isdisjoint(signer.roles):
        return None
    return UnreadRecordError(record, reason, method=method)


def require_key_gone(error: UnreadRecordError, *, ring: KeyRing) -> None:
    """Raise the error unless its key does not sign any more: a thief could else stop everybody for ever."""
    try:
        ring.present_key(error.method, now=datetime.now(UTC))
    except RejectedError:
        return
    HALTED.labels(error.topic).set(1)
    raise error
