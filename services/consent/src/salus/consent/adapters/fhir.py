"""FHIR R4 Consent in and out. What cannot be kept exactly is refused with its element path, never widened.

A consent of ours is one grantee, some actions and purposes, and a period that ends. In FHIR that is an
active `Consent` under `policyRule` OPTIN or OPTINR whose root provision has one actor as recipient.
Actions: consentaction `access` is read and `correct` is write. Elements that only document (text, date,
performer, source, ...) may be there and are not kept; everything else would narrow or widen and is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from salus.consent.domain.consents import Consent
from salus.events.catalogue import Action, Purpose

MEDIA_TYPE = "application/fhir+json"
URI = "urn:ietf:rfc:3986"
SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"
ACTIONS = "http://terminology.hl7.org/CodeSystem/consentaction"
PURPOSES = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
RULES = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ROLES = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
LOINC = "http://loinc.org"

_ACTION_OF: Mapping[str, Action] = {"access": "read", "correct": "write"}
_CODE_OF: Mapping[Action, str] = {action: code for code, action in _ACTION_OF.items()}
_DOCUMENTING = frozenset(
    {
        *("resourceType", "id", "meta", "language", "text", "extension", "identifier", "dateTime"),
        *("performer", "organization", "sourceAttachment", "sourceReference"),
    }
)
_PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
_MAPPED = frozenset(["status", "scope", "category", "patient", "policyRule", "provision"])
_PROVISION = frozenset(["id", "extension", "type", "period", "actor", "action", "purpose"])
_ACTOR = frozenset(["id", "extension", "role", "reference"])
_REFERENCE = frozenset(["id", "extension", "reference", "type", "identifier", "display"])
_DID = re.compile(r"did:[a-z0-9]+:[A-Za-z0-9._:%-]{1,240}")
_PSEUDONYM = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_DAY = re.compile(r"\d{4}(-\d{2}(-\d{2})?)?", re.ASCII)
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})", re.ASCII)
_CATEGORY_LOINC = "59284-0"


@dataclass(frozen=True)
class Issue:
    """What is wrong with a resource: the FHIRPath of the element, FHIR's issue code and a sentence."""

    expression: str
    code: str
    why: str


class UnmappableError(Exception):
    """The resource says what a consent of ours cannot say, or does not say what it needs."""

    def __init__(self, issues: list[Issue]) -> None:
        super().__init__(", ".join(sorted({issue.expression for issue in issues})))
        self.issues = issues


@dataclass(frozen=True)
class Terms:
    """What a FHIR Consent grants, in our terms; without a start it begins now."""

    patient: str
    grantee: str
    actions: tuple[Action, ...]
    purposes: tuple[Purpose, ...]
    valid_from: datetime | None
    valid_until: datetime


