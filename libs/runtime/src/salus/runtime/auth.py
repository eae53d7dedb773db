"""Who is calling, and what they signed: a JWT under the caller's own DID key, checked against the key ring.

The token is `salus.events.bearer`; `salus.client.auth` makes it. A request that makes an event has a token
that names the request, and is used once. The token travels in the event, as `salus.events.requests` says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import Protocol

import msgspec
from fastapi import Request

from salus.events import requests
from salus.events.accountability import approver_of, signed_by
from salus.events.bearer import Bearer, BearerError, Signed, audience_of, read_bearer, require_current
from salus.events.errors import Reason, RejectedError
from salus.events.jws import split_jws
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.events.signed_request import Asked, excess_of
from salus.events.step_up import StepUpNeeded
from salus.runtime.bodies import BODY_BYTES_MAX, Admission, Charge
from salus.runtime.body_memory import BodyMemory
from salus.runtime.identity_view import IdentityView
from salus.runtime.limits import AccountLimit, Rate, RequestLimit, RequestRates, share_of
from salus.runtime.own_key import OwnKey
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal
from salus.runtime.used_tokens import UsedTokens, token_used

APPROVAL_HEADER = "Salus-Approval"
# Questions of one account to one replica: a page of the trail has 200 entries.
QUESTIONS = Rate(burst=600, per_minute=600)
# For a body that is larger, it is looked up before it is read whether its token stands on the topic already:
# another replica, which did not serve it, would hold the room of its maker for who read it there.
LOOKED_UP_BYTES_MIN = 64 * 1024
_BARS = {Reason.MEMBER_SUSPENDED.value, Reason.MEMBER_EXPELLED.value}


@dataclass(frozen=True)
class Caller:
    """A party and the request that it signed, as events carry it.

    `digest` is the SHA-256 of the body, in hex, that the token names; whoever reads the body of a transfer
    compares it. `second` is the party whose approval of the same request came with it.
    """

    party: Party
    request: requests.Request
    digest: str | None = None
    second: str | None = None

    def under(self, decision: str) -> Caller:
        """Return the same caller, acting under a decision."""
        request = msgspec.structs.replace(self.request, decision=decision)
        return replace(self, request=request)


class Callers(Protocol):
    """Tells who signed a request; see `Authenticator`."""

    async def __call__(self, request: Request) -> Party:
        """Return who asks a question."""

    async def command(self, request: Request) -> Caller:
        """Return who gives a command, with its body."""

    async def document(self, request: Request) -> Caller:
        """Return who submits a document, with the digest of its body."""

    async def transfer(self, request: Request) -> Caller:
        """Return who sends or fetches a stream."""

    def charge_parts(self, caller: Caller, *, number: int, size: int) -> None:
        """Count a request as so many, of so many bytes together."""


class Authenticator:
    """Tells who signed a request; its methods are FastAPI dependencies.

    An instance itself is for questions that make no event: it returns the party. `command` is for requests
    whose body is a command of our API, `document` for bodies that must not go onto the ledger, `transfer`
    for bodies that are streams.
    """

    def __init__(  # noqa: PLR0913  # what a service asks of its callers
        self,
        identity: IdentityView,
        *,
        service: str,
        own_key: OwnKey | None = None,
        has_stated: Callable[[str], Awaitable[bool]] | None = None,
        approvals: bool = False,
        questions: Rate = QUESTIONS,
        requests: RequestRates = RequestRates(),  # noqa: B008  # it is frozen
    ) -> None:
        """Callers of `service` are known by `identity`; `has_stated` tells if a token's request is done.

        Whatever was carried out stands on the topic with its token, so another replica, or this one after a
        restart, would answer who read it there. `approvals` says that commands may need a second party's.
        An account asks as many `questions`, and sends as many `requests` with bodies or that make events.
        """
        self._identity = identity
        self._has_stated = has_stated
        self._service = service
        self._approvals = approvals
        self._own_key = own_key
        self._used = UsedTokens()
        self._questions = AccountLimit("questions", questions)
        self._requests = RequestLimit(requests)
        self._bodies = BodyMemory()

    async def __call__(self, request: Request) -> Party:
        """Return the calling party; raises ProblemError 401, or 429 for one that asks too often.

        A token that names a request is good for that one only: it travels in events, where all can read it.
        """
        ring = await self._ring()
        claims, party = verify_bearer(_token_of(request), ring=ring, service=self._service, now=_now())
        if claims.htm is not None or claims.htu is not None:
            _require_names(claims, request)
        self._questions.take(party)
        return party

    @asynccontextmanager
    async def admit(self, request: Request, size: int) -> AsyncIterator[Admission]:
        """Hold room for a body of so many bytes, and say how it is counted.

        A token that names a request is good for the body of that one only, and of one at a time. Whoever
        answers the request looks at the token again, with what was published meanwhile.

        Raises:
            ProblemError: 401, the token is not of a party and of now, or is used; 503 `busy`, no room.
            MessagingError: of an unknown key nobody can tell now whose it is.
        """
        token = _token_of(request)
        claims, party = await self._known(token)
        stalled: Callable[[], Awaitable[None]] | None = None
        async with AsyncExitStack() as held:
            if claims.htm is not None or claims.htu is not None:
                _require_names(claims, request)
                self._used.require_unused(claims, now=_now())
                if self._has_stated is not None:
                    stalled = partial(_require_not_stated, token, self._has_stated)
                if stalled is not None and size > LOOKED_UP_BYTES_MIN:
                    await stalled()
                held.enter_context(self._used.under_way(claims))
            take = held.enter_context(self._bodies.opened(party))
            take(size)
            bounded = self._bounded(request, partial(self._charge, request, claims, party))
            yield bounded._replace(stalled=stalled, grow=take)

    def _bounded(self, request: Request, charge: Charge) -> Admission:
        """Return how a body is counted, and what is parsed of it: no more than its form has."""
        asked = Asked.of(method=request.method, target=target_of(request), body=None, digest=None)
        form = self._identity.ring.catalogue.form_of(asked, service=self._service)
        if form is None:
            return Admission(charge)
        bytes_max = BODY_BYTES_MAX if form.body_bytes_max is None else form.body_bytes_max
        return Admission(charge, bytes_max=bytes_max, values_max=form.values_max)

    async def _known(self, token: str) -> tuple[Bearer, Party]:
        try:
            return verify_bearer(token, ring=self._identity.ring, service=self._service, now=_now())
        except ProblemError as problem:
            if problem.code not in _BARS and not self._may_be_new(token):
                raise
        # Of a party that joined, or whose member was reinstated, a moment ago nothing is known yet.
        ring = await self._identity.catch_up()
        return verify_bearer(token, ring=ring, service=self._service, now=_now())

    def _charge(self, request: Request, claims: Bearer, party: Party, body: bytes | None) -> None:
        """Count a request once, before its body is parsed, whatever becomes of it.

        A token that names a request travels in its event, where all can read it: so that nobody sends it
        again at its maker's cost, it is counted for that request only, and is used from then on.
        """
        if getattr(request.state, "charged", False):
            return
        if claims.htm is not None or claims.htu is not None:
            _require_names(claims, request)
            _require_digest(claims, body)
            self._used.require_unused(claims, now=_now())
        sent = (request.headers.get(name, "") for name in ("authorization", APPROVAL_HEADER))
        self._requests.take(party, len(body or b"") + sum(map(len, sent)))
        if claims.htm is not None:
            self._used.require_new(claims, organisation=share_of(party), now=_now())
        request.state.charged = True

    def _may_be_new(self, token: str) -> bool:
        """Tell whether a token would be good if its key were known: for others nobody asks Kafka."""
        try:
            ring = self._identity.ring
            signed = read_bearer(token, audience=audience_of(self._service, ring.network))
            claims = signed.claims
            require_current(_now().timestamp(), issued=claims.iat, expires=claims.exp, not_before=claims.nbf)
        except BearerError:
            return False
        return ring.asking_key(signed.kid) is None

    async def command(self, request: Request) -> Caller:
        """Return the caller of a command, whose body its event carries; raises ProblemError 401 or 422."""
        body = await request.body()
        self._require_form(request, body)
        caller = await self._caller(request, body=body, approvals=self._approvals)
        try:
            text = body.decode("utf-8") if body else None
        except UnicodeDecodeError:
            raise ProblemError(422, "invalid-request", "the body is not UTF-8") from None
        return replace(caller, request=msgspec.structs.replace(caller.request, body=text))

    async def document(self, request: Request) -> Caller:
        """Return who submits a document, whose digest its event carries; raises ProblemError 401 or 422."""
        self._require_form(request, None)
        return await self._caller(request, body=await request.body())

    async def transfer(self, request: Request) -> Caller:
        """Return who sends or fetches a stream; raises ProblemError 401 or 422."""
        self._require_form(request, None)
        return await self._caller(request, body=None)

    def charge_parts(self, caller: Caller, *, number: int, size: int) -> None:
        """Count a request as so many, for it makes an event for each; it was counted as one of them.

        `size` is that of its body, which each event carries. Raises ProblemError 429.
        """
        if number > 1:
            self._requests.take(caller.party, (number - 1) * size, number - 1)

    def _require_form(self, request: Request, body: bytes | None) -> None:
        """Raise ProblemError 422 if there is more in the request than an event of it may carry for ever."""
        asked = Asked.of(method=request.method, target=target_of(request), body=body, digest=None)
        form = self._identity.ring.catalogue.form_of(asked, service=self._service)
        excess = None if form is None else excess_of(asked, form)
        if excess is not None:
            raise ProblemError(422, "invalid-request", excess)

    async def _caller(self, request: Request, *, body: bytes | None, approvals: bool = False) -> Caller:
        token, approval = _token_of(request), request.headers.get(APPROVAL_HEADER)
        if approval is not None and not approvals:
            # It would stand in the event, and could end before that is stated.
            raise ProblemError(422, "invalid-request", f"{APPROVAL_HEADER}: this request needs no approval")
        _require_one_reading(request)
        ring = await self._ring()
        now = _now()
        claims, party = verify_bearer(token, ring=ring, service=self._service, now=now)
        _require_names(claims, request)
        _require_digest(claims, body)
        self._charge(request, claims, party, body)
        if self._has_stated is not None:
            await _require_not_stated(token, self._has_stated)
        second = None if approval is None else _second(approval, claims, ring=ring, now=now)
        asked = requests.Request(
            by=party.did,
            authentication=requests.SIGNED,
            behalf=party.member,
            proof=token,
            approval=approval,
        )
        return Caller(party, asked, claims.dig, second)

    async def _ring(self) -> KeyRing:
        ring = await self._identity.catch_up()
        if self._own_key is not None:
            self._own_key.require()
        return ring


def verify_bearer(token: str, *, ring: KeyRing, service: str, now: datetime) -> tuple[Bearer, Party]:
    """Return the claims of a token and the party that made it.

    Raises:
        ProblemError: 401 `unauthenticated`; the detail says what is wrong with the token. 403
            `member-suspended` or `member-expelled`: the party is, or acts for, such a member.
    """
    try:
        signed = read_bearer(token, audience=audience_of(service, ring.network))
        claims = signed.claims
        require_current(now.timestamp(), issued=claims.iat, expires=claims.exp, not_before=claims.nbf)
    except BearerError as error:
        raise ProblemError(401, "unauthenticated", str(error)) from None
    return claims, _signer_of(signed, ring=ring, at=now)


def _second(approval: str, asked: Bearer, *, ring: KeyRing, now: datetime) -> str:
    try:
        return approver_of(approval, asked=asked, ring=ring, at=now)
    except BearerError as error:
        raise ProblemError(403, "approval-invalid", f"{APPROVAL_HEADER}: {error}") from None


def _signer_of(signed: Signed, *, ring: KeyRing, at: datetime) -> Party:
    known = ring.asking_key(signed.kid)
    if known is None:
        raise ProblemError(401, "unauthenticated", "the token's key: unknown-key")
    if known.revoked_at is not None:
        raise ProblemError(401, "unauthenticated", "the token's key: key-revoked")
    try:
        party = ring.caller(known.did)
    except RejectedError as error:
        raise ProblemError(403, error.reason.value, barred_sentence(error.reason)) from None
    if not signed_by(signed, ring=ring, at=at):
        raise ProblemError(401, "unauthenticated", "the token is not signed by that key, or not in its time")
    return party


def step_up_problem(needed: StepUpNeeded) -> ProblemError:
    """Return what somebody is told who has to log in again for what a session asked for (RFC 9470)."""
    levels = {"acr_values": " ".join(needed.acr_values)} if needed.acr_values else {}
    asked = {**levels, "max_age": str(needed.max_age)}
    said = {"error": "insufficient_user_authentication", "error_description": needed.why, **asked}
    challenge = "Bearer " + ", ".join(f'{name}="{value}"' for name, value in said.items())
    return ProblemError(
        401,
        "insufficient-user-authentication",
        needed.why,
        headers={"WWW-Authenticate": challenge},
        max_age=needed.max_age,
        acr_values=list(needed.acr_values),
    )


def barred_sentence(reason: Reason) -> str:
    """Return what somebody is told whose member is suspended or expelled, which that reason says."""
    how = "suspended" if reason is Reason.MEMBER_SUSPENDED else "expelled"
    return f"the caller is, or acts for, a member that is {how}: two operators of other members decide that"


async def _require_not_stated(token: str, has_stated: Callable[[str], Awaitable[bool]]) -> None:
    if await has_stated(token):
        raise token_used()


def _require_digest(claims: Bearer, body: bytes | None) -> None:
    if body is not None and (claims.dig or sha256().hexdigest()) != sha256(body).hexdigest():
        raise ProblemError(401, "unauthenticated", "dig is not the SHA-256 of the body, in hex")


def _require_names(claims: Bearer, request: Request) -> None:
    if claims.htm is None or claims.htu is None:
        raise ProblemError(
            401, "unbound-token", "the token must name the request: htm its method, htu its path and query"
        )
    if claims.htm != request.method:
        raise ProblemError(401, "unbound-token", "htm is not the request's method, in capitals")
    if claims.htu != target_of(request):
        raise ProblemError(401, "unbound-token", "htu is not path and query as sent, without scheme and host")


def require_named(request: Request) -> None:
    """Raise ProblemError 401 unless the token, which was looked at before, names this request.

    For questions that change something: a token that names none is good for each of them.
    """
    try:
        claims = read_bearer(_token_of(request), audience=None).claims
    except BearerError as error:
        raise ProblemError(401, "unauthenticated", str(error)) from None
    _require_names(claims, request)


def _require_one_reading(request: Request) -> None:
    """Raise ProblemError 422 unless the framework reads the target as whoever judges the event does."""
    asked = Asked.of(method=request.method, target=target_of(request), body=None, digest=None)
    read = request.query_params if request.scope.get("query_string") else None
    query = {} if read is None else {name: read.getlist(name) for name in read}
    if asked.query != query or any(len(values) > 1 for values in query.values()):
        raise ProblemError(422, "invalid-request", "query: a name stands in it twice, or it is not UTF-8")
    if len(asked.path) != len(request.scope["path"].split("/")) - 1:
        raise ProblemError(422, "invalid-request", "path: a slash in a segment cannot be sent as %2F")


def party_that_signed(did: str, asked: requests.Request, ring: KeyRing, *, at: datetime) -> Party:
    """Return what the ring says now of who sent a request that was authenticated a while ago.

    Raises:
        Refusal: the key that signed it does not sign any more, there is no such party, or its member is
            suspended or expelled.
    """
    if did not in ring.parties:
        raise Refusal("unknown-party", "the caller is not a party of the network any more", status=403)
    if asked.proof is not None:
        try:
            ring.present_key(split_jws(asked.proof).header.kid, now=at, asking=True)
        except RejectedError as error:
            raise Refusal(str(error.reason), "the caller's key does not sign any more", status=403) from None
    try:
        return ring.caller(did)
    except RejectedError as error:
        raise Refusal(error.reason.value, barred_sentence(error.reason), status=403) from None


def target_of(request: Request) -> str:
    """Return the request's target as it was sent: path and query, in their encoding."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query: bytes = request.scope.get("query_string") or b""
    return (raw.split(b"?")[0] + (b"?" + query if query else b"")).decode("ascii", "replace")


def _token_of(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise ProblemError(401, "unauthenticated", "send Authorization: Bearer with a signed JWT")
    return token


def _now() -> datetime:
    return datetime.now(UTC)
