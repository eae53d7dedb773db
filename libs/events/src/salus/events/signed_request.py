"""A request of our HTTP APIs as its caller signed it, and what may be in one that an event carries for ever.

Each request that makes an event has a form: its path, the size of its body, the names in its query. What no
form names, nobody looks at, so it could be any words about anybody, readable by all as long as the ledger is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec

from salus.events.canonical_json import read_canonical
from salus.events.did import decoded_segment
from salus.events.moments import with_moments
from salus.ledger.json_reader import read_json

# Line breaks and indents for people, for each sign of a body's JSON outside of its strings.
BLANKS_A_SIGN_MAX = 32
# Values in the body of a request that says nothing else.
VALUES_MAX = 512
# The names of the one format of FHIR; a plus that was not encoded arrives as a blank.
FHIR_PRETTY = frozenset({"true", "false"})
FHIR_FORMATS = frozenset(
    {"json", "application/json", "text/json", "application/fhir+json", "application/fhir json"}
)
# What R4 lets a media type say, with the only values here: other words would be on the ledger unread.
_FHIR_PARAMETERS = frozenset({"charset=utf-8", 'charset="utf-8"', "fhirversion=4.0"})
_NOTHING = sha256().hexdigest()
_B = TypeVar("_B")
_ENCODER = msgspec.json.Encoder()


class Asked(msgspec.Struct, frozen=True):
    """A request as its caller signed it.

    `digest` is the SHA-256 of its body that the token names, in hex; `body` is None where it is not known.
    """

    method: str
    path: tuple[str, ...]
    query: Mapping[str, list[str]]
    body: bytes | None
    digest: str | None

    @classmethod
    def of(cls, *, method: str, target: str, body: bytes | None, digest: str | None) -> Asked:
        """Return the request of a method and a target in origin form: path and query."""
        return cls(method, *_read_target(target), body, digest)

    def is_(self, method: str, *path: str | None) -> bool:
        """Tell whether it is this method of this path; None stands for any segment."""
        if self.method != method or len(self.path) != len(path):
            return False
        # Most forms have no place for any segment.
        return self.path == path or (
            None in path and all(want in (None, got) for want, got in zip(path, self.path, strict=True))
        )

    def asks(self, name: str) -> str | None:
        """Return the parameter of that name, if it is given once."""
        values = self.query.get(name, [])
        return values[0] if len(values) == 1 else None

    def is_written_as(self, body: Body) -> bool:
        """Tell whether the body is known, and what our encoder writes of this: as most are.

        It says this and nothing else then, and need not be read.
        """
        return self.body == _ENCODER.encode(body)

    def read(self, kind: type[_B]) -> _B | None:
        """Return the body as this kind of value; None if it is not known or not of the kind."""
        return None if self.body is None else read_body(self.body, kind)


# Most requests of a kind have the same target, which is read when they come and when their event is judged.
@lru_cache(maxsize=1024)
def _read_target(target: str) -> tuple[tuple[str, ...], Mapping[str, list[str]]]:
    # It is no URL: what `urlsplit` takes for a host or a fragment is path, as it is to HTTP servers.
    raw, _, query = target.partition("?")
    path = tuple(decoded_segment(segment) for segment in raw.split("/")[1:])
    parameters = parse_qs(query, keep_blank_values=True)
    if query and not all(query.split("&")):
        parameters.setdefault("", []).append("")
    return path, parameters


class Body(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Base of what commands are made of; a member that none of them has would be on the ledger unread."""


class Form(msgspec.Struct, frozen=True):
    """What a request may consist of.

    `body_bytes_max` is 0 where there is no body, and None where it is no command and never in an event. Of a
    body with more values than `values_max` a service reads nothing.
    """

    method: str
    path: tuple[str | None, ...]
    body_bytes_max: int | None
    query: frozenset[str] = frozenset()
    values_max: int = VALUES_MAX


Asks = Callable[[Asked, Any], bool]
"""Whether a request asks for data of a class; a context has one for each class that is asked for."""


def is_fhir_json(format_: str) -> bool:
    """Tell whether FHIR's `_format` asks for R4 as JSON in UTF-8: by a short name or a media type.

    The type may have each of its parameters once, and one blank before it.
    """
    name, *parameters = format_.lower().split(";")
    said = [parameter.removeprefix(" ") for parameter in parameters]
    names = {parameter.partition("=")[0] for parameter in said}
    return name in FHIR_FORMATS and set(said) <= _FHIR_PARAMETERS and len(names) == len(said)


def excess_of(asked: Asked, form: Form) -> str | None:
    """Return a sentence about what is in a request and not in its form; None if there is nothing."""
    if asked.query and (excess := _excess_in_query(asked, form)) is not None:
        return excess
    body = asked.body or b""
    if form.body_bytes_max is None:
        return None if asked.body is None else "body: it is not in the event of such a request"
    if not form.body_bytes_max and (body or asked.digest not in {None, _NOTHING}):
        return "body: this request has none"
    if len(body) > form.body_bytes_max:
        return f"body: this request's has at most {form.body_bytes_max} bytes"
    return "body: too many blanks" if _has_many_blanks(body) else None


def _excess_in_query(asked: Asked, form: Form) -> str | None:
    if not set(asked.query) <= form.query or any(len(values) != 1 for values in asked.query.values()):
        return "query: a name that this request does not know, or one twice"
    if not is_fhir_json(asked.asks("_format") or "json") or asked.asks("_pretty") not in {None, *FHIR_PRETTY}:
        return "query: _format or _pretty has a value that this request does not know"
    return None


def read_body(body: bytes, kind: type[_B]) -> _B | None:
    """Return a body as this kind of value, its times by the one rule for times; None if it is none."""
    if (read := read_canonical(body, kind)) is not None:
        return read
    try:
        return msgspec.convert(with_moments(read_json(body), kind), kind, builtin_types=(datetime,))
    except ValueError:
        return None


def _has_many_blanks(body: bytes) -> bool:
    if len(body.translate(None, b" \t\r\n")) == len(body):
        return False
    outside = b"".join(body.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
    signs = len(outside.translate(None, b" \t\r\n"))
    return len(outside) - signs > BLANKS_A_SIGN_MAX * signs
