"""A request of our HTTP APIs as its caller signed it, and what may be in one that an event carries for ever.

Each request that makes an event has a form: its path, the size of its body, the names in its query. What no
form names, nobody looks at, so it could be any words about anybody, readable by all as long as the ledger is.
"""

from __future__ import annotations

from datetime import datetime
from hashlib import sha256
from typing import TypeVar
from urllib.parse import parse_qs

import msgspec

from salus.events.did import decoded_segment
from salus.events.moments import with_moments
from salus.events.requests import BODY_CHARS_MAX
from salus.ledger.json_reader import read_json

# Line breaks and indents for people, for each sign of a body's JSON outside of its strings.
BLANKS_A_SIGN_MAX = 32
# The names of the one format of FHIR; a plus that was not encoded arrives as a blank.
FHIR_FORMATS = frozenset(
    {"json", "application/json", "text/json", "application/fhir+json", "application/fhir json"}
)
_NOTHING = sha256().hexdigest()
_B = TypeVar("_B")


class Asked(msgspec.Struct, frozen=True):
    """A request as its caller signed it.

    `digest` is the SHA-256 of its body that the token names, in hex; `body` is None where it is not known.
    """

    method: str
    path: tuple[str, ...]
    query: dict[str, list[str]]
    body: bytes | None
    digest: str | None

    @classmethod
    def of(cls, *, method: str, target: str, body: bytes | None, digest: str | None) -> Asked:
        """Return the request of a method and a target in origin form: path and query."""
        # It is no URL: what `urlsplit` takes for a host or a fragment is path, as it is to HTTP servers.
        raw, _, query = target.partition("?")
        path = tuple(decoded_segment(segment) for segment in raw.split("/")[1:])
        parameters = parse_qs(query, keep_blank_values=True)
        if query and not all(query.split("&")):
            parameters.setdefault("", []).append("")
        return cls(method, path, parameters, body, digest)

    def is_(self, method: str, *path: str | None) -> bool:
        """Tell whether it is this method of this path; None stands for any segment."""
        return (
            self.method == method
            and len(self.path) == len(path)
            and all(want in (None, got) for want, got in zip(path, self.path, strict=True))
        )

    def asks(self, name: str) -> str | None:
        """Return the parameter of that name, if it is given once."""
        values = self.query.get(name, [])
        return values[0] if len(values) == 1 else None

    def read(self, kind: type[_B]) -> _B | None:
        """Return the body as this kind of value; None if it is not known or not of the kind."""
        return None if self.body is None else read_body(self.body, kind)


class Form(msgspec.Struct, frozen=True):
    """What a request may consist of.

    `body_bytes_max` is 0 where there is no body, and None where it is no command and never in an event. Of a
    body with more values than `values_max` a service reads nothing.
    """

    method: str
    path: tuple[str | None, ...]
    body_bytes_max: int | None
    query: frozenset[str] = frozenset()
    values_max: int = 512


_SMALL, _KEY, _KEYS = 1024, 8 * 1024, 128 * 1024
# A statement to an emergency is some sentences, sealed.
_STATEMENT = 32 * 1024
_OBJECT = frozenset({"patient"})
FORMS = (
    Form("POST", ("parties",), _KEYS),
    Form("POST", ("parties", None, "keys"), _KEY),
    Form("POST", ("parties", None, "keys", "revoke"), _SMALL),
    Form("POST", ("parties", None, "roles"), _KEY),
    Form("DELETE", ("parties", None, "roles", None), 0),
    Form("POST", ("shards",), BODY_CHARS_MAX, values_max=BODY_CHARS_MAX),
    Form("POST", ("consents",), 4 * 1024),
    Form("POST", ("consents", None, "revoke"), 0),
    Form("POST", ("fhir", "Consent"), None, frozenset({"_format"})),
    Form("POST", ("patients", None, "parties"), _SMALL),
    Form("DELETE", ("patients", None, "parties", None), 0),
    Form("POST", ("decisions",), _STATEMENT),
    Form("POST", ("glass-breaks", None, "review"), _SMALL),
    Form("POST", ("subjects",), _SMALL),
    Form("DELETE", ("subjects", None, "key"), _SMALL),
    Form("PUT", ("objects", None), None, _OBJECT),
    Form("POST", ("objects",), None, _OBJECT),
    Form("GET", ("objects", None), None, _OBJECT),
    Form("POST", ("sealed", "open"), None, frozenset({"patient", "source", "id", "field"})),
)


_FORMS_BY_LENGTH = {
    length: [form for form in FORMS if (form.method, len(form.path)) == length]
    for length in {(form.method, len(form.path)) for form in FORMS}
}


def form_of(asked: Asked) -> Form | None:
    """Return the form of a request; None if it is none that makes an event."""
    forms = _FORMS_BY_LENGTH.get((asked.method, len(asked.path)), ())
    return next((form for form in forms if asked.is_(form.method, *form.path)), None)


def excess_of(asked: Asked, form: Form) -> str | None:
    """Return a sentence about what is in a request and not in its form; None if there is nothing."""
    if not set(asked.query) <= form.query or any(len(values) != 1 for values in asked.query.values()):
        return "query: a name that this request does not know, or one twice"
    if asked.asks("_format") not in {None, *FHIR_FORMATS}:
        return "query: _format has a value that this request does not know"
    body = asked.body or b""
    if form.body_bytes_max is None:
        return None if asked.body is None else "body: it is not in the event of such a request"
    if not form.body_bytes_max and (body or asked.digest not in {None, _NOTHING}):
        return "body: this request has none"
    if len(body) > form.body_bytes_max:
        return f"body: this request's has at most {form.body_bytes_max} bytes"
    return "body: too many blanks" if _has_many_blanks(body) else None


def read_body(body: bytes, kind: type[_B]) -> _B | None:
    """Return a body as this kind of value, its times by the one rule for times; None if it is none."""
    try:
        return msgspec.convert(with_moments(read_json(body), kind), kind, builtin_types=(datetime,))
    except ValueError:
        return None


def _has_many_blanks(body: bytes) -> bool:
    outside = b"".join(body.replace(rb"\\", b"").replace(rb"\"", b"").split(b'"')[::2])
    signs = len(outside.translate(None, b" \t\r\n"))
    return len(outside) - signs > BLANKS_A_SIGN_MAX * signs
