"""One verdict per record: accepted, or rejected with the first reason that applies.

The verdict depends only on the record, the key ring at a recorded position and the block's time, so a
verifier can repeat it years later. Duplicates are the sequencer's to find: they depend on history.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from salus.events.envelope import VALUE_BYTES_MAX, Envelope, Event, decode_canonical, decode_event
from salus.events.errors import Reason, RejectedError
from salus.events.keyring import KeyRing, Party
from salus.events.registry import EventType, Owner
from salus.events.signature import SIGNATURE_HEADER, parse_signature, signed_text
from salus.ledger.merkle import hashes_of, leaf_hash
from salus.ledger.signed_batches import batch_keys, batch_of


class Judged(msgspec.Struct, frozen=True, gc=False):
    """An accepted event, who signed it and the digest of its value."""

    event: Event
    signer: Party
    digest: bytes


class RecordToJudge(Protocol):
    """What is judged of a Kafka record."""

    @property
    def topic(self) -> str:
        """Where it was found."""

    @property
    def key(self) -> bytes | None:
        """The Kafka key."""

    @property
    def value(self) -> bytes | None:
        """The value; None is a tombstone."""

    def header(self, name: str) -> bytes | None:
        """Return the last header of that name."""


def judge(  # noqa: PLR0913  # a record's parts, and what it is judged by
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
    value = require_value(value)
    digest = leaf_hash(value)
    signer = verify_signature(signature, digest=digest, ring=ring, at=at)
    return _judge_content(topic=topic, key=key, value=value, digest=digest, signer=signer)


def judge_batch(
    records: Sequence[RecordToJudge], *, ring: KeyRing, at: datetime
) -> list[Judged | RejectedError]:
    """Return the verdict on each record, the same that `judge` gives or raises.

    It is faster because paths are walked together, and a signature over many values is verified once.
    """
    digests = _digests_of([record.value for record in records])
    signatures = [record.header(SIGNATURE_HEADER) for record in records]
    signers = _signers_of(signatures, digests, ring=ring, at=at)
    verdicts: list[Judged | RejectedError] = []
    for record, digest, signature, signer in zip(records, digests, signatures, signers, strict=True):
        try:
            value = require_value(record.value)
            if signer is None:
                # Whatever is wrong with it is found out in order, one thing after the other.
                signer = verify_signature(signature, digest=digest, ring=ring, at=at)  # noqa: PLW2901  # found out only now
            verdicts.append(
                _judge_content(topic=record.topic, key=record.key, value=value, digest=digest, signer=signer)
            )
        except RejectedError as error:
            verdicts.append(error)
    return verdicts


def require_value(value: bytes | None) -> bytes:
    """Return the value; raises RejectedError (TOMBSTONE or TOO_LARGE)."""
    if value is None:
        raise RejectedError(Reason.TOMBSTONE)
    if len(value) > VALUE_BYTES_MAX:
        raise RejectedError(Reason.TOO_LARGE, f"{len(value)} bytes, at most {VALUE_BYTES_MAX}")
    return value


def verify_signature(
    signature: bytes | None,
    *,
    digest: bytes,
    ring: KeyRing,
    at: datetime,
) -> Party:
    """Return the party whose key signed a value with this digest; raises RejectedError otherwise."""
    if signature is None:
        raise RejectedError(Reason.MISSING_SIGNATURE)
    parsed = parse_signature(signature)
    key = ring.key_for(parsed.verification_method, at=at)
    text = signed_text(size=parsed.size, root=parsed.root_over(digest))
    if not _verifies(key.key.public_bytes_raw(), parsed.signature, text):
        raise RejectedError(Reason.BAD_SIGNATURE)
    return ring.parties[key.did]


def require_owner(entry: EventType, signer: Party) -> None:
    """Raise NOT_OWNER unless the signer may state facts of this type."""
    if entry.owner is Owner.MEMBER:
        if signer.kind != "member" and (signer.kind == "service" or signer.member is None):
            raise RejectedError(Reason.NOT_OWNER, f"{entry.name} is for members and who acts for one")
    elif entry.owner is Owner.OPERATOR:
        if Owner.OPERATOR.value not in signer.roles:
            raise RejectedError(Reason.NOT_OWNER, f"{entry.name} is for operators")
    elif signer.kind != "service" or entry.owner.value not in signer.roles:
        raise RejectedError(Reason.NOT_OWNER, f"{entry.name} is for the {entry.owner.value} service")


def _judge_content(*, topic: str, key: bytes | None, value: bytes, digest: bytes, signer: Party) -> Judged:
    event = decode_canonical(value)
    if event is not None:
        _require_fitting(event.envelope, event.type, topic, key, signer)
    else:
        event = decode_event(
            value, require=lambda envelope, entry: _require_fitting(envelope, entry, topic, key, signer)
        )
    return Judged(event, signer, digest)


def _require_fitting(
    envelope: Envelope, entry: EventType, topic: str, key: bytes | None, signer: Party
) -> None:
    if envelope.source != signer.did:
        raise RejectedError(Reason.WRONG_SOURCE, "source is not the DID that the key belongs to")
    if entry.topic != topic:
        raise RejectedError(Reason.WRONG_TOPIC, f"{entry.name} belongs on {entry.topic}")
    require_owner(entry, signer)
    if key != envelope.subject.encode():
        raise RejectedError(Reason.WRONG_KEY, "the Kafka key is not the event's subject")


def _digests_of(values: Sequence[bytes | None]) -> list[bytes]:
    """Return the RFC 6962 leaf hash of each value; that of none for what is refused without one."""
    return hashes_of([b"" if value is None or len(value) > VALUE_BYTES_MAX else value for value in values])


# The events of one signed batch come in several partitions, and so in several blocks; what was found of its
# signature stays true. 8,192 batches of 64 are the last half a million events, in about 3 MB.
@lru_cache(maxsize=8192)
def _verifies(public_key: bytes, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text)
    except InvalidSignature:
        return False
    return True


def _signers_of(
    signatures: Sequence[bytes | None], digests: Sequence[bytes], *, ring: KeyRing, at: datetime
) -> list[Party | None]:
    """Return the signer of each record; None where anything at all is wrong with the signature."""
    keys = batch_keys([signature or b"" for signature in signatures], digests)
    signers = {key: _signer_of(key, ring, at) for key in set(keys)}
    return [signers[key] for key in keys]


def _signer_of(key: bytes, ring: KeyRing, at: datetime) -> Party | None:
    if not key:
        return None
    batch = batch_of(key)
    try:
        known = ring.key_for(batch.verification_method, at=at)
    except RejectedError:
        return None
    text = signed_text(size=batch.size, root=batch.root)
    valid = _verifies(known.key.public_bytes_raw(), batch.signature, text)
    return ring.parties[known.did] if valid else None
