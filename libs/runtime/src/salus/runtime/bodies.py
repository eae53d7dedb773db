"""What a request body has to be before a route sees it: bounded in bytes and values, and strict JSON.

Where only registered parties send bodies, nothing of one is read before its sender's token was looked at, and
before there was room for as many bytes as it declares. Where anybody may, room is taken as the bytes come, by
the address that they come from: who announces a body and sends nothing keeps it from nobody.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from salus.events.signed_request import VALUES_MAX
from salus.ledger.json_reader import JsonError, read_json
from salus.runtime.body_memory import BodyMemory, account_at
from salus.runtime.problems import Answer, ProblemError, respond

_T = TypeVar("_T")
Charge = Callable[[bytes], None]
"""Counts a body, before anything is done with it; raises ProblemError if it is one too many."""


def _nothing(_: object) -> None:
    """Count nothing."""


BODY_BYTES_MAX = 1024 * 1024
# What a value takes that is parsed: a short text and its place in an object of ours, as measured. A route may
# keep it for as long as its request is under way.
VALUE_BYTES = 320


class Admission(NamedTuple):
    """How the body of a request is counted and bounded.

    `charge` counts it as a whole, `take` each part of so many bytes as it comes, and `grow` what its values
    become once it is parsed, in bytes; all raise ProblemError if it is one too many. Of what is counted and
    has more bytes, or values, than these, nothing is parsed: each value that does not fit costs time, and is
    an error of its own. `stalled` is awaited once if a body has not come whole after STALL_S, and raises
    ProblemError if it is not worth its room.
    """

    charge: Charge = _nothing
    take: Callable[[int], None] = _nothing
    grow: Callable[[int], None] = _nothing
    bytes_max: int = BODY_BYTES_MAX
    values_max: int = VALUES_MAX
    stalled: Callable[[], Awaitable[None]] | None = None

    def require(self, body: bytes) -> None:
        """Raise ProblemError unless the body may be parsed."""
        self.charge(body)
        if len(body) > self.bytes_max:
            detail = f"body: this request's has at most {self.bytes_max} bytes"
            raise ProblemError(422, "invalid-request", detail)
        # Commas are as many as values, or more.
        values = body.count(b",")
        if values > self.values_max:
            raise ProblemError(422, "invalid-request", f"body: it has at most {self.values_max} values")
        if values:
            self.grow(values * VALUE_BYTES)


Admit = Callable[[Request, int], AbstractAsyncContextManager[Admission]]
"""Holds room for a body of so many bytes while its request is under way, and says how the body is counted.

It raises what routes raise, unless whoever sends the request may send such a body now.
"""

# From the first question for a body to its end: a slow one keeps its bytes and its request in memory.
BODY_S_MAX = 60
# What comes with its head, as bodies of commands do, costs no question of what its sender may.
STALL_S = 0.5
# What is larger takes milliseconds to parse, in which other requests would wait: a thread does it.
PARSED_AT_ONCE_BYTES_MAX = 16 * 1024


# In the extensions of a scope, as `http_protocol` says it: what tells whether all of the body has come.
ARRIVED = "salus.body_arrived"
# In a scope: what a body says that was looked at as JSON.
_READ = "salus.body_read"


class BodyTooLargeError(HTTPException):
    """The body has more bytes than are taken; an HTTPException, for FastAPI makes a 400 of any other."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


