"""The sessions of a person over HTTP: for herself, for her member and for operators, who end them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from salus.events import fields
from salus.events.logins import KnownSession
from salus.events.parties import Party
from salus.identity.logins import require_may_see_sessions
from salus.identity.ports import Ring
from salus.runtime.auth import Callers
from salus.runtime.fields import pattern_of
from salus.runtime.moments import Moment
from salus.runtime.path_dids import did_in_path
from salus.runtime.problems import documented
from salus.runtime.refusal import Refusal

LISTED_MAX = 500

DidInPath = Annotated[str, did_in_path(2)]


class SessionView(BaseModel):
    """A session: when and where its person logged in, and whether it is over."""

    key_id: str = Field(description="The id of its key: `POST /parties/{did}/keys/revoke` ends it.")
    provider: str
    opened: datetime
    authenticated: datetime = Field(description="When the provider looked who she is.")
    acr: str | None
    ended: datetime | None = Field(description="When it was over; null: it is open.")
    in_doubt_since: datetime | None

    @classmethod
    def of(cls, key_id: str, key: KnownSession, *, at: datetime) -> Self:
        """Return the view of a session at that moment."""
        return cls(
            key_id=key_id,
            provider=key.provider,
            opened=key.known_at,
            authenticated=key.authentication.at,
            acr=key.authentication.acr,
            ended=key.ended(at=at),
            in_doubt_since=key.doubted_since,
        )


class SessionList(BaseModel):
    """Sessions of a person, the newest first."""

    did: str
    sessions: list[SessionView]
    more: bool = Field(description=f"There are others, older than these {LISTED_MAX}: ask `before` the last.")


def session_routes(*, ring: Ring, authenticate: Callers, now: Callable[[], datetime]) -> APIRouter:
    """Return the route about sessions."""
    router = APIRouter(tags=["login"])
    caller = Depends(authenticate)

    @router.get("/parties/{did}/sessions", responses=documented(401, 403, 404, 422, 429, 503))
    async def list_sessions(
        did: DidInPath,
        since: Annotated[
            Moment | None, Query(description="Also those that were open at that moment, or later.")
        ] = None,
        before: Annotated[
            str | None,
            Query(
                pattern=pattern_of(fields.KeyId),
                max_length=256,
                description="Only those that were opened before this one: the last that was listed.",
            ),
        ] = None,
        caller: Party = caller,
    ) -> SessionList:
        """List the sessions of a person that are open; `before` goes on where a list ended."""
        known, at = await ring.catch_up(), now()
        if (party := known.parties.get(did)) is None:
            raise Refusal("unknown-party", "no party with that DID is registered", status=404)
        require_may_see_sessions(caller, party)
        was = None if before is None else known.logins.keys.get(before)
        if before is not None and (was is None or was.did != did):
            raise Refusal("unknown-key", "the party never had such a session", status=404)
        found = known.logins.sessions_of(did, since=at if since is None else min(since, at), before=before)
        shown = [SessionView.of(key_id, key, at=at) for key_id, key in found[:LISTED_MAX]]
        return SessionList(did=did, sessions=shown, more=len(found) > LISTED_MAX)

    return router
