"""DIDs in paths: each names the DID as the caller wrote it, not as the framework decodes it."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Depends, Path, Request

from salus.events import fields
from salus.events.did import decoded_segment
from salus.runtime.auth import target_of
from salus.runtime.fields import pattern_of
from salus.runtime.problems import ProblemError

_DESCRIPTION = "The party's DID. A percent sign in it may be written as it is, or as %25."
Did = Annotated[str, Path(pattern=pattern_of(fields.Did), max_length=256, description=_DESCRIPTION)]


def segment_of(request: Request, place: int) -> str:
    """Return what a segment of the path names; the first segment has place 1.

    Raises:
        ProblemError: 422, if the framework has found its segments elsewhere, for a slash was sent as %2F.
    """
    sent = target_of(request).partition("?")[0].split("/")[: place + 1]
    if [unquote(segment) for segment in sent] != request.scope["path"].split("/")[: place + 1]:
        raise ProblemError(422, "invalid-request", "path: a slash in a segment cannot be sent as %2F")
    return decoded_segment(sent[place])


def did_in_path(place: int) -> Any:
    """Return the dependency of a route whose path has `{did}` as this segment."""

    async def did_of(request: Request, did: Did) -> str:  # noqa: ARG001  # the parameter's pattern and place
        return segment_of(request, place)

    return Depends(did_of)
