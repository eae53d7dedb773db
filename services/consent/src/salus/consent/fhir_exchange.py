"""What a FHIR client's headers and query ask for: honoured or refused, and never passed over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl

from fastapi import Request

from salus.consent.adapters.fhir.consent import Identifier
from salus.consent.adapters.fhir.provisions import URI
from salus.events.signed_request import FHIR_PRETTY, is_fhir_json
from salus.runtime.fields import PSEUDONYM_PATTERN
from salus.runtime.negotiation import MediaRange, media_range
from salus.runtime.problems import ProblemError

JSON_TYPES = frozenset({"application/fhir+json", "application/json", "text/json"})
# What every interaction takes; the rest of a query says what is searched.
_OF_ALL = frozenset({"_format", "_pretty"})
_RANGES = JSON_TYPES | {"*/*", "application/*"}
_PARAMETERS_MAX = 16
_RETURNS: Mapping[str, Literal["minimal", "representation", "OperationOutcome"]] = {
    "minimal": "minimal",
    "representation": "representation",
    "OperationOutcome": "OperationOutcome",
}


async def require_json_exchange(request: Request) -> None:
    """Refuse what asks for another format, or for what there is not, as versions and provenance."""
    _require_acceptable(request)
    if request.query_params.get("_pretty", "false") not in FHIR_PRETTY:
        raise ProblemError(400, "not-supported", "_pretty: it is true or false")
    if request.method in {"POST", "PUT", "PATCH"}:
        _require_fhir_json(request.headers.get("content-type", ""))
    if "X-Provenance" in request.headers:
        raise ProblemError(400, "not-supported", "X-Provenance: no Provenance is kept beside a Consent")


def _require_acceptable(request: Request) -> None:
    asked = request.query_params.get("_format")
    if asked is not None:
        if not is_fhir_json(asked):
            raise ProblemError(406, "not-acceptable", "_format: only application/fhir+json is spoken here")
        return
    accept = request.headers.get("accept", "*/*")
    if not any(_is_ours(part) for part in accept.split(",")):
        raise ProblemError(406, "not-acceptable", "Accept: only application/fhir+json is spoken here")


def _is_ours(element: str) -> bool:
    asked = media_range(element)
    return asked is not None and asked.is_wanted and asked.type in _RANGES and _is_r4(asked)


def _require_fhir_json(content_type: str) -> None:
    sent = media_range(content_type)
    is_ours = sent is not None and sent.type in JSON_TYPES and _is_r4(sent)
    if sent is None or not is_ours or sent.parameters.get("charset", "utf-8").lower() != "utf-8":
        raise ProblemError(415, "unsupported-media-type", "send R4 as application/fhir+json, in UTF-8")


def _is_r4(media: MediaRange) -> bool:
    return media.parameters.get("fhirversion", "4.0") == "4.0"


def preferred_return(request: Request) -> Literal["minimal", "representation", "OperationOutcome"]:
    """Return what a create answers with (RFC 7240 lets the other preferences be passed over)."""
    for preference in request.headers.get("prefer", "").replace(";", ",").split(","):
        name, _, value = preference.strip().partition("=")
        if name == "return" and value in _RETURNS:
            return _RETURNS[value]
    return "representation"


@dataclass(frozen=True)
class Search:
    """Whose consents are asked for, and which of them."""

    patient: str
    identifier: Identifier | None = None
    status: str | None = None


def read_search(query: str) -> Search:
    """Return what a search asks for.

    Raises:
        ProblemError: 400, if it asks for more than can be told, or for nobody's consents.
    """
    given = _parameters(query)
    patient = given.pop("patient", None) or given.pop("patient:identifier", "")
    patient = patient.removeprefix(f"{URI}|")
    identifier, status = given.pop("identifier", None), given.pop("status", None)
    if given:
        raise ProblemError(400, "not-supported", "only patient, identifier and status are searched by")
    if re.fullmatch(PSEUDONYM_PATTERN, patient) is None:
        raise ProblemError(400, "required", "patient: whose consents, as urn:uuid:…")
    return Search(patient, None if identifier is None else _identifier(identifier), status)


def read_condition(header: str) -> Identifier:
    """Return the identifier of an If-None-Exist; raises ProblemError 412 if the condition cannot be told."""
    try:
        given = _parameters(header.removeprefix("?"))
        if set(given) == {"identifier"}:
            return _identifier(given["identifier"])
    except ProblemError:
        pass
    detail = "If-None-Exist: only identifier=system|value can be told; nothing was created"
    raise ProblemError(412, "condition-not-supported", detail)


def _parameters(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=_PARAMETERS_MAX)
    except ValueError:
        raise ProblemError(400, "not-supported", f"more than {_PARAMETERS_MAX} parameters") from None
    given = {name: value for name, value in pairs if name not in _OF_ALL}
    if len(given) != sum(name not in _OF_ALL for name, _ in pairs):
        raise ProblemError(400, "not-supported", "a parameter is given twice")
    return given


def _identifier(token: str) -> Identifier:
    system, bar, value = token.partition("|")
    # A comma would mean `or`, and a backslash escapes one.
    if not bar or not system or not value or {",", "\\", "|"} & set(value) or "," in system:
        raise ProblemError(400, "not-supported", "identifier: one system|value")
    return Identifier(system, value)
