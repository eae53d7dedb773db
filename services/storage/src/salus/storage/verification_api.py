"""Comparing the whole bucket with the ledger, for operators: server-sent events, and where to go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated

import msgspec
import structlog
from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse

from salus.crypto.errors import KmsError
from salus.events.parties import Party
from salus.messaging import MessagingError
from salus.objects import ObjectsError
from salus.runtime.auth import Callers
from salus.runtime.database import DATABASE_AWAY
from salus.runtime.openapi import TEXT, content
from salus.runtime.places import Places
from salus.runtime.problems import ProblemError, documented
from salus.storage.handlers.bucket_verification import BucketVerification, Finding, Step
from salus.storage.handlers.damage import as_json, sentence

OPERATOR = "operator"
PROGRESS_EVERY_S = 0.5
# A stream ends after so long with `paused`; who wants more comes back with a new bearer.
STREAM_S_MAX = 600.0
# Any key that the bucket may have, as ASCII.
AFTER = r"^[A-Za-z0-9!_.:=+@/-]{0,1000}$"

_log = structlog.get_logger()


def verification_routes(verification: BucketVerification, authenticate: Callers) -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["operations"])
    places = Places(most=1, of_one_max=1)
    caller = Depends(authenticate)

    @router.get(
        "/verification",
        summary="Compare every object in the bucket with the ledger",
        description="Server-sent events, JSON as `data`: `progress` with the place it has come to, `finding` "
        "with a `sentence` for each object that is damaged or missing, that no event names, or that is none "
        "of ours, and in the end `result` (`intact`, `differs`), `paused` after ten minutes, or `error`. The "
        "last two have an `after`: ask again with it, and it goes on from there.",
        responses={**documented(401, 403, 422, 429, 503), **content("text/event-stream", TEXT)},
        response_class=StreamingResponse,
    )
    async def verify_bucket(
        caller: Party = caller,
        after: Annotated[str, Query(pattern=AFTER, description="Where to go on.")] = "",
    ) -> StreamingResponse:
        if OPERATOR not in caller.roles:
            raise ProblemError(403, "not-allowed", "only an operator may compare the bucket with the ledger")
        _log.info("comparing the bucket", by=caller.did)
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        events = verified(verification, places, caller, after=after)
        return StreamingResponse(events, media_type="text/event-stream", headers=headers)

    return router


@dataclass
class _Progress:
    """What was compared in this stream."""

    after: str
    objects: int = 0
    stored_bytes: int = 0
    findings: int = 0

    def add(self, step: Step) -> None:
        self.after = step.after
        self.objects += step.is_object
        self.stored_bytes += step.stored_bytes
        self.findings += len(step.findings)

    @property
    def event(self) -> bytes:
        told = {"objects": self.objects, "stored_bytes": self.stored_bytes, "after": self.after}
        return _event({"progress": told})


async def verified(
    verification: BucketVerification,
    places: Places,
    caller: Party,
    *,
    after: str,
    stream_s_max: float = STREAM_S_MAX,
) -> AsyncGenerator[bytes]:
    """Yield the events of one comparison, one at a time in all; who stops listening stops it."""
    clock = asyncio.get_running_loop().time
    progress, end, due = _Progress(after), clock() + stream_s_max, 0.0
    try:
        async with places.taken(caller), aclosing(verification.steps(after=after)) as steps:
            yield progress.event
            async for step in steps:
                progress.add(step)
                for finding in step.findings:
                    yield _event({"finding": _told(finding), "sentence": words(finding)})
                if clock() >= end:
                    yield progress.event + _event({"paused": True, "after": progress.after})
                    return
                if clock() >= due:
                    yield progress.event
                    due = clock() + PROGRESS_EVERY_S
        result = "differs" if progress.findings else "intact"
        yield progress.event + _event({"result": result, "findings": progress.findings})
    except ProblemError as problem:
        yield _event({"error": problem.code, "detail": problem.detail, "after": progress.after})
    except (ObjectsError, KmsError, MessagingError, *DATABASE_AWAY) as error:
        _log.warning("the bucket is not compared", error=type(error).__name__)
        detail = "object store, KMS, Kafka or database is away; ask again"
        yield _event({"error": "unavailable", "detail": detail, "after": progress.after})


def words(finding: Finding) -> str:
    """Return a finding as a sentence."""
    match finding.kind:
        case "damaged":
            faults = "; ".join(sentence(fault) for fault in finding.faults)
            return f"{finding.object} of {finding.patient}, at {finding.location}: {faults}"
        case "unnamed":
            return f"{finding.location}: no event names it, unless its upload is under way"
        case "stray":
            return f"{finding.location}: none of ours, it is left alone"


def _told(finding: Finding) -> dict[str, object]:
    faults = [as_json(fault) for fault in finding.faults]
    named = {"object": finding.object, "patient": finding.patient, "faults": faults} if faults else {}
    return {"kind": finding.kind, "location": finding.location, **named}


def _event(told: object) -> bytes:
    return b"data: " + msgspec.json.encode(told) + b"\n\n"
