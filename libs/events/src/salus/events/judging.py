"""One verdict per record: accepted, or rejected with the first reason that applies.

The verdict depends only on the record, when the broker appended it, and the key ring at a recorded position,
so a verifier can repeat it years later. Duplicates are the sequencer's to find: they depend on history.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import accumulate, groupby

import msgspec

from salus.events.accountability import ALONE, Proofs, verify_request
from salus.events.canonical import Attributes, attributes_of
from salus.events.envelope import VALUE_BYTES_MAX, Envelope, Event, decode_event
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import MEMBER, OPERATOR, EventType
from salus.events.fitting import NO_ONE, Case, Facts, cases_of
from salus.events.keyring import LONG_AGO, KeyRing
from salus.events.parties import KnownKey, Party
from salus.events.signature import SIGNED_ORIGIN, parse_signature, signed_text
from salus.events.valid_json import decode_valid_event
from salus.events.verification_keys import verifies
from salus.ledger.hashing import hash_spans
from salus.ledger.merkle import LEAF_PREFIX, leaf_hash
from salus.ledger.records import (
    SIGNATURE_HEADER,
    Cells,
    Flaw,
    Part,
    Placed,
    Records,
    Row,
    appended_at,
    gather,
    rows_at,
)
from salus.ledger.signed_batches import MALFORMED, Batches, SignedBatch, batch_of, batches_of

_BAD_SIGNATURE = (
    "the key did not sign the root that value and path lead to: were the bytes changed after signing, or is "
    "the index, the size or the path another value's?"
)


class Judged(msgspec.Struct, frozen=True, gc=False):
    """An accepted event, who signed it and the digest of its value."""

    event: Event
    signer: Party
    digest: bytes


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdicts on many records, in their order.

    `values` are the records' values, empty where they are refused unread; `digests` are their RFC 6962 leaf
    hashes, joined, and `signatures` the headers as received. `attributes` tell of most that is accepted;
    `accepted` has, by its row, what was read by itself, and `refused` what is refused.
    """

    values: Cells
    digests: bytes
    signatures: Cells
    attributes: Attributes
    accepted: dict[int, Event]
    refused: dict[int, RejectedError]


def judge(  # noqa: PLR0913  # a record's parts, and what it is judged by
    *,
    topic: str,
    key: bytes | None,
    value: bytes | None,
    signature: bytes | None,
    ring: KeyRing,
    at: datetime,
    flaw: Flaw | None = None,
) -> Judged:
    """Return the judged event of one record.

    `at` is when the broker appended it (`salus.ledger.records.appended_at`), `flaw` that of the record batch
    that it came in.

    Raises:
        RejectedError: with the first reason that applies, in the order of `Reason`.
    """
    require_no_flaw(flaw)
    value = require_value(value)
    digest = leaf_hash(value)
    signer = verify_signature(signature, digest=digest, ring=ring, at=at)
    event = _judge_content(topic=topic, key=key, value=value, signer=signer, ring=ring, at=at)
    return Judged(event, signer, digest)


def judge_batch(parts: Sequence[Records], *, ring: KeyRing) -> Judgement:
    """Return the verdicts on many records, the same that `judge` gives or raises for each by its own time.

    It is faster because events and paths are read together, and a signature over many is verified once.
    """
    sources = [(part.data, part.spans) for part in parts]
    values = gather(sources, Part.VALUE, size_max=VALUE_BYTES_MAX)
    signatures = gather(sources, Part.SIGNATURE)
    digests = hash_spans(LEAF_PREFIX, values.data, values.places)
    batches = batches_of(signatures, digests)
    signers = signers_of(batches, array("q", b"".join(part.timestamps for part in parts)), ring)
    attributes = attributes_of(values.data, values.places, ring.catalogue)
    judgement = Judgement(values, digests, signatures, attributes, {}, {})
    keys = gather(sources, Part.KEY)
    doubtful = _doubtful(parts, keys, attributes, batches.numbers, signers)
    for row, record in rows_at(parts, [*doubtful, *_flawed(parts)]):
        batch = batches.numbers[row]
        signer = None if batch == MALFORMED else signers[batch]
        try:
            judgement.accepted[row] = _judge_row(record, signer, ring)
        except RejectedError as error:
            judgement.refused[row] = error
    return judgement


