"""Verifies who asked for what a service states: its request was signed by the caller, and asks for this.

Whoever judges an event judges its request as well, so an invented request is a rejected leaf and has no
effect anywhere.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import NamedTuple, Protocol

from salus.events.bearer import (
    APPROVAL,
    APPROVAL_LIFETIME_S_MAX,
    CLOCK_SKEW_S,
    CLOCKS,
    Bearer,
    BearerError,
    Signed,
    audience_of,
    read_bearer,
    require_current,
)
from salus.events.catalogue import Catalogue
from salus.events.contexts.identity import IDENTITY
from salus.events.contexts.identity_login import SessionOpened
from salus.events.ed25519 import Verifies
from salus.events.envelope import Event
from salus.events.errors import RULE_FAULTS, Reason, RejectedError
from salus.events.event_types import type_of
from salus.events.governance import SECONDED, objection_to_governing
from salus.events.keyring import KeyRing
from salus.events.logins import KnownSession
from salus.events.names import NAME_RULE, misnamed_field
from salus.events.requests import ID_TOKEN, SERVICE, SIGNED, Request, RequestedData
from salus.events.sessions import LoginError, require_form
from salus.events.signed_request import Asked
from salus.events.step_up import StepUpNeeded, needed_for
from salus.events.verification_keys import verifies

# How long a transfer may take: its token was current when it began.
TRANSFER_S_MAX = 3600
# How long after its request, or after the end of a transfer, a service may state an event.
STATING_S_MAX = 30
# How long after it took a request a service may have the event appended, with the clocks and a slow Kafka.
LATE_MAX = timedelta(minutes=15)
_SKEW = timedelta(seconds=CLOCK_SKEW_S)


class ReadsBearer(Protocol):
    """Reads a token as `read_bearer` does."""

    def __call__(self, token: str, *, audience: str | None) -> Signed:
        """Return the claims of a bearer that is meant for `audience`; raises BearerError."""


class Proofs(NamedTuple):
    """How the token of an event's request is read, and how its signature is verified."""

    read: ReadsBearer
    verify: Verifies


ALONE = Proofs(read_bearer, verifies)
"""Each token by itself, and at once."""


def verify_request(
    event: Event,
    *,
    ring: KeyRing,
    at: datetime,
    proofs: Proofs = ALONE,
) -> None:
    """Raise unless the event's request, if its type has one, was made by who is said to have made it.

    `at` is when the broker appended the event. A service cannot have stated it later: with a `time` that is
    further ahead than clocks differ, a request would count that nobody has made yet. The request's token is
    read and verified as `proofs` does.

    Raises:
        RejectedError: INVALID_REQUEST, with what is wrong.
    """
    if not isinstance(event.data, RequestedData):
        return
    if (field := misnamed_field(event.data) or misnamed_field(event.data.request)) is not None:
        raise RejectedError(Reason.INVALID_REQUEST, f"$.data: {field} is no name: {NAME_RULE}")
    if event.envelope.time > at + CLOCKS:
        raise RejectedError(Reason.INVALID_REQUEST, "$.time: it is in the future")
    try:
        _require_authentic(event, event.data, ring=ring, at=at, proofs=proofs)
    except RULE_FAULTS as error:
        raise _refused(f"a rule failed on it: {type(error).__name__}") from None


def _require_authentic(
    event: Event, data: RequestedData, *, ring: KeyRing, at: datetime, proofs: Proofs
) -> None:
    request = data.request
    if isinstance(data, SessionOpened):
        _require_exchanged(data, ring.catalogue)
    elif request.authentication == SERVICE:
        _require_own(event, request)
    elif request.authentication == SIGNED:
        signed = require_asked(data, catalogue=ring.catalogue, network=ring.network, read=proofs.read)
        _require_signed(event, signed, data, ring=ring, judged_at=at, verify=proofs.verify)
    else:
        raise _refused("an authentication that nobody here can verify")


