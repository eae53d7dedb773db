"""DIDs in paths: each names the DID as the caller wrote it, not as the framework decodes it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends, Path, Request

from salus.events import fields
from salus.events.did import decoded_segment
from salus.runtime.auth import target_of
from salus.runtime.fields import pattern_of

_DESCRIPTION = "The party's DID. A percent sign in it may be written as it is, or as %25."
Did = Annotated[str, Path(pattern=pattern_of(fields.Did), max_length=256, description=_DESCRIPTION)]


def segment_of(request: Request, place: int) -> str:
    """Return what a segment of the path names; the first segment has place 1."""
    return decoded_segment(target_of(request).partition("?")[0].split("/")[place])


def did_in_path(place: int) -> Any:
    """Return the dependency of a route whose path has `{did}` as this segment."""

    def did_of(request: Request, did: Did) -> str:  # noqa: ARG001  # the parameter's pattern and place
        return segment_of(request, place)

    return Depends(did_of)
