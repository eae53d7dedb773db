"""Which keys were valid at a block, over HTTP."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from salus.audit.api import Authenticate
from salus.audit.past_keys import NoSuchBlockError, PastKeys, StateUnknownError
from salus.audit.ports import BehindError
from salus.events import fields
from salus.events.did import multibase_of
from salus.events.fields import INTEGER_MAX
from salus.events.parties import KnownKey
from salus.runtime.fields import DID_PATTERN, pattern_of
from salus.runtime.places import Places
from salus.runtime.problems import ProblemError, documented

KEYS_MAX = 500
# All events of identity may have to be folded for an answer.
ANSWERS_MAX = 2
ANSWERS_OF_ONE_MAX = 1
ANSWER_WAIT_S_MAX = 10.0

Number = Annotated[int, Path(ge=0, le=INTEGER_MAX)]
_log = structlog.get_logger()


class PastKey(BaseModel):
    """A key that could sign; `in_doubt`: it was in other hands by then, as is known today."""

    id: str
    party: str
    multibase: str
    valid_from: datetime
    valid_until: datetime | None
    in_doubt: bool

    @classmethod
    def of(cls, key_id: str, key: KnownKey, *, in_doubt: bool) -> PastKey:
        """Return the view of a key."""
        return cls(
            id=key_id,
            party=key.did,
            multibase=multibase_of(key.key.public_key),
            valid_from=key.valid_from,
            valid_until=key.valid_until,
            in_doubt=in_doubt,
        )


class PastKeysPage(BaseModel):
    """Keys that were valid at a block, in the order of their ids; `next` is the `after` of the next page."""

    block: str = Field(examples=["0/120"])
    sealed: datetime
    identity_position: int = Field(description="Up to where of identity's topic the block was judged.")
    keys: list[PastKey]
    next: str | None


def past_keys_routes(past: PastKeys, authenticate: Authenticate) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["keys"])
    places = Places(most=ANSWERS_MAX, of_one_max=ANSWERS_OF_ONE_MAX, wait_s_max=ANSWER_WAIT_S_MAX)

    @router.get(
        "/blocks/{shard}/{height}/keys",
        summary="Which keys could sign what was appended when a block was sealed",
        responses=documented(401, 403, 404, 409, 422, 429, 503),
    )
    async def list_keys_at_block(  # noqa: PLR0913  # the query is the API
        request: Request,
        shard: Number,
        height: Number,
        *,
        party: Annotated[str | None, Query(pattern=DID_PATTERN, max_length=256)] = None,
        after: Annotated[str | None, Query(pattern=pattern_of(fields.KeyId), max_length=256)] = None,
        limit: Annotated[int, Query(ge=1, le=KEYS_MAX)] = KEYS_MAX,
    ) -> PastKeysPage:
        """Answer from the ledger: by the identity position that the block's header names, and by its time."""
        caller = await authenticate(request)
        async with places.taken(caller):
            try:
                found = await past.at(shard, height)
            except NoSuchBlockError:
                raise ProblemError(404, "no-such-block", "the trail has no such block, or not yet") from None
            except StateUnknownError:
                why = "the block names a state of identity that the ledger does not have"
                raise ProblemError(409, "identity-ahead", why) from None
            except BehindError:
                why = "the block was judged further in the identity topic than was read of it from the ledger"
                raise ProblemError(503, "behind", why) from None
        _log.info("keys at a block read", reader=caller.did, shard=shard, height=height)
        wanted = sorted(
            key_id
            for key_id, key in found.keys.items()
            if party in (None, key.did) and (after is None or key_id > after)
        )
        page = wanted[:limit]
        return PastKeysPage(
            block=f"{shard}/{height}",
            sealed=found.sealed,
            identity_position=found.position,
            keys=[PastKey.of(each, found.keys[each], in_doubt=each in found.doubted) for each in page],
            next=page[-1] if len(wanted) > limit else None,
        )

    return router
