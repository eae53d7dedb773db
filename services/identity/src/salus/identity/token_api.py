"""`POST /token`: the exchange (RFC 8693) of an ID token for a session, with a DPoP proof (RFC 9449).

It answers errors as OAuth has them (RFC 6749, 5.2), with our stable `code` besides.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, assert_never

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from salus.contracts.facts import FactWriter, failed
from salus.events.contexts.identity_login import SessionOpened
from salus.events.dpop import PROOF_CHARS_MAX
from salus.events.effect import Applied, NoEffect, Refused, Unknown, WithoutEffect
from salus.events.sessions import LoginError
from salus.events.token_exchange import EXCHANGE_BYTES_MAX, GRANT_TYPE, ID_TOKEN_TYPE, SESSION_KEY_TYPE
from salus.identity.logins import open_session, require_unused, token_used
from salus.identity.ports import Ring
from salus.runtime.limits import AccountLimit, Rate
from salus.runtime.problems import documented

TOKEN_PATH = "/token"  # noqa: S105  # a path
FORM_TYPE = "application/x-www-form-urlencoded"
# Everybody who folds the topic keeps each session, for ever.
LOGINS = Rate(burst=30, per_minute=0.5)

_JWS = "^[A-Za-z0-9_-]+[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]+$"
_FORM = {
    "type": "object",
    "additionalProperties": False,
    "required": ["grant_type", "subject_token", "subject_token_type"],
    "properties": {
        "grant_type": {"type": "string", "const": GRANT_TYPE},
        "subject_token_type": {"type": "string", "const": ID_TOKEN_TYPE},
        "requested_token_type": {"type": "string", "const": SESSION_KEY_TYPE},
        "subject_token": {
            "type": "string",
            "maxLength": EXCHANGE_BYTES_MAX,
            "pattern": _JWS,
            "description": "The ID token; its `nonce` is made of the thumbprint of the DPoP proof's key.",
        },
    },
}
_EXTRA: dict[str, Any] = {
    "parameters": [
        {
            "name": "DPoP",
            "in": "header",
            "required": True,
            "schema": {"type": "string", "maxLength": PROOF_CHARS_MAX, "pattern": _JWS},
            "description": "A DPoP proof (RFC 9449) by the Ed25519 key that signs requests from now on.",
        }
    ],
    "requestBody": {"required": True, "content": {FORM_TYPE: {"schema": _FORM}}},
}


class Session(BaseModel):
    """A session (RFC 8693, 2.2.1): not a bearer token, but the key that signs her requests until it ends."""

    access_token: str = Field(description="The id of the session's key: `kid` of what it signs.")
    issued_token_type: str = SESSION_KEY_TYPE
    token_type: str = Field(default="N_A", description="It is no token that is sent: requests are signed.")
    expires_in: int = Field(description="Seconds until the session ends.")
    did: str = Field(description="Who logged in.")
    provider: str
    acr: str | None

    @classmethod
    def of(cls, opened: SessionOpened, *, at: datetime) -> Session:
        """Return the view of a session that was opened."""
        ends = opened.key.valid_until or opened.key.valid_from
        left = max(0, int((ends - at).total_seconds()))
        return cls(
            access_token=opened.key.id,
            expires_in=left,
            did=opened.did,
            provider=opened.provider,
            acr=opened.acr,
        )


class OAuthError(BaseModel):
    """Why no session was opened (RFC 6749, 5.2); `code` is stable and more exact than `error`."""

    error: str
    error_description: str
    code: str


def token_routes(
    writer: FactWriter, *, ring: Ring, now: Callable[[], datetime], logins: Rate = LOGINS
) -> APIRouter:
    """Return the token endpoint; a person opens as many sessions as `logins` says."""
    router = APIRouter(tags=["login"])
    limit = AccountLimit("logins", logins)
    refused: dict[int | str, dict[str, Any]] = {
        400: {"model": OAuthError, "description": "No session was opened."}
    }

    @router.post(
        TOKEN_PATH,
        response_model=Session,
        responses={**refused, **documented(413, 429, 503)},
        openapi_extra=_EXTRA,
    )
    async def exchange_token(request: Request) -> Response:
        """Exchange an ID token of a provider of the network for a session.

        A crash after publishing leaves a session whose key the caller holds; who got no answer logs in again.
        """
        try:
            body, proof = await _sent(request)
            known, at = await ring.catch_up(), now()
            opened = open_session(body, proof, standing=known, at=at)
            require_unused(opened, known.claims)
            limit.take(known.parties[opened.did])
            await _state(writer, opened)
        except LoginError as error:
            problem = OAuthError(error=error.error, error_description=str(error), code=error.code)
            return JSONResponse(problem.model_dump(), status_code=400)
        return JSONResponse(Session.of(opened, at=at).model_dump())

    return router


async def _sent(request: Request) -> tuple[bytes, str]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM_TYPE:
        raise LoginError("invalid_request", "invalid-exchange", f"Content-Type is not {FORM_TYPE}")
    if request.scope.get("query_string"):
        raise LoginError("invalid_request", "invalid-exchange", "the target has no query")
    proofs = request.headers.getlist("dpop")
    if len(proofs) != 1:
        raise LoginError("invalid_dpop_proof", "invalid-dpop-proof", "DPoP: send one proof in that header")
    return await request.body(), proofs[0]


async def _state(writer: FactWriter, opened: SessionOpened) -> None:
    """State a session; raises LoginError `token-used`, or ProblemError if it is not known to be open."""
    outcome = await writer.write(opened, subject=opened.did)
    match outcome:
        case Applied():
            return
        case WithoutEffect(reason=NoEffect.NAME_TAKEN):
            raise token_used()
        case WithoutEffect() | Refused() | Unknown():
            raise failed(outcome)
        case _:
            assert_never(outcome)
