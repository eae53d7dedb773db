"""RFC 9457 problem details: what every API answers when it does not do what was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPMethod, HTTPStatus
from itertools import islice
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Match

from salus.client import ClientError
from salus.messaging import MessagingError, PermanentError
from salus.runtime.refusal import Refusal

# What is told of a request that does not fit: whoever mends these hears of the rest. Places and sentences are
# made of what was sent, so an answer without bounds is larger than the request.
ERRORS_MAX = 20
SENTENCE_CHARS_MAX = 256

# Statuses of protocols that services speak, which HTTP itself has no words for.
_PHRASES = {460: "Checksum Mismatch"}

_log = structlog.get_logger()


class Problem(BaseModel):
    """An RFC 9457 problem document; programs go by `code`, people read `detail`."""

    type: str = Field(examples=["urn:salus:problem:conflict"])
    title: str = Field(description="The HTTP status in words.", examples=["Conflict"])
    status: int = Field(examples=[409])
    code: str = Field(description="Stable: says what is wrong.", examples=["conflict"])
    detail: str = Field(
        description="A sentence for people; may change.",
        examples=["another change of the same thing was first; read it again"],
    )


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may answer with problems of these statuses."""
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _phrase(status), "content": content} for status in statuses}


@dataclass(frozen=True)
class Answer:
    """What is wrong with a request, before it is written in the format of the path that was asked."""

    status: int
    code: str
    detail: str
    extra: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class ProblemError(Exception):
    """An answer that is not the one hoped for; `code` is stable, `detail` is safe to show."""

    def __init__(
        self, status: int, code: str, detail: str, *, headers: Mapping[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra

    @property
    def answer(self) -> Answer:
        """What is wrong, in no format yet."""
        return Answer(self.status, self.code, self.detail, self.extra, self.headers)


Format = Callable[[Answer], JSONResponse]


def use_format(app: FastAPI, base_path: str, format_: Format) -> None:
    """Let everything below a base path whose standard has its own errors answer in that format.

    It is given every error: of routes, of the framework, of unknown paths below it, and those that nobody
    expected. It keeps the answer's status and headers.
    """
    app.state.error_formats = {**getattr(app.state, "error_formats", {}), base_path: format_}


def respond(request: Request, answer: Answer) -> JSONResponse:
    """Return the response, in the format of the path."""
    if answer.status == HTTPStatus.UNAUTHORIZED:
        answer = replace(answer, headers={"WWW-Authenticate": "Bearer", **answer.headers})
    formats: dict[str, Format] = getattr(request.app.state, "error_formats", {})
    path = request.scope["path"]
    for base_path, format_ in formats.items():
        if path == base_path or path.startswith(f"{base_path}/"):
            return format_(answer)
    return _problem_document(answer)


def problem_response(status: int, code: str, detail: str, **extra: Any) -> JSONResponse:
    """Return the `application/problem+json` response."""
    return _problem_document(Answer(status, code, detail, extra))


def _problem_document(answer: Answer) -> JSONResponse:
    body = {
        "type": f"urn:salus:problem:{answer.code}",
        "title": _phrase(answer.status),
        "status": answer.status,
        "code": answer.code,
        "detail": answer.detail,
        **answer.extra,
    }
    return JSONResponse(
        body, status_code=answer.status, media_type="application/problem+json", headers=dict(answer.headers)
    )


def _phrase(status: int) -> str:
    """Return the status in words."""
    return _PHRASES.get(status) or HTTPStatus(status).phrase


def route_of(request: Request) -> str | None:
    """Return the template of the path, for the path itself may name somebody."""
    return getattr(request.scope.get("route"), "path", None)


async def _problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)  # noqa: S101  # registered for this class only
    return respond(request, error.answer)


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)  # noqa: S101  # registered for this class only
    return respond(request, Answer(error.status, error.code, error.sentence))


async def _kafka_is_wrong(request: Request, error: Exception) -> JSONResponse:
    _log.error("Kafka needs somebody", path=route_of(request), error=type(error).__name__, reason=str(error))
    detail = f"{error}; nothing is decided until an operator has mended it, and no waiting helps"
    return respond(request, Answer(503, "kafka-needs-operator", detail))


async def _part_away(request: Request, error: Exception) -> JSONResponse:
    part = "Kafka" if isinstance(error, MessagingError | ClientError) else "the database"
    _log.warning("a part is away", part=part, path=route_of(request), error=type(error).__name__)
    detail = f"{part} is away or slow; whether a change was made is not known, read before you repeat it"
    return respond(request, Answer(503, "unavailable", detail))


def shortened(text: str) -> str:
    """Return the text, or its beginning if it is longer than SENTENCE_CHARS_MAX."""
    return text if len(text) <= SENTENCE_CHARS_MAX else text[: SENTENCE_CHARS_MAX - 1] + "…"


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this class only
    # The offending input is left out: it may be somebody's data.
    errors = [
        {"at": shortened("/".join(shortened(str(step)) for step in e["loc"])), "what": shortened(e["msg"])}
        for e in islice(error.errors(), ERRORS_MAX)
    ]
    detail = "the request does not fit its schema"
    return respond(request, Answer(422, "invalid-request", detail, {"errors": errors}))


async def _http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class only
    code = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_methods_at(request))
    return respond(request, Answer(error.status_code, code, str(error.detail), headers=headers))


def _methods_at(request: Request) -> list[str]:
    """Return the methods that the path takes, over all of its routes (RFC 9110, 15.5.6)."""
    routes = request.app.router.routes
    scopes = {method.value: {**request.scope, "method": method.value} for method in HTTPMethod}
    return [
        method
        for method, scope in scopes.items()
        if any(route.matches(scope)[0] is Match.FULL for route in routes)
    ]


async def _client_left(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001  # the form of handlers
    _log.info("the client left before its body was whole", path=route_of(request))
    return respond(request, Answer(400, "client-left", "the body did not come to its end"))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    _log.error("request failed", path=route_of(request), error=type(error).__name__, exc_info=error)
    return respond(request, Answer(500, "internal-error", "the service failed; the cause is in its log"))


def install(app: FastAPI, *, away: Iterable[type[Exception]] = ()) -> None:
    """Make every error of the app a problem document."""
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(ClientDisconnect, _client_left)
    app.add_exception_handler(PermanentError, _kafka_is_wrong)
    app.add_exception_handler(MessagingError, _part_away)
    app.add_exception_handler(ClientError, _part_away)
    for error in away:
        app.add_exception_handler(error, _part_away)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