class BodyTooSlowError(HTTPException):
    """The body did not come within BODY_S_MAX; an HTTPException as the other."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.REQUEST_TIMEOUT)


class BodyNotJsonError(HTTPException):
    """The body says that it is JSON and is not, by our strict reader; an HTTPException as the other."""

    def __init__(self, error: JsonError) -> None:
        super().__init__(HTTPStatus.UNPROCESSABLE_ENTITY, error.why)
        self.place = error.place


class BodyRefusedError(HTTPException):
    """The body is one that is not parsed, for what `answer` says; an HTTPException as the others."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class BodyGuard:
    """Stops reading a body after BODY_BYTES_MAX, and looks at JSON strictly before a laxer parser does.

    `admit` is asked first. The bodies of paths that begin with one of `streams` are left to their routes.
    """

    def __init__(self, app: ASGIApp, *, streams: tuple[str, ...], admit: Admit) -> None:
        self._app = app
        self._streams = streams
        self._admit = admit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a `receive` that counts."""
        if scope["type"] != "http" or scope["path"].startswith(self._streams):
            await self._app(scope, receive, send)
            return
        size = _declared(Headers(scope=scope))
        if not size:
            await self._pass_on(scope, receive, send, admission=None)
            return
        async with AsyncExitStack() as held:
            try:
                admission = await held.enter_async_context(self._admit(Request(scope), size))
            except Exception as error:  # noqa: BLE001  # the app says what is answered to which
                await (await answer_to(error, Request(scope)))(scope, receive, send)
                return
            await self._pass_on(scope, receive, send, admission=admission)

    async def _pass_on(
        self, scope: Scope, receive: Receive, send: Send, *, admission: Admission | None
    ) -> None:
        headers = Headers(scope=scope)
        has_arrived: Callable[[], bool] = scope.get("extensions", {}).get(ARRIVED, _never)
        # On purpose wider than any framework's idea of a JSON media type, malformed ones included.
        is_json = "json" in headers.get("content-type", "").lower()
        body = bytearray()
        deadline: float | None = None
        stalled = None if admission is None else admission.stalled
        stalled_at = math.inf

        async def looked_at() -> Message:
            nonlocal deadline, stalled, stalled_at
            if deadline is None:
                now = asyncio.get_running_loop().time()
                deadline, stalled_at = now + BODY_S_MAX, now + STALL_S
            if has_arrived():
                # Most come with their heads. Where nothing is waited for, nobody watches how long.
                message = await receive()
            elif stalled is None:
                message = await _received(receive, deadline)
            else:
                message, is_stalled = await _received_or_stalled(receive, deadline, stalled_at, stalled)
                stalled = None if is_stalled else stalled
            part = message.get("body", b"")
            if len(body) + len(part) > BODY_BYTES_MAX:
                raise BodyTooLargeError
            if admission is not None and part:
                _require_paid(admission.take, len(part))
            body.extend(part)
            if message["type"] == "http.request" and not message.get("more_body", False):
                # What is received from now on is the end of the connection, which takes its time.
                deadline, whole = math.inf, bytes(body)
                if admission is not None:
                    _require_paid(admission.require, whole)
                if is_json and whole:
                    scope[_READ] = await _require_json(whole)
            return message

        await self._app(scope, looked_at, send)


def json_of(request: Request) -> Any:
    """Return what a body says that was received, and is JSON by its type; None if there is none."""
    return request.scope.get(_READ)


def _never() -> bool:
    return False


async def _received(receive: Receive, deadline: float) -> Message:
    try:
        async with asyncio.timeout_at(None if math.isinf(deadline) else deadline):
            return await receive()
    except TimeoutError:
        raise BodyTooSlowError from None


async def _received_or_stalled(
    receive: Receive, deadline: float, stalled_at: float, stalled: Callable[[], Awaitable[None]]
) -> tuple[Message, bool]:
    """Return what comes, and whether `stalled` was awaited because it did not come by then."""
    coming = asyncio.ensure_future(_received(receive, deadline))
    try:
        left_s = stalled_at - asyncio.get_running_loop().time()
        done, _ = await asyncio.wait([coming], timeout=max(0.0, left_s))
        if not done:
            await _require_worth(stalled)
        return await coming, not done
    finally:
        coming.cancel()


async def _require_worth(stalled: Callable[[], Awaitable[None]]) -> None:
    try:
        await stalled()
    except ProblemError as error:
        raise BodyRefusedError(error.answer) from None
    except Exception as error:
        # Nobody can tell now; it would be asked once more when the body is whole.
        answer = Answer(503, "unavailable", "a part that this needs does not answer; try again")
        raise BodyRefusedError(answer) from error


def _admission_of_anybody(values_max: Mapping[str, int]) -> Admit:
    memory = BodyMemory()

    @asynccontextmanager
    async def admit(request: Request, _: int) -> AsyncIterator[Admission]:
        with memory.opened(account_at(request.client.host if request.client else "")) as take:
            yield Admission(
                take=take, grow=take, values_max=values_max.get(request.scope["path"], VALUES_MAX)
            )

    return admit


def _declared(headers: Headers) -> int:
    """Return how many bytes a body has at most; where that is not said, as many as are read."""
    length = headers.get("content-length", "0")
    if "transfer-encoding" in headers or not (length.isascii() and length.isdecimal()):
        return BODY_BYTES_MAX
    # Of thousands of digits int() makes no number.
    return min(int(length.lstrip("0")[:16] or "0"), BODY_BYTES_MAX)


async def answer_to(error: Exception, request: Request) -> Response:
    """Return what the app answers to an error of a route; raises it again if that is not said."""
    handlers = request.app.exception_handlers
    handler = next(
        (handlers[kind] for kind in type(error).__mro__ if kind in handlers and kind is not Exception), None
    )
    if handler is None:
        raise error
    answer: Response = await handler(request, error)
    return answer


def _require_paid(count: Callable[[_T], None], counted: _T) -> None:
    try:
        count(counted)
    except ProblemError as error:
        raise BodyRefusedError(error.answer) from None


async def in_time(parse: Callable[[bytes], _T], body: bytes) -> _T:
    """Parse a body: a large one in a thread, so that other requests do not wait for it."""
    if len(body) <= PARSED_AT_ONCE_BYTES_MAX:
        return parse(body)
    return await asyncio.to_thread(parse, body)


async def _require_json(body: bytes) -> Any:
    try:
        return await in_time(read_json, body)
    except JsonError as error:
        raise BodyNotJsonError(error) from None


async def _too_large(request: Request, _: Exception) -> JSONResponse:
    detail = f"a request's body has at most {BODY_BYTES_MAX} bytes"
    return respond(request, Answer(413, "too-large", detail))


async def _too_slow(request: Request, _: Exception) -> JSONResponse:
    detail = f"a request's body takes at most {BODY_S_MAX} s"
    return respond(request, Answer(408, "too-slow", detail, headers={"Connection": "close"}))


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BodyRefusedError)  # noqa: S101  # registered for this class only
    return respond(request, error.answer)


async def _not_json(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, BodyNotJsonError)  # noqa: S101  # registered for this class only
    errors = [{"at": error.place.replace("$", "body", 1), "what": error.detail}]
    detail = f"the body is not JSON that is read in one way only: {error.detail}"
    return respond(request, Answer(422, "malformed-json", detail, {"errors": errors}))


def guard_bodies(
    app: FastAPI,
    *,
    streams: tuple[str, ...],
    admit: Admit | None = None,
    open_bodies: tuple[str, ...] = (),
    values_max: Mapping[str, int] = MappingProxyType({}),
) -> None:
    """Answer 413 `too-large`, 408 `too-slow` and 422 `malformed-json` to bodies that are, declared or not.

    Without `admit`, and on the paths `open_bodies`, anybody may send a body, and is told 503 `busy` where all
    together send too much; it has VALUES_MAX values, or `values_max` of its path.
    """
    app.add_exception_handler(BodyTooLargeError, _too_large)
    app.add_exception_handler(BodyTooSlowError, _too_slow)
    app.add_exception_handler(BodyNotJsonError, _not_json)
    app.add_exception_handler(BodyRefusedError, _refused)
    anybody = _admission_of_anybody(values_max)
    admits = anybody if admit is None else _admission_but(open_bodies, admit, anybody)
    app.add_middleware(BodyGuard, streams=streams, admit=admits)


def _admission_but(paths: tuple[str, ...], admit: Admit, anybody: Admit) -> Admit:
    def admission(request: Request, size: int) -> AbstractAsyncContextManager[Admission]:
        return (anybody if request.scope["path"] in paths else admit)(request, size)

    return admission
