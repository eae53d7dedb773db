"""RFC 9457 problem details: what every API answers when it does not do what was asked."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from salus.client import ClientError
from salus.messaging import MessagingError
from salus.runtime.refusal import Refusal

_log = structlog.get_logger()


class Problem(BaseModel):
    """An RFC 9457 problem document; programs go by `code`, people read `detail`."""

    type: str = Field(examples=["urn:salus:problem:conflict"])
    title: str = Field(description="The HTTP status in words.")
    status: int
    code: str = Field(description="Stable: says what is wrong.", examples=["conflict"])
    detail: str = Field(description="A sentence for people; may change.")


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route that may answer with problems of these statuses."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"description": HTTPStatus(status).phrase, "content": content} for status in statuses}


class ProblemError(Exception):
    """An answer that is not the one hoped for; `code` is stable, `detail` is safe to show."""

    def __init__(self, status: int, code: str, detail: str, **extra: Any) -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.extra = extra


def problem_response(status: int, code: str, detail: str, **extra: Any) -> JSONResponse:
    """Return the `application/problem+json` response."""
    body = {
        "type": f"urn:salus:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": detail,
        **extra,
    }
    headers = {"WWW-Authenticate": "Bearer"} if status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(body, status_code=status, media_type="application/problem+json", headers=headers)


def route_of(request: Request) -> str | None:
    """Return the template of the path, for the path itself may name somebody."""
    return getattr(request.scope.get("route"), "path", None)


async def _problem(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)  # noqa: S101  # registered for this class only
    return problem_response(error.status, error.code, error.detail, **error.extra)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)  # noqa: S101  # registered for this class only
    return problem_response(error.status, error.code, error.sentence)


async def _part_away(request: Request, error: Exception) -> JSONResponse:
    part = "Kafka" if isinstance(error, MessagingError | ClientError) else "the database"
    _log.warning("a part is away", part=part, path=route_of(request), error=type(error).__name__)
    detail = f"{part} is away or slow; whether a change was made is not known, read before you repeat it"
    return problem_response(503, "unavailable", detail)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this class only
    # The offending input is left out: it may be somebody's data.
    errors = [{"at": "/".join(map(str, e["loc"])), "what": e["msg"]} for e in error.errors()]
    return problem_response(422, "invalid-request", "the request does not fit its schema", errors=errors)


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class only
    phrase = HTTPStatus(error.status_code).phrase
    return problem_response(error.status_code, phrase.lower().replace(" ", "-"), str(error.detail))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    _log.error("request failed", path=route_of(request), error=type(error).__name__, exc_info=error)
    return problem_response(500, "internal-error", "the service failed; the cause is in its log")


def install(app: FastAPI, *, away: Iterable[type[Exception]] = ()) -> None:
    """Make every error of the app a problem document."""
    app.add_exception_handler(ProblemError, _problem)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(MessagingError, _part_away)
    app.add_exception_handler(ClientError, _part_away)
    for error in away:
        app.add_exception_handler(error, _part_away)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unexpected)
