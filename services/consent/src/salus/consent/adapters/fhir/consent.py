"""FHIR R4 Consent in and out. What cannot be kept exactly is refused with its element path, never widened.

A consent of ours is one grantee, some actions and purposes, and a period that ends. In FHIR that is an
active `Consent` under `policyRule` OPTIN or OPTINR whose root provision has one actor as recipient.
Actions: consentaction `access` is read and `correct` is write. `elements` says what else may be there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from salus.access.state import Consent
from salus.consent.adapters.fhir.elements import Issue, Issues, TooManyIssuesError, kept_of
from salus.events.contexts.consent import Action
from salus.events.contexts.identity import PartyKind
from salus.events.fields import Purpose
from salus.ledger.times import read_time
from salus.runtime.fields import DID_PATTERN, PSEUDONYM_PATTERN

URI = "urn:ietf:rfc:3986"
SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"
ACTIONS = "http://terminology.hl7.org/CodeSystem/consentaction"
PURPOSES = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
RULES = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ROLES = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
LOINC = "http://loinc.org"
PRIVACY, RESEARCH = "patient-privacy", "research"
RESEARCH_PURPOSES: frozenset[Purpose] = frozenset({"HRESCH"})

_ACTION_OF: Mapping[str, Action] = {"access": "read", "correct": "write"}
_CODE_OF: Mapping[Action, str] = {action: code for code, action in _ACTION_OF.items()}
_PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
_USES = frozenset({"usual", "official", "secondary"})
# What a reference's type says of the grantee. An organisation's DID that is called a practitioner would
# grant to all of its people what was meant for one.
_KIND_OF: Mapping[str, PartyKind] = {
    "Device": "device",
    "Organization": "member",
    "Patient": "person",
    "Practitioner": "person",
    "PractitionerRole": "person",
    "RelatedPerson": "person",
}
_DID, _PSEUDONYM = re.compile(DID_PATTERN), re.compile(PSEUDONYM_PATTERN)
_URI_CHARS_MAX = 256
_CATEGORY_LOINC = "59284-0"


class UnmappableError(Exception):
    """The resource says what a consent of ours cannot say, or does not say what it needs."""

    def __init__(self, issues: Sequence[Issue]) -> None:
        super().__init__(", ".join(sorted({issue.expression for issue in issues})))
        self.issues = issues


@dataclass(frozen=True)
class Identifier:
    """A business identifier: it may be personal, so it goes nowhere but through `IdentifierMarks`."""

    system: str
    value: str


@dataclass(frozen=True)
class Terms:
    """What a FHIR Consent grants, in our terms; without a start it begins now."""

    patient: str
    grantee: str
    actions: tuple[Action, ...]
    purposes: tuple[Purpose, ...]
    valid_from: datetime | None
    valid_until: datetime
    identifier: Identifier | None = None
    grantee_kind: PartyKind | None = None


Kept = Mapping[str, Any]


class _Mapping:
    """Reads what is kept of a resource, and adds to the issues that were found before."""

    def __init__(self, issues: Issues) -> None:
        self.refuse = issues.refuse

    def code(self, concept: Kept, path: str, system: str, allowed: Sequence[str]) -> str:
        """Return the one code of a CodeableConcept: its codings are synonyms, and none is passed over."""
        found = set()
        for index, coding in enumerate(concept.get("coding", ())):
            if coding.get("system") != system or "code" not in coding:
                at = f"{path}.coding[{index}]"
                self.refuse(at, f"only codes of {system} are understood here", code="code-invalid")
            elif coding["code"] not in allowed:
                self.refuse(path, f"only {', '.join(allowed)} can be kept")
            else:
                found.add(coding["code"])
        if "coding" not in concept:
            self.refuse(path, "a coding is needed; text alone is not understood", code="required")
        if len(found) > 1:
            self.refuse(path, "the codings of one concept are synonyms, and these are different things")
        return found.pop() if len(found) == 1 else ""


def parse(resource: Any) -> Terms:
    """Return what an R4 Consent grants.

    Raises:
        UnmappableError: with every issue that was found, or the first ISSUES_MAX.
    """
    if not isinstance(resource, dict) or resource.get("resourceType") != "Consent":
        raise UnmappableError([Issue("Consent.resourceType", "invalid", "a Consent is expected")])
    issues = Issues()
    try:
        terms = _read(resource, issues)
    except TooManyIssuesError:
        raise UnmappableError(issues) from None
    if issues or terms is None:
        raise UnmappableError(issues)
    return terms


def _read(resource: Mapping[str, Any], issues: Issues) -> Terms | None:
    consent = kept_of(resource, issues)
    reading = _Mapping(issues)
    if _status_of_text(resource) == "additional":
        reading.refuse("Consent.text.status", "what only the narrative says cannot be kept")
    if consent.get("status") != "active":
        reading.refuse("Consent.status", "only an active consent is granted")
    identifier = _own_identifier(reading, consent.get("identifier", ()))
    scope = reading.code(consent.get("scope", {}), "Consent.scope", SCOPES, (PRIVACY, RESEARCH))
    for index, category in enumerate(consent.get("category", ())):
        reading.code(category, f"Consent.category[{index}]", LOINC, (_CATEGORY_LOINC,))
    if "category" not in consent:
        reading.refuse("Consent.category", "a category is needed", code="required")
    reading.code(consent.get("policyRule", {}), "Consent.policyRule", RULES, ("OPTIN", "OPTINR"))
    patient = _uri(reading, consent.get("patient", {}), "Consent.patient", _PSEUDONYM, frozenset({"Patient"}))
    provision = _provision(reading, consent.get("provision"))
    return _terms(reading, provision, patient=patient, scope=scope, identifier=identifier)


def _status_of_text(resource: Mapping[str, Any]) -> Any:
    text = resource.get("text")
    return text.get("status") if isinstance(text, dict) else None


@dataclass(frozen=True)
class _Provision:
    grantee: str
    grantee_kind: PartyKind | None
    actions: tuple[Action, ...]
    purposes: tuple[Purpose, ...]
    valid_from: datetime | None
    valid_until: datetime | None


def _terms(
    reading: _Mapping, provision: _Provision, *, patient: str, scope: str, identifier: Identifier | None
) -> Terms | None:
    if scope and provision.purposes and scope != scope_of(provision.purposes):
        why = f"the scope {RESEARCH} goes with the purpose HRESCH alone, and only that scope goes with it"
        reading.refuse("Consent.scope", why)
    if provision.valid_until is None:
        return None
    return Terms(
        patient=patient,
        grantee=provision.grantee,
        actions=provision.actions,
        purposes=provision.purposes,
        valid_from=provision.valid_from,
        valid_until=provision.valid_until,
        identifier=identifier,
        grantee_kind=provision.grantee_kind,
    )


def scope_of(purposes: Sequence[Purpose]) -> str:
    """Return the scope that a consent with these purposes has."""
    return RESEARCH if RESEARCH_PURPOSES.issuperset(purposes) else PRIVACY


def _own_identifier(reading: _Mapping, identifiers: Sequence[Kept]) -> Identifier | None:
    path = "Consent.identifier"
    if len(identifiers) > 1:
        reading.refuse(path, "one identifier can be kept; the consent could not be found by the others")
    if not identifiers:
        return None
    identifier = identifiers[0]
    _require_use(reading, identifier, f"{path}[0]")
    if not {"system", "value"} <= set(identifier):
        reading.refuse(f"{path}[0]", "an identifier has a system and a value here", code="required")
        return None
    return Identifier(identifier["system"], identifier["value"])


def _require_use(reading: _Mapping, identifier: Kept, path: str) -> None:
    if identifier.get("use", "usual") not in _USES:
        reading.refuse(f"{path}.use", f"only {', '.join(sorted(_USES))} identifiers are in use")


def _provision(reading: _Mapping, kept: Kept | None) -> _Provision:
    path = "Consent.provision"
    if kept is None:
        reading.refuse(path, "a provision is needed", code="required")
    provision = kept or {}
    if provision.get("type", "permit") != "permit":
        reading.refuse(f"{path}.type", "a prohibition cannot be kept as a consent")
    actions = {
        reading.code(concept, f"{path}.action[{index}]", ACTIONS, tuple(_ACTION_OF))
        for index, concept in enumerate(provision.get("action", ()))
    }
    purposes = set(_purposes(reading, provision.get("purpose", ())))
    for name, value in (("action", actions), ("purpose", purposes)):
        if not value:
            reading.refuse(
                f"{path}.{name}", "none would mean any; name those that are meant", code="required"
            )
    grantee, kind = _grantee(reading, provision.get("actor", ()))
    valid_from, valid_until = _period(reading, provision.get("period"))
    known = (_ACTION_OF[code] for code in actions if code)
    granted = tuple(sorted(known)), tuple(sorted(purposes))
    return _Provision(grantee, kind, *granted, valid_from, valid_until)


def _grantee(reading: _Mapping, actors: Sequence[Kept]) -> tuple[str, PartyKind | None]:
    path = "Consent.provision.actor"
    if len(actors) != 1:
        reading.refuse(path, "exactly one actor can be kept; none would mean anybody", code="required")
        return "", None
    reading.code(actors[0].get("role", {}), f"{path}[0].role", ROLES, ("IRCP", "PRCP"))
    reference = actors[0].get("reference", {})
    uri = _uri(reading, reference, f"{path}[0].reference", _DID, frozenset(_KIND_OF))
    return uri, _KIND_OF.get(reference.get("type", ""))


def _purposes(reading: _Mapping, codings: Sequence[Kept]) -> Iterator[Purpose]:
    for index, coding in enumerate(codings):
        known = [purpose for purpose in _PURPOSES if purpose == coding.get("code")]
        if coding.get("system") == PURPOSES and known:
            yield known[0]
        else:
            why = f"only {', '.join(_PURPOSES)} of {PURPOSES} can be kept"
            reading.refuse(f"Consent.provision.purpose[{index}]", why, code="code-invalid")


def _uri(reading: _Mapping, reference: Kept, path: str, form: re.Pattern[str], types: frozenset[str]) -> str:
    """Return the URI that a reference names, as its logical identifier or as an absolute reference."""
    named: set[str] = set()
    if (identifier := reference.get("identifier")) is not None:
        _require_use(reading, identifier, f"{path}.identifier")
        if identifier.get("system") == URI and "value" in identifier:
            named.add(identifier["value"])
        else:
            reading.refuse(f"{path}.identifier", f"the identifier's system must be {URI}", code="value")
    if "reference" in reference:
        named.add(reference["reference"])
    if reference.get("type", min(types)) not in types:
        reading.refuse(f"{path}.type", f"only {', '.join(sorted(types))} is understood here", code="value")
    uri = min(named, default="")
    if len(named) != 1 or len(uri) > _URI_CHARS_MAX or form.fullmatch(uri) is None:
        expected = "a pseudonym urn:uuid:…" if form is _PSEUDONYM else "a DID"
        reading.refuse(path, f"{expected} is expected, and one only", code="value")
        return ""
    return uri


def _period(reading: _Mapping, period: Kept | None) -> tuple[datetime | None, datetime | None]:
    path = "Consent.provision.period"
    if period is None:
        reading.refuse(path, "a period is needed", code="required")
        return None, None
    start, end = period.get("start"), period.get("end")
    if end is None:
        reading.refuse(f"{path}.end", "a consent has an end here", code="required")
    return (
        None if start is None else _moment(reading, start, f"{path}.start", last=False),
        None if end is None else _moment(reading, end, f"{path}.end", last=True),
    )


def _moment(reading: _Mapping, value: str, path: str, *, last: bool) -> datetime | None:
    """Return the first moment of a FHIR dateTime; with `last`, the moment after its day, month or year."""
    try:
        if "T" in value:
            return read_time(value)
        year, month, day = ([int(part) for part in value.split("-")] + [0, 0])[:3]
        first = read_time(f"{year:04}-{month or 1:02}-{day or 1:02}T00:00:00Z")
    except ValueError as error:
        reading.refuse(path, str(error), code="value")
        return None
    return _after(first, month=month, day=day) if last else first


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
        "scope": _concept(SCOPES, scope_of(consent.purposes)),
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


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _logical(uri: str) -> dict[str, Any]:
    return {"identifier": {"system": URI, "value": uri}}


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
