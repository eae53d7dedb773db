"""One verdict per record: accepted, or rejected with the first reason that applies.

The verdict depends only on the record, the key ring at a recorded position and the block's time, so a
verifier can repeat it years later. Duplicates are the sequencer's to find: they depend on history.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import Protocol

import msgspec

from salus.events.canonical import Attributes, attributes_of
from salus.events.ed25519 import verifies
from salus.events.envelope import VALUE_BYTES_MAX, Envelope, Event, decode_event
from salus.events.errors import Reason, RejectedError
from salus.events.fields import microseconds
from salus.events.keyring import KeyRing, Party
from salus.events.registry import EventType, Owner
from salus.events.signature import SIGNATURE_HEADER, parse_signature, signed_text
from salus.ledger.hashing import hash_spans, split
from salus.ledger.merkle import LEAF_PREFIX, leaf_hash
from salus.ledger.signed_batches import batch_keys, batch_of


class Judged(msgspec.Struct, frozen=True, gc=False):
    """An accepted event, who signed it and the digest of its value."""

    event: Event
    signer: Party
    digest: bytes


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdicts on many records, column by column, one element a record.

    `values` are joined, without those that are refused unread; `places` (type code Q) says where each begins
    and the last one ends. `digests` are the RFC 6962 leaf hashes of the values, that of none for what is
    refused unread, and `signatures` the headers as received. `attributes` counts where no record was
    `refused`, by its row.
    """

    values: bytes
    places: array[int]
    digests: list[bytes]
    signatures: list[bytes | None]
    attributes: Attributes
    refused: dict[int, RejectedError]

    def accept(self, row: int, event: Event) -> None:
        """Take a record's event, which was not read with the others."""
        envelope, found = event.envelope, self.attributes
        found.type[row] = event.type
        found.id[row] = envelope.id.encode()
        found.source[row] = envelope.source.encode()
        found.subject[row] = envelope.subject.encode()
        found.time[row] = microseconds(envelope.time)


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
    return Judged(_judge_content(topic=topic, key=key, value=value, signer=signer), signer, digest)


def judge_batch(records: Sequence[RecordToJudge], *, ring: KeyRing, at: datetime) -> Judgement:
    """Return the verdicts on many records, the same that `judge` gives or raises for each.

    It is faster because events and paths are read together, and a signature over many is verified once.
    """
    signatures = [record.header(SIGNATURE_HEADER) for record in records]
    cells = [_worth_reading(record.value) for record in records]
    places = array("Q", accumulate(map(len, cells), initial=0))
    values = b"".join(cells)
    digests = split(hash_spans(LEAF_PREFIX, values, places))
    signers = _signers_of(signatures, digests, ring=ring, at=at)
    judgement = Judgement(values, places, digests, signatures, attributes_of(values, places), {})
    for row in _doubtful(records, signers, judgement.attributes):
        try:
            judgement.accept(
                row, _judge_alone(records[row], signatures[row], digests[row], signers[row], ring, at)
            )
        except RejectedError as error:
            judgement.refused[row] = error
    return judgement


def _worth_reading(value: bytes | None) -> bytes:
    return b"" if value is None or len(value) > VALUE_BYTES_MAX else value


def _doubtful(
    records: Sequence[RecordToJudge], signers: Sequence[Party | None], found: Attributes
) -> Iterator[int]:
    """Yield the rows that were not read together, or of which something may be wrong."""
    known: dict[tuple[str, str, str, bytes], bool] = {}
    rows = zip(records, signers, found.type, found.source, found.subject, strict=True)
    for row, (record, signer, entry, source, subject) in enumerate(rows):
        if signer is None or entry is None or record.key != subject:
            yield row
            continue
        case = (entry.name, record.topic, signer.did, source)
        fits = known.get(case)
        if fits is None:
            fits = known[case] = _fits(entry, record.topic, signer, source)
        if not fits:
            yield row


def _fits(entry: EventType, topic: str, signer: Party, source: bytes) -> bool:
    try:
        _require_fitting(entry, signer, source=source.decode(), topic=topic)
    except RejectedError:
        return False
    return True


def _judge_alone(  # noqa: PLR0913, PLR0917  # what is known of it by now
    record: RecordToJudge,
    signature: bytes | None,
    digest: bytes,
    signer: Party | None,
    ring: KeyRing,
    at: datetime,
) -> Event:
    value = require_value(record.value)
    if signer is None:
        # Whatever is wrong with it is found out in order, one thing after the other.
        signer = verify_signature(signature, digest=digest, ring=ring, at=at)
    return _judge_content(topic=record.topic, key=record.key, value=value, signer=signer)


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
    if not verifies(key.key.public_bytes_raw(), parsed.signature, text):
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


def _judge_content(*, topic: str, key: bytes | None, value: bytes, signer: Party) -> Event:
    def require(envelope: Envelope, entry: EventType) -> None:
        _require_fitting(entry, signer, source=envelope.source, topic=topic)
        if key != envelope.subject.encode():
            raise RejectedError(Reason.WRONG_KEY, "the Kafka key is not the event's subject")

    return decode_event(value, require=require)


def _require_fitting(entry: EventType, signer: Party, *, source: str, topic: str) -> None:
    if source != signer.did:
        raise RejectedError(Reason.WRONG_SOURCE, "source is not the DID that the key belongs to")
    if entry.topic != topic:
        raise RejectedError(Reason.WRONG_TOPIC, f"{entry.name} belongs on {entry.topic}")
    require_owner(entry, signer)


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
    valid = verifies(known.key.public_bytes_raw(), batch.signature, text)
    return ring.parties[known.did] if valid else None