def signed_by(  # noqa: PLR0913  # a bearer, and what it is judged by
    signed: Signed,
    *,
    ring: KeyRing,
    at: datetime,
    judged_at: datetime | None = None,
    lenience: timedelta = timedelta(),
    verify: Verifies = verifies,
) -> bool:
    """Tell whether a bearer is signed by a key that could sign `at` a moment.

    Who judges an event, which was appended at `judged_at`, takes a key that was known by then, and gives one
    that ended the `lenience` by which clocks differ. Who judges what is asked now takes any that
    is known, and none that is revoked though a clock here is behind the broker's.
    """
    known = ring.asking_key(signed.kid)
    if known is None or known.did != signed.claims.iss:
        return False
    ended = at - lenience
    if at + _SKEW < known.valid_from or (known.valid_until is not None and ended >= known.valid_until):
        return False
    if judged_at is None:
        counts = known.revoked_at is None and ring.may_ask(known.did)
    else:
        counts = (
            known.is_known(at=judged_at)
            and not known.is_revoked(at=ended)
            and ring.might_ask(known.did, ended, judged_at)
        )
    if not counts:
        return False
    return signed.is_by(known.key, verify)


def approver_of(  # noqa: PLR0913  # an approval, and what it is judged by
    approval: str,
    *,
    asked: Bearer,
    ring: KeyRing,
    at: datetime,
    judged_at: datetime | None = None,
    lenience: timedelta = timedelta(),
) -> str:
    """Return the DID of the second party that signed the request which `asked` names.

    A session approves nothing, whatever the times, of which `signed_by` tells.

    Raises:
        BearerError: with a sentence that says what is wrong.
    """
    audience = audience_of(APPROVAL, ring.network)
    signed = read_bearer(approval, audience=audience, lifetime_s_max=APPROVAL_LIFETIME_S_MAX)
    claims = signed.claims
    require_current(at.timestamp(), issued=claims.iat, expires=claims.exp, not_before=claims.nbf)
    if (claims.htm, claims.htu, claims.dig) != (asked.htm, asked.htu, asked.dig):
        raise BearerError("the approval is about another request")
    if claims.iss == asked.iss:
        raise BearerError("nobody approves a request of their own")
    if signed.kid in ring.logins.keys:
        raise BearerError("a session approves nothing: sign with a key of your own")
    if not signed_by(signed, ring=ring, at=at, judged_at=judged_at, lenience=lenience):
        raise BearerError("the approval is not signed by a key that may sign")
    return claims.iss


def _require_own(event: Event, request: Request) -> None:
    # The founding of the network, which has an effect only as the network file says
    # (`salus.events.entitlement`), and the rules that a service starts with.
    if not event.type.unasked:
        raise _refused("somebody must have asked for it")
    if request != Request.of_service(event.envelope.source):
        raise _refused("a service names itself, and nobody else, where nobody asked")


def _require_exchanged(data: SessionOpened, catalogue: Catalogue) -> None:
    """Raise unless the exchange has nothing in it but what one has; by whom it is `entitlement` judges."""
    request = data.request
    if request.authentication != ID_TOKEN or request.by != data.did:
        raise _refused("a session is asked for by an ID token, and by whose session it is")
    if request.approval is not None or request.decision is not None or request.proof is None:
        raise _refused("a session is opened by a token exchange and its proof alone")
    body = None if request.body is None else request.body.encode("utf-8")
    asked = Asked.of(method="POST", target="/token", body=body, digest=None)
    if body is None or not catalogue.asks_for(asked, data):
        raise _refused("it is no token exchange, or has more in it than one")
    try:
        require_form(body, request.proof, opened=data)
    except LoginError as error:
        raise _refused(str(error)) from None


def _require_signed(  # noqa: PLR0913  # a request, and what it is judged by
    event: Event,
    signed: Signed,
    data: RequestedData,
    *,
    ring: KeyRing,
    judged_at: datetime,
    verify: Verifies,
) -> None:
    request, claims, at = data.request, signed.claims, event.envelope.time
    # A transfer may outlast the token that began it; then it was current when the transfer began.
    late_s_max = STATING_S_MAX + (TRANSFER_S_MAX if event.type.transfer else 0)
    stated_s = at.timestamp()
    moment = max(min(stated_s, float(claims.exp)), stated_s - late_s_max)
    try:
        require_current(moment, issued=claims.iat, expires=claims.exp, not_before=claims.nbf)
    except BearerError as error:
        raise _refused(str(error)) from None
    signed_at = _first_use(signed, ring=ring, until=at) if event.type.report else at
    # The service looked the key up before it stated this; by the clocks of others that may be after its end.
    # One that took it for good would be refused by some who judge, and by others not.
    is_signed = signed_by(
        signed, ring=ring, at=signed_at, judged_at=judged_at, lenience=CLOCKS, verify=verify
    )
    if claims.iss != request.by or not is_signed:
        raise _refused("the token is not signed by who is said to have asked")
    if (session := ring.logins.keys.get(signed.kid)) is not None:
        _require_in_session(event, data, session, judged_at=judged_at)
    second = None
    if request.approval is not None:
        try:
            second = approver_of(
                request.approval, asked=claims, ring=ring, at=at, judged_at=judged_at, lenience=CLOCKS
            )
        except BearerError as error:
            raise _refused(f"approval: {error}") from None
    if event.type.operators:
        objection = objection_to_governing(
            event.type.operators, by=request.by, second=second, ring=ring, at=judged_at
        )
        if objection is not None:
            raise _refused(objection.why)
    party = ring.parties.get(request.by)
    if party is None or request.behalf not in (None, party.member, party.did):
        raise _refused("the caller acts for no such member")
    if event.type.asker is not None and not event.type.asker(data, ring.party_at(request.by, judged_at)):
        raise _refused("who asked may not ask for this")


