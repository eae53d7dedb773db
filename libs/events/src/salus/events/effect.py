"""What became of an event: the one rule of effect, and the one type that says it.

An accepted record is a fact that was stated. Whether it took effect follows from the records before it on
its topic, and from nothing else, so that key ring, folds, audit and verifiers say the same of it:

1. An event that changes its subject (`EventType.changes`) takes effect only if it expects the version that
   the subject has on its topic. The version is the number of such events that took effect before.
2. An event that claims names (`EventType.claims`) takes effect only if nobody claimed one of them before on
   its topic. A name is claimed once and for ever. What somebody signed a request for claims that request as
   well, and the approval of it by a second party, so one request and one approval make one fact: they stand
   in the event, and all who read it could send them again, to another replica. A request that asks for many
   facts makes each of them once (`RequestedData.part`). What accompanies a fact (`EventType.accompanies`) is
   stated once besides.
3. An event of identity takes effect only if who asked for it had the right, right before it on its topic:
   `salus.events.entitlement`, which the key ring applies. Other folds of that topic go by the key ring.
4. All other events state something and change nothing: they take effect as stated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from typing import TypeVar

import msgspec

from salus.events.envelope import Event
from salus.events.event_types import EventType
from salus.events.requests import RequestedData

_Name = TypeVar("_Name")


class NoEffect(StrEnum):
    """Why an accepted event changed nothing."""

    STALE = "stale"
    """It expected another version of its subject: another change was first, or it is a replay."""
    NAME_TAKEN = "name-taken"
    """It claims a name, as a key or an id, that was claimed before."""
    NOT_ENTITLED = "not-entitled"
    """Who asked had no right to it, or a second operator or a proof of possession is missing."""


class Applied(msgspec.Struct, frozen=True, gc=False):
    """The event took effect; its subject has this version now."""

    version: int


@dataclass(frozen=True, slots=True)
class WithoutEffect:
    """The event is on the ledger and changed nothing."""

    reason: NoEffect


@dataclass(frozen=True, slots=True)
class Refused:
    """The record is a rejected leaf and changed nothing; `reason` is a code of `salus.events.errors`."""

    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody can tell yet: Kafka or the database did not answer in time. `why` is safe to show."""

    why: str


Effect = Applied | WithoutEffect
"""What an accepted event did."""

Outcome = Applied | WithoutEffect | Refused | Unknown
"""What became of something that was to be published; match it exhaustively (`typing.assert_never`)."""


def depends_on_history(entry: EventType) -> bool:
    """Tell whether it takes the records before an event of this type to say what it does."""
    return entry.changes or entry.claims is not None or issubclass(entry.data, RequestedData)


def claims_of(event: Event) -> tuple[str, ...]:
    """Return the names that an event claims on its topic, each at most once."""
    names = () if event.type.claims is None else event.type.claims(event.data)
    return tuple(dict.fromkeys((*names, *_request_of(event))))


def request_claim(token: str) -> str:
    """Return the name that an event claims by the token of its requester."""
    return _claim("request", token)


def _claim(kind: str, token: str) -> str:
    # Of a compact JWS what was signed: whoever sees an ECDSA signature can make another one of the same.
    signed = token.rpartition(".")[0] or token
    return f"{kind}:{sha256(signed.encode()).hexdigest()}"


def _request_of(event: Event) -> tuple[str, ...]:
    if not isinstance(event.data, RequestedData):
        return ()
    part = event.data.part + (f":{event.type.name}" if event.type.accompanies else "")
    request = event.data.request
    proof = (_claim("request", request.proof) + part,) if request.proof else ()
    return (*proof, _claim("approval", request.approval) + part) if request.approval else proof


def effect_of(
    event: Event, *, version: int, is_claimed: Callable[[str], bool], is_entitled: Callable[[], bool]
) -> Effect:
    """Return what an accepted event does.

    `version` is the one of its subject on its topic, before it; `is_claimed` tells whether a name was claimed
    by an event on its topic that took effect before; `is_entitled` tells whether who asked had the right, and
    is not asked where the event has no effect anyhow.
    """
    expected = event.envelope.expectedversion if event.type.changes else None
    claims = claims_of(event)
    return effect_by(expected, version=version, claims=claims, is_claimed=is_claimed, is_entitled=is_entitled)


def effect_by(
    expected: int | None,
    *,
    version: int,
    claims: Iterable[_Name],
    is_claimed: Callable[[_Name], bool],
    is_entitled: Callable[[], bool],
) -> Effect:
    """Return what an event does of which so much is known; what expects no version changes nothing."""
    if expected is not None and expected != version:
        return WithoutEffect(NoEffect.STALE)
    if any(map(is_claimed, claims)):
        return WithoutEffect(NoEffect.NAME_TAKEN)
    if not is_entitled():
        return WithoutEffect(NoEffect.NOT_ENTITLED)
    return Applied(version if expected is None else version + 1)
