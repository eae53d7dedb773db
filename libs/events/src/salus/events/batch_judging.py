"""Judges many records by themselves: what can be is read together, and signatures are verified in threads."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from salus.events.accountability import ALONE, Proofs
from salus.events.bearer import Signed, read_bearer, require_meant
from salus.events.canonical import Attributes, requested_attributes
from salus.events.catalogue import Catalogue
from salus.events.ed25519 import Signature
from salus.events.envelope import Event
from salus.events.errors import RejectedError
from salus.events.event_types import EventType
from salus.events.judging import judge_record, signers_of
from salus.events.jws_batch import signed_tokens
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.events.verification_keys import verify_each
from salus.ledger.hashing import hash_spans
from salus.ledger.merkle import LEAF_PREFIX
from salus.ledger.records import SIGNATURE_HEADER, Placed, cells_of, timestamp_of
from salus.ledger.signed_batches import MALFORMED, Batches, batches_of


class ReadTogether(NamedTuple):
    """What can be read of many records at once, whoever signed them."""

    found: Attributes
    tokens: Mapping[int, Signed]
    batches: Batches


def read_together(records: Sequence[Placed], catalogue: Catalogue) -> ReadTogether:
    """Read records together; most of the time the interpreter lock is free, so a thread may do it."""
    values = cells_of(record.value for record in records)
    headers = cells_of(record.header(SIGNATURE_HEADER) for record in records)
    found = requested_attributes(values.data, values.places, catalogue)
    batches = batches_of(headers, hash_spans(LEAF_PREFIX, values.data, values.places))
    return ReadTogether(found, signed_tokens(found), batches)


class BatchJudging:
    """The verdicts on many records by themselves: `judge`, then `verify`, which a thread may do, `verdicts`.

    Events and the tokens of their requests are read together where they are plain. The signatures of requests
    are taken for good first, then verified together, and what rests on one that is not good is judged again
    by itself: so the verdicts are those that `judge` gives or raises.
    """

    def __init__(self, records: Sequence[Placed], *, ring: KeyRing, read: ReadTogether | None = None) -> None:
        """`read` is what `read_together` returned of the records, if somebody has asked it."""
        self._records = records
        self._ring = ring
        self._signatures: list[Signature] = []
        self._valid: list[bool] = []
        self._found, self._tokens, batches = read or read_together(records, ring.catalogue)
        self._signers = self._signers_of(batches)
        # That of the record which is judged.
        self._token: Signed | None = None
        # Of each record: the verdict, and which of the signatures it rests on.
        self._verdicts: list[Event | RejectedError] = []
        self._rests_on: list[range] = []

    def judge(self, limit: int) -> bool:
        """Judge some more records but for the signatures of their requests; tell whether any are left."""
        begin = len(self._verdicts)
        end = min(begin + limit, len(self._records))
        # Not kept: all that is here would wait for the collector of cycles.
        proofs = Proofs(self._read, self._take_for_good)
        for row in range(begin, end):
            first, signer = len(self._signatures), self._signers[row]
            known = None if signer is None else self._found.type_of(row)
            self._token = self._tokens.get(row)
            self._verdicts.append(self._verdict(self._records[row], signer, proofs, known=known))
            self._rests_on.append(range(first, len(self._signatures)))
        return end < len(self._records)

    def verify(self) -> None:
        """Verify the signatures, once all records are judged; the interpreter lock is free meanwhile."""
        self._valid = verify_each(self._signatures)

    def verdicts(self) -> list[Event | RejectedError]:
        """Return the event of each record, or why it is refused, once `verify` has returned."""
        for row, rests_on in enumerate(self._rests_on):
            is_refused = isinstance(self._verdicts[row], RejectedError)
            if rests_on and (is_refused or not all(self._valid[number] for number in rests_on)):
                self._verdicts[row] = self._verdict(self._records[row], None, ALONE)
        return self._verdicts

    def _read(self, token: str, *, audience: str | None) -> Signed:
        if self._token is None:
            return read_bearer(token, audience=audience)
        require_meant(self._token, audience=audience)
        return self._token

    def _take_for_good(self, public_key: bytes, signature: bytes, text: bytes) -> bool:
        self._signatures.append(Signature(public_key, signature, text))
        return True

    def _signers_of(self, batches: Batches) -> list[Party | None]:
        """Return who signed each record, where that is certain."""
        times = array("q", (timestamp_of(record.timestamp_ms) for record in self._records))
        signers = signers_of(batches, times, self._ring)
        return [None if number == MALFORMED else signers[number] for number in batches.numbers]

    def _verdict(
        self, record: Placed, signer: Party | None, proofs: Proofs, *, known: EventType | None = None
    ) -> Event | RejectedError:
        try:
            return judge_record(record, signer, self._ring, proofs=proofs, known=known)
        except RejectedError as error:
            return error
