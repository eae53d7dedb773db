"""Which bytes of an object a request asks for: one range of RFC 9110, section 14, or all."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from salus.runtime.problems import ProblemError
from salus.storage.domain import ObjectState

# More digits are beyond any object; the header is read in linear time.
_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,18})-([0-9]{0,18})[ \t]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """From byte `start` up to `end` of `size`; `is_part` if a part was asked for, maybe of all there is."""

    start: int
    end: int
    size: int
    is_part: bool = True

    @property
    def length(self) -> int:
        """How many bytes it has."""
        return self.end - self.start


RangeAsked = Callable[[ObjectState], ByteRange]
"""Tells which bytes of an object are asked for; raises ProblemError 416."""


def whole(stored: ObjectState) -> ByteRange:
    """Return all of an object."""
    return ByteRange(0, stored.plaintext_bytes, stored.plaintext_bytes, is_part=False)


def etag_of(stored: ObjectState) -> str:
    """Return the strong validator of an object, which never changes under its id."""
    return f'"{stored.commitment}"'


def range_asked(header: str, if_range: str | None) -> RangeAsked:
    """Return what a `Range` header asks for.

    All of the object, if the header is no range of bytes, or if `If-Range` names something else.
    """

    def asked(stored: ObjectState) -> ByteRange:
        if if_range is not None and if_range.strip() != etag_of(stored):
            return whole(stored)
        return _range_of(header.strip(), stored)

    return asked


def _range_of(header: str, stored: ObjectState) -> ByteRange:
    size = stored.plaintext_bytes
    if header.startswith("bytes=") and "," in header:
        raise _unsatisfiable("one-range-only", "one range a request: ask for each part by itself", size)
    found = _RANGE.fullmatch(header)
    if found is None or not any(found.groups()):
        return whole(stored)
    first, last = (int(text) if text else None for text in found.groups())
    if first is None:
        # The last so many bytes.
        first, last = max(0, size - (last or 0)), None
    if last is not None and last < first:
        return whole(stored)
    if first >= size:
        raise _unsatisfiable("range-not-satisfiable", "the object has no byte of this range", size)
    return ByteRange(first, size if last is None else min(last + 1, size), size)


def _unsatisfiable(code: str, detail: str, size: int) -> ProblemError:
    return ProblemError(416, code, detail, headers={"Content-Range": f"bytes */{size}"})
