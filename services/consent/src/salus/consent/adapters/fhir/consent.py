"""FHIR R4 Consent in and out. What cannot be kept exactly is refused with its element path, never widened.

A consent of ours is one grantee, some actions and purposes, and a period that ends. In FHIR that is an
active `Consent` under `policyRule` OPTIN or OPTINR whose root provision has one actor as recipient, a party
or a contained PractitionerRole: all who hold that role at that organisation. A prohibition is
one under OPTOUT whose root provision is of type deny.
Actions: consentaction `access` is read and `correct` is write. `elements` says what else may be there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from salus.access.prohibitions import Prohibition
from salus.access.state import Consent
from salus.consent.adapters.fhir.elements import Issue, Issues, TooManyIssuesError, kept_of
from salus.consent.adapters.fhir.provisions import (
    ACTIONS,
    CODE_OF,
    CONTAINED,
    PURPOSES,
    RECIPIENT_ROLES,
    ROLES,
    URI,
    Kept,
    Provision,
    Reading,
    read_provision,
)
from salus.events.contexts.consent import Action
from salus.events.contexts.identity import PartyKind
from salus.events.fields import Purpose
from salus.events.recipients import Recipient, RecipientRole
from salus.runtime.fields import PSEUDONYM_PATTERN

SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"
RULES = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
LOINC = "http://loinc.org"
PRIVACY, RESEARCH = "patient-privacy", "research"
RESEARCH_PURPOSES: frozenset[Purpose] = frozenset({"HRESCH"})
_PSEUDONYM = re.compile(PSEUDONYM_PATTERN)
_CATEGORY_LOINC = "59284-0"
# The id, within a Consent of ours, of the role that its actor is.
_WITHIN = "recipient"


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
    role: RecipientRole | None = None


@dataclass(frozen=True)
class Denial:
    """What a FHIR Consent forbids, in our terms: to everybody, every action or any purpose if none is named.

    Without a start it begins now, and without an end it has none.
    """

    patient: str
    party: str | None
    actions: tuple[Action, ...]
    purposes: tuple[Purpose, ...]
    valid_from: datetime | None
    valid_until: datetime | None
    identifier: Identifier | None = None
    party_kind: PartyKind | None = None
    role: RecipientRole | None = None


def parse(resource: Any) -> Terms | Denial:
    """Return what an R4 Consent grants or forbids.

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


def _read(resource: Mapping[str, Any], issues: Issues) -> Terms | Denial | None:
    consent = kept_of(resource, issues)
    reading = Reading(issues)
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
    patient = reading.uri(consent.get("patient", {}), "Consent.patient", _PSEUDONYM, frozenset({"Patient"}))
    provision = read_provision(reading, consent.get("provision"), consent.get("contained", ()))
    rules = ("OPTOUT",) if provision.denies else ("OPTIN", "OPTINR")
    reading.code(consent.get("policyRule", {}), "Consent.policyRule", RULES, rules)
    return _terms(reading, provision, patient=patient, scope=scope, identifier=identifier)


def _status_of_text(resource: Mapping[str, Any]) -> Any:
    text = resource.get("text")
    return text.get("status") if isinstance(text, dict) else None


def _terms(
    reading: Reading, provision: Provision, *, patient: str, scope: str, identifier: Identifier | None
) -> Terms | Denial | None:
    names_purposes = provision.purposes or provision.denies
    if scope and names_purposes and scope != scope_of(provision.purposes):
        why = f"the scope {RESEARCH} goes with the purpose HRESCH alone, and only that scope goes with it"
        reading.refuse("Consent.scope", why)
    about = provision.actions, provision.purposes, provision.valid_from
    last = identifier, provision.grantee_kind, provision.role
    if provision.denies:
        return Denial(patient, provision.grantee, *about, provision.valid_until, *last)
    if provision.valid_until is None or provision.grantee is None:
        return None
    return Terms(patient, provision.grantee, *about, provision.valid_until, *last)