def accepted_record(  # noqa: PLR0913  # a record's own parts
    *,
    topic: str,
    partition: int,
    offset: int,
    timestamp_ms: int,
    subject: str | None,
    value: bytes | None,
    signature: bytes | None,
) -> Row:
    """Return an accepted record as it stood on its topic, by what a block keeps of it, to judge it again."""
    return Row(
        topic=topic,
        partition=partition,
        offset=offset,
        timestamp_ms=timestamp_ms,
        # The Kafka key of an accepted event is its subject.
        key=None if subject is None else subject.encode(),
        value=value,
        signature=signature,
    )


def _doubtful(
    parts: Sequence[Records],
    keys: Cells,
    attributes: Attributes,
    batches: array[int],
    signers: Sequence[Party | None],
) -> Sequence[int]:
    """Return the rows that were not read together, or of which something may be wrong."""
    # Somebody whose roles changed between two batches is two parties here.
    parties = [*dict.fromkeys(signer for signer in signers if signer is not None)]
    places = {party: place for place, party in enumerate(parties)}
    known = array("i", (NO_ONE if signer is None else places[signer] for signer in signers))
    runs = [(topic, sum(map(len, run))) for topic, run in groupby(parts, key=lambda part: part.topic)]
    ends = [*accumulate(size for _, size in runs)]
    facts = Facts(
        [topic for topic, _ in runs], ends, keys, attributes, batches, known, [party.did for party in parties]
    )
    cases = cases_of(facts)
    unfit = {number for number in set(cases) if number == NO_ONE or not _fits(facts.case(number), parties)}
    return [row for row, number in enumerate(cases) if number in unfit] if unfit else ()


def _flawed(parts: Sequence[Records]) -> Iterator[int]:
    """Yield the rows of batches with a flaw: however well an event in it reads, it is refused."""
    ends = accumulate(map(len, parts))
    for part, end in zip(parts, ends, strict=True):
        if part.flaw is not None:
            yield from range(end - len(part), end)


def _fits(case: Case, parties: Sequence[Party]) -> bool:
    signer = parties[case.signer]
    try:
        _require_fitting(case.type, signer, source=signer.did, topic=case.topic)
    except RejectedError:
        return False
    return True


def _judge_row(row: Row, signer: Party | None, ring: KeyRing) -> Event:
    require_no_flaw(row.flaw)
    if row.unkept is not None:
        raise _too_large(row.unkept.size)
    return judge_record(row, signer, ring)


def judge_record(
    record: Placed,
    signer: Party | None,
    ring: KeyRing,
    *,
    proofs: Proofs = ALONE,
    known: EventType | None = None,
) -> Event:
    """Return the event of a record; of which type its value is known to be a valid one, `known` says."""
    at = appended_at(record.timestamp_ms)
    require_no_flaw(record.flaw)
    value = require_value(record.value)
    if signer is None:
        # Whatever is wrong with it is found out in order, one thing after the other.
        header = record.header(SIGNATURE_HEADER)
        signer = verify_signature(header, digest=leaf_hash(value), ring=ring, at=at)
    return _judge_content(
        topic=record.topic,
        key=record.key,
        value=value,
        signer=signer,
        ring=ring,
        at=at,
        proofs=proofs,
        known=known,
    )


def require_no_flaw(flaw: Flaw | None) -> None:
    """Raise RejectedError with the reason of that name if the record's batch has a flaw."""
    if flaw is not None:
        raise RejectedError(Reason(flaw.value))


def require_value(value: bytes | None) -> bytes:
    """Return the value; raises RejectedError (TOMBSTONE or TOO_LARGE)."""
    if value is None:
        raise RejectedError(Reason.TOMBSTONE)
    if len(value) > VALUE_BYTES_MAX:
        raise _too_large(len(value))
    return value


def _too_large(size: int) -> RejectedError:
    return RejectedError(Reason.TOO_LARGE, f"{size} bytes, at most {VALUE_BYTES_MAX}")


