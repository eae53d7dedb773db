"""The requests that consent and storage state that they served: what rights are judged again by.

Kept is who asked, what for, and what the rule of effect needs; no sealed field and no token.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from salus.events.contexts import consent, storage
from salus.events.event_types import type_of
from salus.ledger.block import Header, Range

CONSENT_TOPIC = type_of(consent.ConsentGranted).topic
STORAGE_TOPIC = type_of(storage.SubjectRegistered).topic
TOPICS = frozenset({CONSENT_TOPIC, STORAGE_TOPIC})


class Served(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """One event of consent or storage, at a row of a block's body.

    `patient` is its subject (of a permit's events the permit), `by` who asked, `time` when it was stated,
    `appended` when the broker appended it. `expected` is the version of the subject that it expects, None if
    it changes nothing; `claims` are digests of the names that it claims.
    """

    offset: int
    row: int
    event: str
    patient: str
    by: str
    time: float
    appended: float
    expected: int | None
    claims: tuple[bytes, ...]


class ServedChange(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """An event that changes its subject, and that nobody needs a patient's right for."""


class ServedGrant(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """A consent was granted; `begins` is from when on, None unless consent was to choose that itself."""

    grantee: str
    begins: float | None = None


class ServedRevocation(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """A consent was taken back."""

    consent: str
    epoch: int


class ServedProhibition(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """An access was forbidden, to a party or to everybody; `begins` is as of a grant."""

    party: str | None
    epoch: int
    begins: float | None = None


class ServedLifting(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """What was forbidden a party, or everybody, is not any more."""

    party: str | None
    prohibition: str


class ServedLink(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """A party was said to be the patient."""

    did: str


class ServedUnlink(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """A party was said not to be the patient."""

    did: str
    epoch: int


class ServedEmergency(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """The glass was broken, which everybody concerned is told: for which object, why, and until when.

    `due` is when its review is, `steward` the member that is told to review it and `began` when it began, if
    that was said.
    """

    decision: str
    object: str
    reason: str
    until: float
    due: float
    steward: str | None = None
    began: float | None = None


class ServedCase(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """An access was left to a person of `steward` at `opened`, due by `due`."""

    case: str
    due: float
    steward: str
    opened: float


class ServedVerdict(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """A person decided a case; `until` is how long it allows what was asked for, None if it does not."""

    case: str
    until: float | None


class ServedReview(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """An emergency access was reviewed."""

    decision: str


class ServedOverdue(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """Nobody had reviewed an emergency access when that was due."""

    decision: str
    due: float


class ServedDecision(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """An access was decided; `emergency` is the reason that was given for one."""

    decision: str
    action: str
    object: str
    purpose: str
    allowed: bool
    emergency: str | None
    break_glass: bool
    valid_until: float
    epoch: int
    case: str | None = None


class ServedRegistration(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """A patient got a key and a steward; `key` is the key's id."""

    steward: str
    key: str


class ServedErasure(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """A patient was erased, by the key of this id."""

    key: str


class ServedDestruction(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """The key of a patient who was erased is gone; `key` is its id."""

    key: str


class ServedUpload(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """An object was stored, under a decision or none; `asked` is when the caller signed the request."""

    object: str
    decision: str | None
    asked: float


class ServedRead(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """Content was sent under a decision: an object's, or what is sealed in an event (`object` is None).

    A decision on the latter names the event, or the object that the event names. `purpose` and `break_glass`
    are what is said of the decision; None where nothing is.
    """

    object: str | None
    decision: str
    asked: float
    purpose: str | None
    break_glass: bool | None


class ServedProposal(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """A permit for research was proposed; its id is the subject, and these its parties."""

    recipient: str
    proposer: str
    owner: str


class ServedWithdrawal(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """A permit, or what was proposed, was withdrawn; its id is the subject."""


AnyServed = (
    ServedChange
    | ServedGrant
    | ServedRevocation
    | ServedProhibition
    | ServedLifting
    | ServedLink
    | ServedUnlink
    | ServedEmergency
    | ServedCase
    | ServedVerdict
    | ServedReview
    | ServedOverdue
    | ServedDecision
    | ServedRegistration
    | ServedErasure
    | ServedDestruction
    | ServedUpload
    | ServedRead
    | ServedProposal
    | ServedWithdrawal
)


class ServedRun(msgspec.Struct, frozen=True, gc=False):
    """What one block holds of one partition, from offset `first` to before `next`; `key` is its body's."""

    topic: str
    partition: int
    first: int
    next: int
    shard: int
    height: int
    key: str
    served: bytes

    def decoded(self) -> list[AnyServed]:
        """Return the requests, in the order of their offsets."""
        return _DECODER.decode(self.served)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(list[AnyServed])


def run_of(  # the parts of a place
    range_: Range, served: Sequence[AnyServed], *, shard: int, height: int, key: str = ""
) -> ServedRun:
    """Return the run of what a block holds of one partition, in the order of its offsets."""
    at = (range_.topic, range_.partition, range_.first, range_.next)
    return ServedRun(*at, shard, height, key, _ENCODER.encode(served))


def served_ranges(header: Header) -> list[Range]:
    """Return the ranges of consent's and storage's records in a block."""
    return [r for r in header.ranges if r.topic in TOPICS and r.first < r.next]


def holds_served(header: Header) -> bool:
    """Tell whether the block covers records of consent or storage."""
    return bool(served_ranges(header))


def rights_rest_on(header: Header) -> bool:
    """Tell whether the block covers records that rights rest on: those, or identity's."""
    topics = {*TOPICS, header.identity[0]}
    return any(r.topic in topics and r.first < r.next for r in header.ranges)