def scope_of(purposes: Sequence[Purpose]) -> str:
    """Return the scope that a consent or a prohibition with these purposes has."""
    return RESEARCH if purposes and RESEARCH_PURPOSES.issuperset(purposes) else PRIVACY


def _own_identifier(reading: Reading, identifiers: Sequence[Kept]) -> Identifier | None:
    path = "Consent.identifier"
    if len(identifiers) > 1:
        reading.refuse(path, "one identifier can be kept; the consent could not be found by the others")
    if not identifiers:
        return None
    identifier = identifiers[0]
    reading.require_use(identifier, f"{path}[0]")
    if not {"system", "value"} <= set(identifier):
        reading.refuse(f"{path}[0]", "an identifier has a system and a value here", code="required")
        return None
    return Identifier(identifier["system"], identifier["value"])


def render(consent: Consent, *, patient: str) -> dict[str, Any]:
    """Return the R4 Consent; a revoked one is `inactive`. `parse` reads it back to the same terms."""
    return {
        **_head(consent.id, consent.purposes, patient=patient, is_active=consent.revoked_epoch is None),
        **_contained(consent.recipient),
        "policyRule": _concept(RULES, "OPTINR"),
        "provision": {
            "type": "permit",
            "period": {"start": _instant(consent.valid_from), "end": _instant(consent.valid_until)},
            "actor": [_actor(consent.recipient)],
            **_about(consent.actions, consent.purposes),
        },
    }


def render_prohibition(prohibition: Prohibition, *, patient: str) -> dict[str, Any]:
    """Return the R4 Consent; a lifted one is `inactive`. `parse` reads it back to the same denial."""
    end = {} if prohibition.valid_until is None else {"end": _instant(prohibition.valid_until)}
    recipient = prohibition.recipient
    actor = {} if recipient is None else {"actor": [_actor(recipient)]}
    return {
        **_head(prohibition.id, prohibition.purposes, patient=patient, is_active=not prohibition.lifted),
        **({} if recipient is None else _contained(recipient)),
        "policyRule": _concept(RULES, "OPTOUT"),
        "provision": {
            "type": "deny",
            "period": {"start": _instant(prohibition.valid_from), **end},
            **actor,
            **_about(prohibition.actions, prohibition.purposes),
        },
    }


def _head(name: str, purposes: Sequence[Purpose], *, patient: str, is_active: bool) -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "id": name,
        "status": "active" if is_active else "inactive",
        "scope": _concept(SCOPES, scope_of(purposes)),
        "category": [_concept(LOINC, _CATEGORY_LOINC)],
        "patient": _logical(patient),
    }


def _about(actions: Sequence[Action], purposes: Sequence[Purpose]) -> dict[str, Any]:
    """Return the actions and purposes of a provision; FHIR's JSON has no empty lists."""
    said = {
        "action": [_concept(ACTIONS, CODE_OF[action]) for action in actions],
        "purpose": [{"system": PURPOSES, "code": purpose} for purpose in purposes],
    }
    return {name: value for name, value in said.items() if value}


def _actor(recipient: Recipient) -> dict[str, Any]:
    named = _logical(recipient.did)
    within = {"reference": f"#{_WITHIN}", "type": CONTAINED}
    return {"role": _concept(ROLES, "IRCP"), "reference": named if recipient.role is None else within}


def _contained(recipient: Recipient) -> dict[str, Any]:
    """Return the role that the actor refers to, if the recipient has one."""
    if recipient.role is None:
        return {}
    organization = {**_logical(recipient.did), "type": "Organization"}
    code = [_concept(RECIPIENT_ROLES, recipient.role)]
    role = {"resourceType": CONTAINED, "id": _WITHIN, "organization": organization, "code": code}
    return {"contained": [role]}


def _concept(system: str, code: str) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


def _logical(uri: str) -> dict[str, Any]:
    return {"identifier": {"system": URI, "value": uri}}


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
