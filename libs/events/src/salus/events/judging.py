"""One verdict per record: accepted, or rejected with the first reason that applies.

The verdict depends only on the record, the key ring at a recorded position and the block's time, so a
verifier can repeat it years later. Duplicates are the sequencer's to find: they depend on history.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from salus.events.envelope import VALUE_BYTES_MAX, Envelope, Event, decode_event
from salus.events.errors import Reason, RejectedError
from salus.events.keyring import KeyRing, Party
from salus.events.registry import EventType, Owner
from salus.events.signature import (
    SIGNATURE_HEADER,
    headers_over,
    parse_signature,
    place_of,
    signed_text,
    text_to_verify,
)
from salus.ledger.merkle import hashes_of, leaf_hash, levels_of


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

    It is faster because a signature over many values is verified once, and where all of them are here,
    the tree over them is computed once.
    """
    digests = _digests_of([record.value for record in records])
    signatures = [r.header(SIGNATURE_HEADER) for r in records]
    signers = _signers_of_whole_batches(signatures, digests, ring=ring, at=at)
    verdicts: list[Judged | RejectedError] = []
    for record, digest, signature, signer in zip(records, digests, signatures, signers, strict=True):
        try:
            value = require_value(record.value)
            digest = digest if digest is not None else leaf_hash(value)  # noqa: PLW2901  # None only for what was just refused
            if signer is None:
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
    text = text_to_verify(parsed, digest=digest)
    if not _is_valid(ring, parsed.verification_method, parsed.signature, text):
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
    def require(envelope: Envelope, entry: EventType) -> None:
        if envelope.source != signer.did:
            raise RejectedError(Reason.WRONG_SOURCE, "source is not the DID that the key belongs to")
        if entry.topic != topic:
            raise RejectedError(Reason.WRONG_TOPIC, f"{entry.name} belongs on {entry.topic}")
        require_owner(entry, signer)
        if key != envelope.subject.encode():
            raise RejectedError(Reason.WRONG_KEY, "the Kafka key is not the event's subject")

    return Judged(decode_event(value, require=require), signer, digest)


def _digests_of(values: Sequence[bytes | None]) -> list[bytes | None]:
    """Return the RFC 6962 leaf hash of each value; None for what is refused without one."""
    fit = [None if value is None or len(value) > VALUE_BYTES_MAX else value for value in values]
    hashes = iter(hashes_of([value for value in fit if value is not None]))
    return [None if value is None else next(hashes) for value in fit]


def _is_valid(ring: KeyRing, method: str, signature: bytes, text: bytes) -> bool:
    return _verifies(ring.keys[method].key.public_bytes_raw(), signature, text)


# The events of one signed batch come in several partitions, and so in several blocks; what was found of its
# signature stays true. 8,192 batches of 64 are the last half a million events, in about 3 MB.
@lru_cache(maxsize=8192)
def _verifies(public_key: bytes, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text)
    except InvalidSignature:
        return False
    return True


def _signers_of_whole_batches(
    signatures: Sequence[bytes | None], digests: Sequence[bytes | None], *, ring: KeyRing, at: datetime
) -> list[Party | None]:
    """Return the signer of each record whose whole signed batch is here; None for the others.

    The headers of a batch follow from its digests, so they are made and compared instead of parsed: one
    that is equal, under a valid signature, is what `judge` would have accepted.
    """
    batches: defaultdict[tuple[bytes, bytes, bytes], dict[int, int]] = defaultdict(dict)
    for record, signature in enumerate(signatures):
        place = place_of(signature) if signature is not None and digests[record] is not None else None
        if place is not None:
            batches[place[0]][place[1]] = record
    signers: list[Party | None] = [None] * len(signatures)
    for records in batches.values():
        size = len(records)
        if size > 1 and all(index in records for index in range(size)):
            ordered = [records[index] for index in range(size)]
            headers = [signatures[record] or b"" for record in ordered]
            signer = _signer_of(headers, [digests[record] or b"" for record in ordered], ring=ring, at=at)
            for record in ordered:
                signers[record] = signer
    return signers


def _signer_of(
    headers: Sequence[bytes], digests: Sequence[bytes], *, ring: KeyRing, at: datetime
) -> Party | None:
    try:
        first = parse_signature(headers[0])
        key = ring.key_for(first.verification_method, at=at)
    except RejectedError:
        return None
    levels = levels_of(digests)
    if headers_over(levels, method=first.verification_method, signature=first.signature) != headers:
        return None
    text = signed_text(size=len(digests), root=levels[-1][0])
    valid = _is_valid(ring, first.verification_method, first.signature, text)
    return ring.parties[key.did] if valid else None
