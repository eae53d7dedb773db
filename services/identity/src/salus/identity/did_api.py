"""DID documents over HTTP: by their DID, and where the did:web method looks for them."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import Response

from salus.events.membership import Membership
from salus.identity import did_document, handlers
from salus.identity.did_web import DOCUMENT, WELL_KNOWN, did_at
from salus.identity.ports import World
from salus.runtime.auth import target_of
from salus.runtime.negotiation import best_type, names_tag
from salus.runtime.path_dids import did_in_path
from salus.runtime.problems import ProblemError, documented
from salus.runtime.refusal import Refusal

# Anybody may resolve a DID, so any web page may. A cache asks again each time, or a key that was revoked
# would be good for as long as the cache keeps it.
_OPEN = {"Access-Control-Allow-Origin": "*"}
_HEADERS = {
    **_OPEN,
    "Access-Control-Expose-Headers": "ETag",
    "Cache-Control": "no-cache",
    "Vary": "Accept",
}
_PREFLIGHT = {
    **_OPEN,
    "Access-Control-Allow-Methods": "GET, HEAD",
    "Access-Control-Allow-Headers": "Accept, If-None-Match",
    "Access-Control-Max-Age": "86400",
}
_FORMS: dict[int | str, dict[str, object]] = {
    200: {
        "description": "OK",
        "content": {form: {"schema": {"type": "object"}} for form in did_document.MEDIA_TYPES},
    },
    304: {"description": "It is the document that `If-None-Match` names."},
    **documented(404, 406, 410, 422, 503),
}
DidInPath = Annotated[str, did_in_path(2)]


def did_routes(*, world: World, now: Callable[[], datetime]) -> APIRouter:
    """Return the routes; they come before those with a parameter where did:web has a segment of its path."""
    router = APIRouter(tags=["parties"])

    async def resolve(request: Request, did: str | None) -> Response:
        if did is None:
            raise ProblemError(404, "unknown-party", "no did:web has its document here", headers=_OPEN)
        try:
            return await _resolved(request, did, world=world, at=now())
        except Refusal as refusal:
            raise ProblemError(refusal.status, refusal.code, refusal.sentence, headers=_OPEN) from None

    @router.head(f"/{WELL_KNOWN}/{DOCUMENT}", include_in_schema=False)
    @router.get(f"/{WELL_KNOWN}/{DOCUMENT}", response_class=Response, responses=_FORMS)
    async def get_did_web_document_of_host(request: Request) -> Response:
        """Resolve the did:web of the host that was asked, which has no path."""
        return await resolve(request, _asked(request))

    @router.head(f"/{{path:path}}/{DOCUMENT}", include_in_schema=False)
    @router.get(f"/{{path:path}}/{DOCUMENT}", response_class=Response, responses=_FORMS)
    async def get_did_web_document(request: Request, path: str) -> Response:  # noqa: ARG001  # read as it was sent
        """Resolve the did:web of the host that was asked and of this path."""
        return await resolve(request, _asked(request))

    @router.head("/did/{did}", include_in_schema=False)
    @router.get("/did/{did}", response_class=Response, responses=_FORMS)
    async def get_did_document(request: Request, did: DidInPath) -> Response:
        """Resolve a DID: its document with the keys that may sign now."""
        return await resolve(request, did)

    for path in ("/did/{did}", f"/{{path:path}}/{DOCUMENT}"):
        router.add_api_route(path, _leave, methods=["OPTIONS"], include_in_schema=False)
    return router


async def _leave() -> Response:
    """Tell a browser that its page may ask."""
    return Response(status_code=HTTPStatus.NO_CONTENT, headers=_PREFLIGHT)


def _asked(request: Request) -> str | None:
    return did_at(request.headers.get("host", ""), target_of(request).partition("?")[0])


async def _resolved(request: Request, did: str, *, world: World, at: datetime) -> Response:
    form = best_type(request.headers.get("accept", ""), did_document.MEDIA_TYPES)
    if form is None:
        offered = ", ".join(did_document.MEDIA_TYPES)
        raise ProblemError(406, "not-acceptable", f"Accept: there are {offered}", headers=_OPEN)
    party = await handlers.registered(did, world=world)
    ring = await world.ring.catch_up()
    is_barred = did in ring.parties and not ring.may_ask(did)
    if is_barred and ring.membership_of(did) is Membership.EXPELLED:
        why = "its member was expelled, so nothing of it is good any more"
        raise ProblemError(410, "did-deactivated", why, headers=_OPEN)
    document = did_document.render(party, at=at, is_barred=is_barred, form=form)
    return _answer(request, json.dumps(document, separators=(",", ":")).encode(), form)


def _answer(request: Request, body: bytes, form: str) -> Response:
    tag = f'"{urlsafe_b64encode(sha256(form.encode() + body).digest()[:18]).decode()}"'
    headers: Mapping[str, str] = {**_HEADERS, "ETag": tag}
    if names_tag(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(body, media_type=form, headers=headers)
