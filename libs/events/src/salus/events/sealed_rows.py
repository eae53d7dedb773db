"""Judges again what a block has sealed, by what it keeps of each record.

A block's signature is the shard's alone: who has its key can seal as accepted what nobody signed, and as
rejected for a reason that only a good signature has. So audit and a deep fsck go by these verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from salus.events.errors import SIGNATURE_REASONS, Reason, RejectedError
from salus.events.judging import accepted_record, judge_batch, verify_signature
from salus.events.keyring import KeyRing
from salus.ledger.block import ACCEPTED, REJECTED_PREFIX
from salus.ledger.records import appended_at, records_of

# These reasons are found only after the signature was verified.
SIGNED_REASONS = frozenset(list(Reason)[list(Reason).index(Reason.MALFORMED_JSON) :])


class SealedRow(NamedTuple):
    """What a block keeps of a record, and as what it is sealed; a rejected record has no value."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    status: str
    subject: str | None
    value: bytes | None
    digest: bytes | None
    signature: bytes | None


def judged_again(rows: Sequence[SealedRow], *, ring: KeyRing) -> dict[int, str]:
    """Return the verdict on each row that can be judged again, by its place among the rows.

    Of a rejected record no value is kept. Whether somebody signed it can be judged by digest and signature;
    what else was wrong with it cannot, and stays as it is sealed.
    """
    verdicts = _of_rejected(rows, ring)
    accepted = [number for number, row in enumerate(rows) if row.status == ACCEPTED]
    records = [
        accepted_record(
            topic=row.topic,
            partition=row.partition,
            offset=row.offset,
            timestamp_ms=row.timestamp_ms,
            subject=row.subject,
            value=row.value,
            signature=row.signature,
        )
        for row in (rows[number] for number in accepted)
    ]
    verdicts |= dict.fromkeys(accepted, ACCEPTED)
    for index, error in judge_batch(records_of(records), ring=ring).refused.items():
        verdicts[accepted[index]] = f"{REJECTED_PREFIX}{error.reason}"
    return verdicts


def refuted(rows: Sequence[SealedRow], verdicts: Mapping[int, str]) -> dict[int, str]:
    """Return the verdicts that are not what their rows are sealed as."""
    return {number: verdict for number, verdict in verdicts.items() if rows[number].status != verdict}


def _of_rejected(rows: Sequence[SealedRow], ring: KeyRing) -> dict[int, str]:
    verdicts = {}
    for number, row in enumerate(rows):
        reason = row.status.removeprefix(REJECTED_PREFIX)
        if reason == Reason.MALFORMED_SIGNATURE and row.signature is None:
            # What was no signature was not archived either, so there is nothing to judge again.
            continue
        if reason in SIGNATURE_REASONS or reason in SIGNED_REASONS:
            verdict = _of_signature(row, ring, appended_at(row.timestamp_ms))
            is_signed = reason in SIGNED_REASONS and verdict == ACCEPTED
            verdicts[number] = row.status if is_signed else verdict
    return verdicts


def _of_signature(row: SealedRow, ring: KeyRing, at: datetime) -> str:
    try:
        verify_signature(row.signature, digest=row.digest or b"", ring=ring, at=at)
    except RejectedError as error:
        return f"{REJECTED_PREFIX}{error.reason}"
    return ACCEPTED