def _require_in_session(
    event: Event, data: RequestedData, session: KnownSession, *, judged_at: datetime
) -> None:
    """Raise unless a session may ask for it, and was open when a service can have taken the request.

    A service says itself when it stated an event. By that alone no session would ever be over for who has a
    service's key.
    """
    if event.type.operators:
        # Whoever runs a provider would govern the network.
        raise _refused("a session asks for nothing that operators ask for: sign with a key of your own")
    taken = judged_at - LATE_MAX - timedelta(seconds=TRANSFER_S_MAX if event.type.transfer else 0)
    if session.is_revoked(at=taken) or (session.valid_until is not None and taken >= session.valid_until):
        raise _refused("the session was over long before this was appended")
    # The service looked a moment before it stated this.
    asked = max(event.envelope.time, taken) - timedelta(seconds=STATING_S_MAX)
    if (needed := _missing_step_up(data, session, at=asked)) is not None:
        raise _refused(needed.why)


def missing_step_up(data: RequestedData, *, ring: KeyRing, at: datetime) -> StepUpNeeded | None:
    """Return what who asks for this at that moment lacks, in a session; None: nothing.

    A key of a party is looked at no further: it signs each request itself, and no provider stands for it.
    """
    if data.step_up is None or data.request.proof is None:
        return None
    try:
        signed = read_bearer(data.request.proof, audience=None)
    except BearerError:
        return None
    session = ring.logins.keys.get(signed.kid)
    return None if session is None else _missing_step_up(data, session, at=at)


def _missing_step_up(data: RequestedData, session: KnownSession, *, at: datetime) -> StepUpNeeded | None:
    act, levels = data.step_up, session.levels
    if act is None or levels is None:
        return None
    return needed_for(act, session.authentication, levels=levels, at=at)


def _first_use(signed: Signed, *, ring: KeyRing, until: datetime) -> datetime:
    """Return the first moment at which a service may have taken the token, when it and its key were current.

    A caller chooses `iat`, within the clocks' difference, and when its key begins and ends.
    """
    claims, known = signed.claims, ring.asking_key(signed.kid)
    issued, expires = (datetime.fromtimestamp(float(moment), UTC) for moment in (claims.iat, claims.exp))
    begins = issued if known is None else max(issued, known.valid_from)
    return min(begins - _SKEW, expires + _SKEW, until)


def require_asked(
    data: RequestedData, *, catalogue: Catalogue, network: str, read: ReadsBearer = read_bearer
) -> Signed:
    """Return the caller's token, if the request that it names asks for this data; its key is not looked at.

    `read` is asked of the token.

    Raises:
        RejectedError: INVALID_REQUEST.
    """
    request, entry = data.request, type_of(data)
    if request.approval is not None and entry.owner != IDENTITY and entry.operators < SECONDED:
        raise _refused("approval: what this event states is approved by nobody")
    if request.proof is None:
        raise _refused("the caller's token is missing")
    try:
        signed = read(request.proof, audience=audience_of(entry.owner, network))
    except BearerError as error:
        raise _refused(str(error)) from None
    claims = signed.claims
    if claims.htm is None or claims.htu is None:
        raise _refused("the token names no request")
    body = None if request.body is None else request.body.encode("utf-8")
    if body is not None and sha256(body).hexdigest() != claims.dig:
        raise _refused("the token is about another body")
    asked = Asked.of(method=claims.htm, target=claims.htu, body=body, digest=claims.dig)
    if not catalogue.asks_for(asked, data):
        raise _refused("the request asks for something else")
    return signed


def _refused(why: str) -> RejectedError:
    return RejectedError(Reason.INVALID_REQUEST, f"$.request: {why}")
