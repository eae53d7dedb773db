"""One verdict per record: accepted, or rejected with the first reason that applies.

The verdict depends only on the record, the key ring at a recorded position and the block's time, so a
verifier can repeat it years later. Duplicates are the sequencer's to find: they depend on history.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography.exceptions import InvalidSignature

from salus.events.envelope import VALUE_BYTES_MAX, Event, decode_data, decode_envelope
from salus.events.catalogue import Owner
from salus.events.errors import Reason, RejectedError
from salus.events.keyring import KeyRing, Party
from salus.events.signature import parse_signature, text_to_verify
from salus.ledger.merkle import leaf_hash


@dataclass(frozen=True, slots=True)
class Judged:
    """An accepted event, who signed it and the digest of its value."""

    event: Event
    signer: Party
    digest: bytes


def judge(
    *,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    signature: bytes | None,
    ring: KeyRing,
    at: datetime,
) -> Judged:
    """Return the judged event of one record.

    Raises:
        RejectedError: with the first reason that applies, in the order of `Reason`.
    """
    if value is None:
        raise RejectedError(Reason.TOMBSTONE)
    if len(value) > VALUE_BYTES_MAX:
        raise RejectedError(Reason.TOO_LARGE, f"{len(value)} bytes, at most {VALUE_BYTES_MAX}")
    digest = leaf_hash(value)
    signer = verify_signature(signature, digest=digest, ring=ring, at=at)
    envelope = decode_envelope(value)
    if envelope.source != signer.did:
        raise RejectedError(Reason.WRONG_SOURCE, "source is not the DID that the key belongs to")
    event = decode_data(envelope)
    if event.type.topic != topic:
        raise RejectedError(Reason.WRONG_TOPIC, f"{event.type.name} belongs on {event.type.topic}")
    require_owner(event, signer)
    if key != envelope.subject.encode():
        raise RejectedError(Reason.WRONG_KEY, "the Kafka key is not the event's subject")
    return Judged(event=event, signer=signer, digest=digest)


def verify_signature(signature: bytes | None, *, digest: bytes, ring: KeyRing, at: datetime) -> Party:
    """Return the party whose key signed a value with this digest; raises RejectedError otherwise."""
    if signature is None:
        raise RejectedError(Reason.MISSING_SIGNATURE)
    parsed = parse_signature(signature)
    known = ring.key_for(parsed.verification_method, at=at)
    try:
        known.key.verify(parsed.signature, text_to_verify(parsed, digest=digest))
    except InvalidSignature:
        raise RejectedError(Reason.BAD_SIGNATURE) from None
    return ring.parties[known.did]


def require_owner(event: Event, signer: Party) -> None:
    """Raise NOT_OWNER unless the signer may state this fact."""
    owner = event.type.owner
    if owner is Owner.MEMBER:
        if signer.kind == "service":
            raise RejectedError(Reason.NOT_OWNER, f"{event.type.name} is for members")
    elif signer.kind != "service" or owner.value not in signer.roles:
        raise RejectedError(Reason.NOT_OWNER, f"{event.type.name} is for the {owner.value} service")
