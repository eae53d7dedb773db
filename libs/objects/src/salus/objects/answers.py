"""What an error answer of an S3 store means: that it refuses us for good, or that it will do later."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from salus.objects.errors import ObjectsError, RefusedError, StoreAwayError

_STATUS = re.compile(r"(?:status|Response) code: ([1-5][0-9]{2})\b")
# In an answer's XML, or as obstore tells it of one object among those that a request removes.
_CODE = re.compile(r"<Code>([A-Za-z0-9._-]{1,64})</Code>|\(code: ([A-Za-z0-9._-]{1,64})\)")
_PASSING_STATUSES = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 507})
"""A busy, starting or full store: the same request may do later. All others from 300 on are permanent."""

_PASSING_CODES = frozenset(
    {"IncompleteBody", "InternalError", "RequestTimeout", "ServiceUnavailable", "SlowDown"}
)
"""What some stores say with a status that would otherwise be permanent, or of one object without a status."""

NO_BUCKET = "there is no such bucket"
_WORDS = {
    "AccessDenied": "no permission (AccessDenied)",
    "NoSuchBucket": NO_BUCKET,
    "PermanentRedirect": "the bucket is in another region",
}


def error_of(key: str, *, status: int | None, code: str) -> ObjectsError:
    """Return the error that an answer is: RefusedError if no waiting mends it, else StoreAwayError."""
    reason = _WORDS.get(code) or code or f"status {status}"
    if status in _PASSING_STATUSES or code in _PASSING_CODES:
        return StoreAwayError(key, reason)
    return RefusedError(key, reason)


def status_in(text: str) -> int | None:
    """Return the HTTP status in an error text of obstore or minio, None if the store did not answer."""
    found = _STATUS.search(text)
    if found is None and "redirect without LOCATION" in text:
        return 301
    return int(found[1]) if found else None


def code_in(text: str) -> str:
    """Return the S3 error code in an answer or in a text that quotes it; "" if there is none."""
    found = _CODE.search(text)
    return (found[1] or found[2]) if found else ""


@contextmanager
def contained(key: str) -> Iterator[None]:
    """Turn whatever a client raises over an answer, an error of HTTP, XML or numbers, into StoreAwayError.

    So no store, and nobody on the way to it, can raise what callers of this package do not expect.
    """
    try:
        yield
    except ObjectsError:
        raise
    except Exception as error:
        raise StoreAwayError(key, type(error).__name__) from error
