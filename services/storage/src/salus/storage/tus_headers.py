"""The request headers of tus 1.0.0 (https://tus.io/protocols/resumable-upload), read strictly."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from binascii import Error as Base64Error
from typing import cast

from fastapi import Request

from salus.events.contexts.storage import ContentCoding
from salus.runtime.fields import MEDIA_TYPE_PATTERN
from salus.runtime.problems import ProblemError
from salus.storage.handlers.part_writing import Digest
from salus.storage.transfers import CODINGS

VERSION = "1.0.0"
EXTENSIONS = "creation,expiration,checksum,termination"
# The protocol wants SHA-1 to be there; it finds what a line did, not what an attacker did.
ALGORITHMS = ("sha1", "sha256", "sha512")
BODY_TYPE = "application/offset+octet-stream"
METADATA_CHARS_MAX = 1024
MEDIA_TYPE, CONTENT_ENCODING = "filetype", "content-encoding"
_DEFAULT_TYPE = "application/octet-stream"
_NUMBER = re.compile(r"(?:0|[1-9][0-9]{0,15})", re.ASCII)
_MEDIA_TYPE = re.compile(MEDIA_TYPE_PATTERN)


async def require_version(request: Request) -> None:
    """Raise ProblemError 412 unless the client speaks this version of tus; it runs in the event loop."""
    if request.method == "OPTIONS":
        return
    if request.headers.get("tus-resumable") != VERSION:
        detail = f"Tus-Resumable: {VERSION} is what is spoken here"
        raise ProblemError(412, "unsupported-version", detail, headers={"Tus-Version": VERSION})
    if "x-http-method-override" in request.headers:
        # The caller's token names the method.
        raise ProblemError(400, "not-supported", "X-HTTP-Method-Override: send the method itself")


def length_of(request: Request) -> int:
    """Return how long an upload will be; raises ProblemError 400 or 422."""
    if "upload-defer-length" in request.headers:
        raise ProblemError(400, "not-supported", "Upload-Defer-Length: the length is told at the beginning")
    if "upload-concat" in request.headers:
        # A part of what is to be put together would become the whole object.
        raise ProblemError(400, "not-supported", "Upload-Concat: an object is one upload")
    length = _number(request, "Upload-Length")
    if length == 0:
        raise ProblemError(422, "invalid-request", "Upload-Length: an empty object is stored by PUT")
    return length


def offset_of(request: Request) -> int:
    """Return where bytes go on; raises ProblemError 400."""
    return _number(request, "Upload-Offset")


def require_no_body(request: Request) -> None:
    """Raise ProblemError 400 if an upload is begun with bytes: that extension is not spoken."""
    if request.headers.get("content-length", "0") != "0" or "transfer-encoding" in request.headers:
        raise ProblemError(400, "not-supported", "body: an upload is begun without bytes, send them by PATCH")


def require_body_type(request: Request) -> None:
    """Raise ProblemError 415 unless the body is bytes of an upload."""
    if request.headers.get("content-type", "").strip().lower() != BODY_TYPE:
        raise ProblemError(415, "unsupported-media-type", f"Content-Type: {BODY_TYPE}")


def metadata_of(request: Request) -> tuple[str, str, ContentCoding | None]:
    """Return Upload-Metadata as it was sent, and the media type and content coding that it names.

    What else a client would say of a file, as its name, may be about a person: it is refused, and not passed
    over, for who sends it believes that it is kept.

    Raises:
        ProblemError: 415, 422 `invalid-request`.
    """
    raw = request.headers.get("upload-metadata", "")
    named: dict[str, str] = {}
    for pair in raw.split(",") if raw else ():
        name, _, value = pair.strip(" ").partition(" ")
        if len(raw) > METADATA_CHARS_MAX or name in named or name not in {MEDIA_TYPE, CONTENT_ENCODING}:
            raise _invalid(f"once each {MEDIA_TYPE} and {CONTENT_ENCODING}, and nothing else")
        named[name] = _decoded(value)
    media_type = named.get(MEDIA_TYPE, _DEFAULT_TYPE)
    if len(media_type) > 256 or _MEDIA_TYPE.fullmatch(media_type) is None:  # as of the event's field
        raise _invalid(f"{MEDIA_TYPE} is no media type, or has a parameter that is no charset")
    coding = named.get(CONTENT_ENCODING)
    if coding is not None and coding not in CODINGS:
        detail = f"Upload-Metadata: {CONTENT_ENCODING} is one of {', '.join(CODINGS)}, or not there"
        raise ProblemError(415, "unsupported-media-type", detail)
    return raw, media_type, cast("ContentCoding | None", coding)


def checksum_of(request: Request) -> Digest | None:
    """Return the digest that the body must have, if the client names one; raises ProblemError 400."""
    raw = request.headers.get("upload-checksum")
    if raw is None:
        return None
    algorithm, _, encoded = raw.partition(" ")
    if algorithm not in ALGORITHMS:
        detail = f"Upload-Checksum: one of {', '.join(ALGORITHMS)}"
        raise ProblemError(400, "unsupported-checksum", detail)
    try:
        value = b64decode(encoded, validate=True)
    except (Base64Error, ValueError):
        value = b""
    if len(value) != hashlib.new(algorithm, usedforsecurity=False).digest_size:
        raise ProblemError(
            400, "unsupported-checksum", "Upload-Checksum: not a digest of that kind in Base64"
        )
    wrong = ProblemError(
        460, "checksum-mismatch", "Upload-Checksum: the body has another; nothing of it is kept"
    )
    return Digest(algorithm, value, wrong)


def _number(request: Request, name: str) -> int:
    raw = request.headers.get(name, "")
    if _NUMBER.fullmatch(raw) is None:
        raise ProblemError(400, "invalid-request", f"{name}: a number of bytes")
    return int(raw)


def _decoded(value: str) -> str:
    try:
        return b64decode(value, validate=True).decode("ascii")
    except (Base64Error, ValueError):
        raise _invalid("each value is ASCII in Base64") from None


def _invalid(what: str) -> ProblemError:
    return ProblemError(422, "invalid-request", f"Upload-Metadata: {what}")