def verify_signature(
    signature: bytes | None,
    *,
    digest: bytes,
    ring: KeyRing,
    at: datetime,
    origin: bytes = SIGNED_ORIGIN,
) -> Party:
    """Return the party whose key signed a value with this digest as `origin`, or raise RejectedError."""
    if signature is None:
        raise RejectedError(Reason.MISSING_SIGNATURE)
    parsed = parse_signature(signature)
    key = ring.key_for(parsed.verification_method, at=at)
    text = signed_text(size=parsed.size, root=parsed.root_over(digest), origin=origin)
    if not verifies(key.key.raw, parsed.signature, text):
        raise RejectedError(Reason.BAD_SIGNATURE, _BAD_SIGNATURE)
    return ring.party_at(key.did, at)


def require_owner(entry: EventType, signer: Party) -> None:
    """Raise NOT_OWNER unless the signer may state facts of this type."""
    if entry.owner == MEMBER:
        if signer.kind != "member" and (signer.kind == "service" or signer.member is None):
            raise RejectedError(Reason.NOT_OWNER, f"{entry.name} is for members and who acts for one")
    elif entry.owner == OPERATOR:
        if OPERATOR not in signer.roles:
            raise RejectedError(Reason.NOT_OWNER, f"{entry.name} is for operators")
    elif entry.is_of_members:
        if entry.owner not in {signer.did, signer.member}:
            raise RejectedError(Reason.NOT_OWNER, f"{entry.name} is for one member and who acts for it")
    elif signer.kind != "service" or entry.owner not in signer.roles:
        raise RejectedError(Reason.NOT_OWNER, f"{entry.name} is for the {entry.owner} service")


def _judge_content(  # noqa: PLR0913  # as `judge`
    *,
    topic: str,
    key: bytes | None,
    value: bytes,
    signer: Party,
    ring: KeyRing,
    at: datetime,
    proofs: Proofs = ALONE,
    known: EventType | None = None,
) -> Event:
    def require(envelope: Envelope, entry: EventType) -> None:
        _require_fitting(entry, signer, source=envelope.source, topic=topic)
        if key != envelope.subject.encode():
            raise RejectedError(Reason.WRONG_KEY, "the Kafka key is not the event's subject")

    catalogue = ring.types.catalogue_at(at)
    if known is not None and catalogue.type_named(known.name) is known:
        event = decode_valid_event(value, known)
        require(event.envelope, known)
    else:
        event = decode_event(value, catalogue, require=require)
    verify_request(event, ring=ring, at=at, proofs=proofs)
    return event


def _require_fitting(entry: EventType, signer: Party, *, source: str, topic: str) -> None:
    if source != signer.did:
        raise RejectedError(Reason.WRONG_SOURCE, "source is not the DID that the key belongs to")
    if entry.topic != topic:
        raise RejectedError(Reason.WRONG_TOPIC, f"{entry.name} belongs on {entry.topic}")
    require_owner(entry, signer)


def signers_of(batches: Batches, times: array[int], ring: KeyRing) -> list[Party | None]:
    """Return who signed each batch; None where anything is wrong with the signature of any of its records."""
    whole = (appended_at(min(times)), appended_at(max(times))) if times else (LONG_AGO, LONG_AGO)
    # A key may have joined or ended, or a role changed, between others of these records.
    own = cache(lambda: _spans_of(batches.numbers, times))
    signers = []
    for number, key in enumerate(batches.keys):
        batch = batch_of(key)
        found = ring.signer_throughout(batch.verification_method, *whole)
        if found is None:
            found = ring.signer_throughout(batch.verification_method, *own()[number])
        signers.append(None if found is None else _signer_of(batch, *found))
    return signers


def _spans_of(numbers: array[int], times: array[int]) -> dict[int, tuple[datetime, datetime]]:
    """Return the times of the first and of the last record of each batch."""
    spans: dict[int, tuple[int, int]] = {}
    for number, time in zip(numbers, times, strict=True):
        first, last = spans.get(number, (time, time))
        spans[number] = min(first, time), max(last, time)
    return {number: (appended_at(first), appended_at(last)) for number, (first, last) in spans.items()}


def _signer_of(batch: SignedBatch, known: KnownKey, party: Party) -> Party | None:
    text = signed_text(size=batch.size, root=batch.root)
    return party if verifies(known.key.raw, batch.signature, text) else None
