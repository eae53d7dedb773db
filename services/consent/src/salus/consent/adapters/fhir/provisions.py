"""The root provision of a FHIR Consent in our terms, and the codes and references that it is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, get_args

from salus.consent.adapters.fhir.elements import Issues
from salus.events.contexts.consent import Action
from salus.events.contexts.identity import PartyKind
from salus.events.fields import Purpose
from salus.events.recipients import RecipientRole
from salus.ledger.times import read_time
from salus.runtime.fields import DID_PATTERN

URI = "urn:ietf:rfc:3986"
ACTIONS = "http://terminology.hl7.org/CodeSystem/consentaction"
PURPOSES = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
ROLES = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"

_ACTION_OF: Mapping[str, Action] = {"access": "read", "correct": "write"}
CODE_OF: Mapping[Action, str] = {action: code for code, action in _ACTION_OF.items()}
_PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
# The codes are the names of our roles: HL7's practitioner-role has no clinician.
RECIPIENT_ROLES = "urn:salus:role"
_ROLES: tuple[RecipientRole, ...] = get_args(RecipientRole)
CONTAINED = "PractitionerRole"
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
_DID = re.compile(DID_PATTERN)
_URI_CHARS_MAX = 256
Kept = Mapping[str, Any]


class Reading:
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

    def uri(self, reference: Kept, path: str, form: re.Pattern[str], types: frozenset[str]) -> str:
        """Return the URI that a reference names, as its logical identifier or as an absolute reference."""
        named: set[str] = set()
        if (identifier := reference.get("identifier")) is not None:
            self.require_use(identifier, f"{path}.identifier")
            if identifier.get("system") == URI and "value" in identifier:
                named.add(identifier["value"])
            else:
                self.refuse(f"{path}.identifier", f"the identifier's system must be {URI}", code="value")
        if "reference" in reference:
            named.add(reference["reference"])
        if reference.get("type", min(types)) not in types:
            self.refuse(f"{path}.type", f"only {', '.join(sorted(types))} is understood here", code="value")
        uri = min(named, default="")
        if len(named) != 1 or len(uri) > _URI_CHARS_MAX or form.fullmatch(uri) is None:
            expected = "a DID" if form is _DID else "a pseudonym urn:uuid:…"
            self.refuse(path, f"{expected} is expected, and one only", code="value")
            return ""
        return uri

    def require_use(self, identifier: Kept, path: str) -> None:
        """Add an issue unless an identifier is in use."""
        if identifier.get("use", "usual") not in _USES:
            self.refuse(f"{path}.use", f"only {', '.join(sorted(_USES))} identifiers are in use")


@dataclass(frozen=True)
class Provision:
    """What a provision permits or denies. A denial may lack each of them: then it is about any."""

    denies: bool
    grantee: str | None
    grantee_kind: PartyKind | None
    role: RecipientRole | None
    actions: tuple[Action, ...]
    purposes: tuple[Purpose, ...]
    valid_from: datetime | None
    valid_until: datetime | None


def read_provision(reading: Reading, kept: Kept | None, contained: Sequence[Kept]) -> Provision:
    """Return the root provision; what it lacks or says beyond is added to the issues.

    `contained` is what its actor may refer to within the Consent.
    """
    path = "Consent.provision"
    if kept is None:
        reading.refuse(path, "a provision is needed", code="required")
    provision = kept or {}
    denies = provision.get("type") == "deny"
    if not denies and provision.get("type", "permit") != "permit":
        reading.refuse(f"{path}.type", "a provision permits or denies", code="code-invalid")
    actions = {
        reading.code(concept, f"{path}.action[{index}]", ACTIONS, tuple(_ACTION_OF))
        for index, concept in enumerate(provision.get("action", ()))
    }
    purposes = set(_purposes(reading, provision.get("purpose", ())))
    for name, value in (("action", actions), ("purpose", purposes)):
        if not value and not denies:
            reading.refuse(
                f"{path}.{name}", "none would mean any; name those that are meant", code="required"
            )
    actors = provision.get("actor", ())
    grantee, kind, role = _recipient(reading, actors, contained, denies=denies)
    valid_from, valid_until = _period(reading, provision.get("period"), denies=denies)
    known = (_ACTION_OF[code] for code in actions if code)
    about = tuple(sorted(known)), tuple(sorted(purposes))
    return Provision(denies, grantee, kind, role, *about, valid_from, valid_until)


_Recipient = tuple[str | None, PartyKind | None, RecipientRole | None]


def _recipient(
    reading: Reading, actors: Sequence[Kept], contained: Sequence[Kept], *, denies: bool
) -> _Recipient:
    path = "Consent.provision.actor"
    reference = actors[0].get("reference", {}) if len(actors) == 1 else {}
    named = reference.get("reference", "")
    within = [one for one in contained if "id" in one and named == f"#{one['id']}"]
    if contained and (len(contained) != 1 or not within):
        why = "one role at an organisation can be kept, and the actor has to refer to it"
        reading.refuse("Consent.contained", why)
    if denies and not actors:
        return None, None, None
    if len(actors) != 1:
        reading.refuse(path, "exactly one actor can be kept; none would mean anybody", code="required")
        return "", None, None
    reading.code(actors[0].get("role", {}), f"{path}[0].role", ROLES, ("IRCP", "PRCP"))
    if within:
        return _role_within(reading, reference, within[0], path=f"{path}[0].reference")
    uri = reading.uri(reference, f"{path}[0].reference", _DID, frozenset(_KIND_OF))
    return uri, _KIND_OF.get(reference.get("type", "")), None


def _role_within(reading: Reading, reference: Kept, role: Kept, *, path: str) -> _Recipient:
    """Return the role at a member that a reference within the Consent is to."""
    if reference.get("type", CONTAINED) != CONTAINED:
        reading.refuse(f"{path}.type", f"only {CONTAINED} is understood here", code="value")
    if "identifier" in reference:
        reading.refuse(f"{path}.identifier", "who is referred to within the Consent has no other name")
    at = "Consent.contained[0]"
    types = frozenset({"Organization"})
    member = reading.uri(role.get("organization", {}), f"{at}.organization", _DID, types)
    codes = role.get("code", ())
    if len(codes) != 1:
        reading.refuse(f"{at}.code", "exactly one role can be kept; none would mean any", code="required")
        return member, None, None
    found = reading.code(codes[0], f"{at}.code[0]", RECIPIENT_ROLES, _ROLES)
    return member, None, next((known for known in _ROLES if known == found), None)


def _purposes(reading: Reading, codings: Sequence[Kept]) -> Iterator[Purpose]:
    for index, coding in enumerate(codings):
        known = [purpose for purpose in _PURPOSES if purpose == coding.get("code")]
        if coding.get("system") == PURPOSES and known:
            yield known[0]
        else:
            why = f"only {', '.join(_PURPOSES)} of {PURPOSES} can be kept"
            reading.refuse(f"Consent.provision.purpose[{index}]", why, code="code-invalid")


def _period(
    reading: Reading, period: Kept | None, *, denies: bool
) -> tuple[datetime | None, datetime | None]:
    path = "Consent.provision.period"
    if period is None:
        if denies:
            return None, None
        reading.refuse(path, "a period is needed", code="required")
        return None, None
    start, end = period.get("start"), period.get("end")
    if end is None and not denies:
        reading.refuse(f"{path}.end", "a consent has an end here", code="required")
    return (
        None if start is None else _moment(reading, start, f"{path}.start", last=False),
        None if end is None else _moment(reading, end, f"{path}.end", last=True),
    )


def _moment(reading: Reading, value: str, path: str, *, last: bool) -> datetime | None:
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