class _Reading:
    """Collects the issues of one resource, so that its author hears them all at once."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []

    def refuse(self, path: str, why: str, *, code: str = "not-supported") -> None:
        self.issues.append(Issue(path, code, why))

    def mapping(self, value: Any, path: str) -> Mapping[str, Any]:
        if isinstance(value, dict):
            return value
        self.refuse(path, "an object is expected here", code="structure" if value is not None else "required")
        return {}

    def listed(self, value: Any, path: str) -> Iterator[tuple[str, Any]]:
        if value is not None and not isinstance(value, list):
            self.refuse(path, "a list is expected here", code="structure")
            return
        yield from ((f"{path}[{index}]", element) for index, element in enumerate(value or []))

    def only(self, value: Mapping[str, Any], path: str, allowed: frozenset[str]) -> None:
        for name in value:
            # A leading underscore carries extensions of a primitive.
            if name.removeprefix("_") not in allowed:
                self.refuse(f"{path}.{name}", "this element would change what is granted and cannot be kept")

    def codes(self, value: Any, path: str, system: str) -> Iterator[str]:
        """Yield the code in `system` of each coding of a CodeableConcept; any other coding is refused."""
        concept = self.mapping(value, path)
        found = False
        for at, element in self.listed(concept.get("coding"), f"{path}.coding"):
            found = True
            coding = self.mapping(element, at)
            if coding.get("system") == system and isinstance(coding.get("code"), str):
                yield coding["code"]
            else:
                self.refuse(at, f"only codes of {system} are understood here", code="code-invalid")
        if not found:
            self.refuse(path, "a coding is needed; text alone is not understood", code="required")

    def one_code(self, value: Any, path: str, system: str, allowed: frozenset[str]) -> None:
        for code in self.codes(value, path, system):
            if code not in allowed:
                self.refuse(path, f"only {', '.join(sorted(allowed))} can be kept")


def parse(resource: Any) -> Terms:
    """Return what an R4 Consent grants.

    Raises:
        UnmappableError: with every issue that was found.
    """
    reading = _Reading()
    consent = reading.mapping(resource, "Consent")
    if consent.get("resourceType") != "Consent":
        reading.refuse("Consent.resourceType", "a Consent is expected", code="invalid")
        raise UnmappableError(reading.issues)
    reading.only(consent, "Consent", _DOCUMENTING | _MAPPED)
    if consent.get("status") != "active":
        reading.refuse("Consent.status", "only an active consent is granted")
    reading.one_code(
        consent.get("scope"), "Consent.scope", SCOPES, frozenset({"patient-privacy", "research"})
    )
    _categories(reading, consent.get("category"))
    reading.one_code(consent.get("policyRule"), "Consent.policyRule", RULES, frozenset({"OPTIN", "OPTINR"}))
    patient = _reference(
        reading, consent.get("patient"), "Consent.patient", _PSEUDONYM, "a pseudonym urn:uuid:…"
    )
    provision = reading.mapping(consent.get("provision"), "Consent.provision")
    terms = _provision(reading, provision, patient=patient)
    if reading.issues or terms is None:
        raise UnmappableError(reading.issues)
    return terms


def _categories(reading: _Reading, value: Any) -> None:
    found = False
    for path, category in reading.listed(value, "Consent.category"):
        found = True
        reading.one_code(category, path, LOINC, frozenset({_CATEGORY_LOINC}))
    if not found:
        reading.refuse("Consent.category", "a category is needed", code="required")


def _provision(reading: _Reading, provision: Mapping[str, Any], *, patient: str) -> Terms | None:
    path = "Consent.provision"
    reading.only(provision, path, _PROVISION)
    if provision.get("type", "permit") != "permit":
        reading.refuse(f"{path}.type", "a prohibition cannot be kept as a consent")
    grantee = _grantee(reading, provision.get("actor"))
    actions = [
        (at, code)
        for at, element in reading.listed(provision.get("action"), f"{path}.action")
        for code in reading.codes(element, at, ACTIONS)
    ]
    for at, code in actions:
        if code not in _ACTION_OF:
            reading.refuse(at, f"only {', '.join(sorted(_ACTION_OF))} can be kept")
    purposes = list(_purposes(reading, provision.get("purpose")))
    valid_from, valid_until = _period(reading, provision.get("period"))
    for name, value in (("action", actions), ("purpose", purposes)):
        if not value:
            reading.refuse(
                f"{path}.{name}", "none would mean any; name those that are meant", code="required"
            )
    if reading.issues or valid_until is None:
        return None
    return Terms(
        patient=patient,
        grantee=grantee,
        actions=tuple(sorted({_ACTION_OF[code] for _, code in actions})),
        purposes=tuple(sorted(set(purposes))),
        valid_from=valid_from,
        valid_until=valid_until,
    )


def _grantee(reading: _Reading, value: Any) -> str:
    path = "Consent.provision.actor"
    actors = list(reading.listed(value, path))
    if len(actors) != 1:
        reading.refuse(path, "exactly one actor can be kept; none would mean anybody", code="required")
        return ""
    at, element = actors[0]
    actor = reading.mapping(element, at)
    reading.only(actor, at, _ACTOR)
    reading.one_code(actor.get("role"), f"{at}.role", ROLES, frozenset({"PRCP", "IRCP"}))
    return _reference(reading, actor.get("reference"), f"{at}.reference", _DID, "a DID")


def _purposes(reading: _Reading, value: Any) -> Iterator[Purpose]:
    for at, element in reading.listed(value, "Consent.provision.purpose"):
        coding = reading.mapping(element, at)
        known = [purpose for purpose in _PURPOSES if purpose == coding.get("code")]
        if coding.get("system") == PURPOSES and known:
            yield known[0]
        else:
            reading.refuse(at, f"only {', '.join(_PURPOSES)} of {PURPOSES} can be kept", code="code-invalid")


def _reference(reading: _Reading, value: Any, path: str, pattern: re.Pattern[str], expected: str) -> str:
    """Return the URI that a reference names, as its logical identifier or as an absolute reference."""
    reference = reading.mapping(value, path)
    reading.only(reference, path, _REFERENCE)
    named: list[str] = []
    if reference.get("identifier") is not None:
        identifier = reading.mapping(reference["identifier"], f"{path}.identifier")
        if identifier.get("system") == URI and isinstance(identifier.get("value"), str):
            named.append(identifier["value"])
        else:
            reading.refuse(f"{path}.identifier", f"the identifier's system must be {URI}", code="value")
    if isinstance(reference.get("reference"), str):
        named.append(reference["reference"])
    if len(set(named)) != 1 or pattern.fullmatch(named[0]) is None:
        reading.refuse(path, f"{expected} is expected, and one only", code="value")
        return ""
    return named[0]


def _period(reading: _Reading, value: Any) -> tuple[datetime | None, datetime | None]:
    path = "Consent.provision.period"
    period = reading.mapping(value, path)
    reading.only(period, path, frozenset({"id", "extension", "start", "end"}))
    start, end = period.get("start"), period.get("end")
    if end is None:
        reading.refuse(f"{path}.end", "a consent has an end here", code="required")
    return (
        None if start is None else _moment(reading, start, f"{path}.start", last=False),
        None if end is None else _moment(reading, end, f"{path}.end", last=True),
    )


def _moment(reading: _Reading, value: Any, path: str, *, last: bool) -> datetime | None:
    """Return the first moment of a FHIR dateTime; with `last`, the moment after its day, month or year."""
    try:
        if _DAY.fullmatch(value):
            year, month, day = ([int(part) for part in value.split("-")] + [0, 0])[:3]
            first = datetime(year, month or 1, day or 1, tzinfo=UTC)
            return _after(first, month=month, day=day) if last else first
        if _TIME.fullmatch(value):
            return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        pass
    reading.refuse(path, "a FHIR dateTime is expected, with its zone if it has a time", code="value")
    return None


def _after(first: datetime, *, month: int, day: int) -> datetime:
    if day:
        return first + timedelta(days=1)
    if month and month < 12:
        return first.replace(month=month + 1)
    return first.replace(year=first.year + 1, month=1)


def render(consent: Consent, *, patient: str) -> dict[str, Any]:
    """Return the R4 Consent; a revoked one is `inactive`. `parse` reads it back to the same terms."""
    return {
        "resourceType": "Consent",
        "id": consent.id,
        "status": "active" if consent.revoked_epoch is None else "inactive",
        "scope": _concept(SCOPES, "patient-privacy"),
        "category": [_concept(LOINC, _CATEGORY_LOINC)],
        "patient": _logical(patient),
        "policyRule": _concept(RULES, "OPTINR"),
        "provision": {
            "type": "permit",
            "period": {"start": _instant(consent.valid_from), "end": _instant(consent.valid_until)},
            "actor": [{"role": _concept(ROLES, "IRCP"), "reference": _logical(consent.grantee)}],
            "action": [_concept(ACTIONS, _CODE_OF[action]) for action in consent.actions],
            "purpose": [{"system": PURPOSES, "code": purpose} for purpose in consent.purposes],
        },
    }


def operation_outcome(issues: list[Issue]) -> dict[str, Any]:
    """Return the OperationOutcome that tells a client everything that was wrong."""
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": "error",
                "code": issue.code,
                "diagnostics": issue.why,
                "expression": [issue.expression],
            }
            for issue in issues
        ],
    }


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _logical(uri: str) -> dict[str, Any]:
    return {"identifier": {"system": URI, "value": uri}}


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
