"""The requests that consent and storage state that they served: what rights are judged again by.

Kept is who asked, what for, and what the rule of effect needs; no sealed field and no token. A body is read
where it was checked, in a worker process, and what is kept of it travels as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from math import inf
from typing import Any

import msgspec

from salus.access.emergencies import due_of
from salus.archive.body import ACCEPTED
from salus.archive.columns import columns_of_body
from salus.events.bearer import Bearer, read_bearer
from salus.events.catalogue import Catalogue
from salus.events.contexts import consent, consent_oversight, consent_prohibitions, storage
from salus.events.effect import claims_of
from salus.events.envelope import Event, decode_event
from salus.events.event_types import EventData, type_of
from salus.events.requests import RequestedData
from salus.ledger.block import Header, Range, body_key
from salus.ledger.records import appended_at

CONSENT_TOPIC = type_of(consent.ConsentGranted).topic
STORAGE_TOPIC = type_of(storage.SubjectRegistered).topic
TOPICS = frozenset({CONSENT_TOPIC, STORAGE_TOPIC})
# Of a SHA-256, as no two names are alike in so much of it by chance or by searching for it.
CLAIM_BYTES = 16
_COLUMNS = ("topic", "partition", "offset", "timestamp", "status", "id", "value")


class Served(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """One event of consent or storage, at a row of a block's body.

    `patient` is its subject, `by` who asked, `time` when it was stated, `appended` when the broker appended
    it. `expected` is the version of the subject that it expects, None if it changes nothing; `claims` are
    digests of the names that it claims.
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
    """A consent was granted."""

    grantee: str


class ServedRevocation(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """A consent was taken back."""

    consent: str
    epoch: int


class ServedProhibition(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """An access was forbidden, to a party or to everybody."""

    party: str | None
    epoch: int


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

    `due` is when its review is, `steward` the member that is told to review it, if that was said.
    """

    decision: str
    object: str
    reason: str
    until: float
    due: float
    steward: str | None = None


class ServedCase(Served, frozen=True, array_like=True, gc=False, tag=True, kw_only=True):
    """An access was left to a person of `steward`, due by `due`."""

    case: str
    due: float
    steward: str


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


def runs_of_body(
    shard: int, header: Header, body: bytes, catalogue: Catalogue, *, without: Collection[int | None] = ()
) -> list[ServedRun]:
    """Return the runs of a body that was found whole; the rows `without` should not have been accepted.

    Raises:
        BodyError: it cannot be read.
    """
    columns = columns_of_body(body, names=_COLUMNS)
    ranges = served_ranges(header)
    places: dict[tuple[str, int], list[AnyServed]] = {(r.topic, r.partition): [] for r in ranges}
    for row, topic in enumerate(columns["topic"]):
        if topic not in TOPICS or columns["status"][row] != ACCEPTED or row in without:
            continue
        event = decode_event(columns["value"][row], catalogue)
        appended = appended_at(columns["timestamp"][row])
        served = served_of(event, offset=columns["offset"][row], row=row, appended=appended)
        if served is not None:
            places[topic, columns["partition"][row]].append(served)
    key = body_key(shard, header.height, header.root)
    return [
        run_of(r, run, shard=shard, height=header.height, key=key)
        for r, run in zip(ranges, places.values(), strict=True)
    ]


def served_of(event: Event, *, offset: int, row: int, appended: datetime) -> AnyServed | None:
    """Return what an accepted event says was served; None if nobody's right is judged by it."""
    data, envelope = event.data, event.envelope
    changes = event.type.changes
    kind, details = _KINDS.get(type(data), (ServedChange if changes else None, lambda _: {}))
    if kind is None:
        return None
    # What changes nothing is asked for by requests of its own (`Catalogue.asks_for`), so what it claims is
    # in nobody's way; but for the denied use of a permit, of which no right is judged here. By its claims a
    # decision is known to be stated again: replicas that are asked at once under one key state it each.
    claims = claims_of(event) if changes or kind is ServedDecision else ()
    return kind(
        offset=offset,
        row=row,
        event=envelope.id,
        patient=envelope.subject,
        by=data.request.by if isinstance(data, RequestedData) else envelope.source,
        time=envelope.time.timestamp(),
        appended=appended.timestamp(),
        expected=envelope.expectedversion if changes else None,
        claims=tuple(sha256(name.encode()).digest()[:CLAIM_BYTES] for name in claims),
        **details(data),
    )


def _signed_at(data: RequestedData) -> float:
    """Return when the caller signed the request, by the caller's own clock; its signature was verified.

    An accepted request has a token. Without one it was signed after all that ends.
    """
    claims = _claims(data)
    return inf if claims is None else float(claims.iat)


def _claims(data: RequestedData) -> Bearer | None:
    proof = data.request.proof
    return None if proof is None else read_bearer(proof, audience=None).claims


def _of_read(data: storage.ObjectRead | storage.ReadBrokenOff | storage.SealedOpened) -> dict[str, Any]:
    said = None if isinstance(data, storage.ReadBrokenOff) else data
    return {
        "object": _object_of(data),
        "decision": data.decision,
        "asked": _signed_at(data),
        "purpose": said and said.purpose,
        "break_glass": said and said.break_glass,
    }


def _object_of(data: storage.ObjectRead | storage.ReadBrokenOff | storage.SealedOpened) -> str | None:
    if isinstance(data, storage.SealedOpened):
        return None
    claims = _claims(data) if isinstance(data, storage.ReadBrokenOff) else None
    is_sealed = claims is not None and (claims.htu or "").startswith("/sealed/")
    return None if is_sealed else data.object


_KINDS: Mapping[type[EventData], tuple[type[AnyServed], Callable[[Any], dict[str, Any]]]] = {
    consent.ConsentGranted: (ServedGrant, lambda d: {"grantee": d.grantee}),
    consent.ConsentRevoked: (ServedRevocation, lambda d: {"consent": d.consent, "epoch": d.epoch}),
    consent_prohibitions.AccessProhibited: (
        ServedProhibition,
        lambda d: {"party": d.party, "epoch": d.epoch},
    ),
    consent_prohibitions.ProhibitionLifted: (
        ServedLifting,
        lambda d: {"party": d.party, "prohibition": d.prohibition},
    ),
    consent.PatientLinked: (ServedLink, lambda d: {"did": d.did}),
    consent.PatientUnlinked: (ServedUnlink, lambda d: {"did": d.did, "epoch": d.epoch}),
    consent.GlassBroken: (
        ServedEmergency,
        lambda d: {
            "decision": d.decision,
            "object": d.object,
            "reason": d.reason,
            "until": d.valid_until.timestamp(),
            "due": due_of(d).timestamp(),
            "steward": d.steward,
        },
    ),
    consent_oversight.CaseOpened: (
        ServedCase,
        lambda d: {"case": d.case, "due": d.due.timestamp(), "steward": d.steward},
    ),
    consent_oversight.CaseDecided: (
        ServedVerdict,
        lambda d: {
            "case": d.case,
            "until": None if d.valid_until is None or d.outcome != "approved" else d.valid_until.timestamp(),
        },
    ),
    consent_oversight.ReviewOverdue: (
        ServedOverdue,
        lambda d: {"decision": d.decision, "due": d.due.timestamp()},
    ),
    consent.GlassBreakReviewed: (ServedReview, lambda d: {"decision": d.decision}),
    consent.AccessDecided: (
        ServedDecision,
        lambda d: {
            "decision": d.decision,
            "action": d.action,
            "object": d.object,
            "purpose": d.purpose,
            "allowed": d.allowed,
            "emergency": d.emergency,
            "break_glass": d.break_glass,
            "valid_until": d.valid_until.timestamp(),
            "epoch": d.epoch,
            "case": d.case if d.allowed else None,
        },
    ),
    storage.SubjectRegistered: (ServedRegistration, lambda d: {"steward": d.steward, "key": d.key}),
    storage.SubjectErased: (ServedErasure, lambda d: {"key": d.key}),
    storage.SubjectKeyDestroyed: (ServedDestruction, lambda d: {"key": d.key}),
    storage.ObjectStored: (
        ServedUpload,
        lambda d: {"object": d.object, "decision": d.request.decision, "asked": _signed_at(d)},
    ),
    storage.ObjectRead: (ServedRead, _of_read),
    storage.ReadBrokenOff: (ServedRead, _of_read),
    storage.SealedOpened: (ServedRead, _of_read),
}
