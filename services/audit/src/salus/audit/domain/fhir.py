"""A trail entry as a FHIR R4 AuditEvent, in the IHE BALP profile that fits, if one does.

BALP has profiles for what succeeded over REST and for decisions by consent. What was refused, emergency
access and changes of parties are plain AuditEvents with DICOM's codes: no profile is claimed that does not
hold. Patients appear by pseudonym, parties by DID.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from salus.audit.domain.entry import Activity, TrailEntry
from salus.audit.domain.network import Surroundings

PROFILES = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_DCM = "http://dicom.nema.org/resources/ontology/DCM"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem/"
_BALP_CODES = "https://profiles.ihe.net/ITI/BALP/CodeSystem/"
_RESTFUL = "http://hl7.org/fhir/restful-interaction"
_URI = "urn:ietf:rfc:3986"
_NOT_URN = re.compile(r"[^A-Za-z0-9._~:/-]")
_NOT_FHIR = re.compile(r"[^ \r\n\t\S]|[\x00-\x08\x0b\x0c\x0e-\x1f]")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pattern:
    """How an activity is told: event type and subtype, and the type codes of client, server and user."""

    kind: Json
    subtype: Json
    client: Json
    server: Json
    user: Json
    profile: str | None = None


def _coding(system: str, code: str, display: str | None = None) -> Json:
    return {"system": system, "code": code} | ({"display": display} if display else {})


_REST = _coding(_TERMINOLOGY + "audit-event-type", "rest", "RESTful Operation")
_ALERT = _coding(_DCM, "110113", "Security Alert")
_APPLICATION = _coding(_DCM, "110150", "Application")
_DESTINATION = _coding(_DCM, "110152", "Destination Role ID")
_SOURCE = _coding(_DCM, "110153", "Source Role ID")
_CUSTODIAN = _coding(_TERMINOLOGY + "provenance-participant-type", "custodian", "Custodian")
_RECIPIENT = _coding(_TERMINOLOGY + "v3-ParticipationType", "IRCP", "information recipient")
_VERIFIER = _coding(_TERMINOLOGY + "v3-ParticipationType", "VRF", "verifier")
_AUTHOR = _coding(_TERMINOLOGY + "v3-ParticipationType", "AUT", "author (originator)")


def _rest(code: str) -> Json:
    return _coding(_RESTFUL, code, code)


def _create() -> Pattern:
    return Pattern(_REST, _rest("create"), _SOURCE, _DESTINATION, _AUTHOR, "Create")


def _update() -> Pattern:
    return Pattern(_REST, _rest("update"), _SOURCE, _DESTINATION, _AUTHOR, "Update")


def _alert(code: str, display: str) -> Pattern:
    return Pattern(_ALERT, _coding(_DCM, code, display), _APPLICATION, _DESTINATION, _AUTHOR)


_READ = Pattern(_REST, _rest("read"), _DESTINATION, _SOURCE, _RECIPIENT, "Read")
_AUTHORIZED = Pattern(
    _ALERT,
    _coding(_BALP_CODES + "AuthZsubType", "AuthZ-Consent"),
    _APPLICATION,
    _coding(_TERMINOLOGY + "extra-security-role-type", "authserver"),
    _RECIPIENT,
)
_PATTERNS = {
    Activity.RECORDED: _create(),
    Activity.STORED: _create(),
    Activity.SUBJECT_CREATED: _create(),
    Activity.LINK_ENDED: _update(),
    Activity.CONSENT_CREATED: _create(),
    Activity.CONSENT_ENDED: _update(),
    Activity.ACCESS_PROHIBITED: _create(),
    Activity.PROHIBITION_LIFTED: _update(),
    Activity.PERMIT_PROPOSED: _create(),
    Activity.PERMIT_GRANTED: _update(),
    Activity.PERMIT_WITHDRAWN: _update(),
    Activity.GLASS_REVIEWED: _update(),
    Activity.ACCESS_UNJUSTIFIED: _update(),
    Activity.CASE_OPENED: _create(),
    Activity.CASE_DECIDED: _update(),
    Activity.REVIEW_OVERDUE: _alert("110100", "Application Activity"),
    Activity.READ: _READ,
    Activity.READ_REFUSED: _READ,
    Activity.ERASED: Pattern(_REST, _rest("delete"), _APPLICATION, _CUSTODIAN, _AUTHOR, "Delete"),
    Activity.PERMIT_USED: _AUTHORIZED,
    Activity.DECIDED: _AUTHORIZED,
    Activity.GLASS_BROKEN: _alert("110127", "Emergency Override Started"),
    Activity.RULES_CHANGED: _alert("110129", "Security Configuration"),
    Activity.PARTY_CREATED: _alert("110137", "User Security Attributes Changed"),
    Activity.MEMBER_SUSPENDED: _alert("110137", "User Security Attributes Changed"),
    Activity.MEMBER_REINSTATED: _alert("110137", "User Security Attributes Changed"),
    Activity.MEMBER_EXPELLED: _alert("110137", "User Security Attributes Changed"),
    Activity.KEY_ADDED: _alert("110137", "User Security Attributes Changed"),
    Activity.KEY_ENDED: _alert("110137", "User Security Attributes Changed"),
    Activity.ROLE_ADDED: _alert("110136", "Security Roles Changed"),
    Activity.ROLE_ENDED: _alert("110136", "Security Roles Changed"),
    Activity.REJECTED: _alert("110126", "Node Authentication"),
    Activity.LEDGER_MOVED: _alert("110100", "Application Activity"),
    Activity.OTHER: _alert("110100", "Application Activity"),
}


def audit_event_of(entry: TrailEntry, around: Surroundings) -> Json:
    """Return the AuditEvent of an entry; its `id` is the entry's uid, so a re-publication replaces itself."""
    facts, pattern = entry.facts, _PATTERNS[entry.facts.activity]
    profile = _profile(entry, pattern)
    event: Json = {
        "resourceType": "AuditEvent",
        "id": entry.uid,
        "type": pattern.kind,
        "subtype": [pattern.subtype],
        "action": facts.action,
        "period": {"start": _instant(entry.time), "end": _instant(entry.time)},
        "recorded": _instant(entry.place.appended_at),
        "outcome": "0" if facts.outcome == "success" else "4",
        "outcomeDesc": facts.summary,
        "agent": _agents(entry, pattern, around),
        "source": _source(entry, around),
        "entity": _decision_entities(entry, around)
        if _is_consent_decision(entry)
        else _entities(entry, around),
    }
    if profile:
        event["meta"] = {"profile": [PROFILES + profile]}
    if facts.purpose:
        event["purposeOfEvent"] = [_purpose(facts.purpose)]
    # All that comes from outside is among these words; printable text has no space but the plain one.
    if entry.words.isprintable() and (entry.subject or "").isprintable():
        return event
    cleaned: Json = _cleaned(event)
    return cleaned


def _quoted(name: str) -> str:
    """Return a name as a part of a URN (RFC 3986 percent-encoding)."""
    return _NOT_URN.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), name)


def _cleaned(value: Any) -> Any:
    """Return JSON whose strings hold only characters that a FHIR string may."""
    match value:
        case dict():
            return {key: _cleaned(each) for key, each in value.items()}
        case list():
            return [_cleaned(each) for each in value]
        case str():
            return _NOT_FHIR.sub("\N{REPLACEMENT CHARACTER}", value)
    return value


def _profile(entry: TrailEntry, pattern: Pattern) -> str | None:
    if _is_consent_decision(entry):
        return "AuthZconsent"
    if pattern.profile is None or entry.facts.outcome != "success":
        return None
    return f"Patient{pattern.profile}" if entry.facts.patient else pattern.profile


def _is_consent_decision(entry: TrailEntry) -> bool:
    """Tell whether BALP's consent decision profile holds: it demands the consent that was decided by."""
    return entry.facts.activity is Activity.DECIDED and bool(entry.facts.consents)


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _reference(uri: str, *, kind: str | None = None) -> Json:
    reference: Json = {"identifier": {"system": _URI, "value": uri}}
    return {"type": kind} | reference if kind else reference


def _concept(coding: Json) -> Json:
    return {"coding": [coding]}


def _purpose(code: str) -> Json:
    return _concept(_coding(_TERMINOLOGY + "v3-ActReason", code))


def _agents(entry: TrailEntry, pattern: Pattern, around: Surroundings) -> list[Json]:
    actor = entry.actor or "urn:salus:unproven"
    client = entry.member or actor
    server = _server(entry, around)
    agents = [
        _machine(pattern.client, client),
        _machine(pattern.server, server, network=entry.facts.activity is not Activity.DECIDED),
        _user(entry, pattern, actor),
    ]
    if entry.facts.approver is not None:
        # "Takes on accountability" for the appropriateness of what another one does.
        who = _reference(entry.facts.approver)
        agents.append({"type": _concept(_VERIFIER), "who": who, "requestor": False})
    if entry.facts.activity is Activity.DECIDED:
        organisation = _coding(_TERMINOLOGY + "v3-RoleClass", "PROV", "healthcare provider")
        agents.append({"type": _concept(organisation), "who": _reference(client), "requestor": False})
    return agents


def _machine(kind: Json, did: str, *, network: bool = True) -> Json:
    agent: Json = {"type": _concept(kind), "who": _reference(did), "requestor": False}
    # The ledger knows parties, not addresses: the DID, a URI, is where the party is reached.
    return agent | {"network": {"address": did, "type": "5"}} if network else agent


def _user(entry: TrailEntry, pattern: Pattern, actor: str) -> Json:
    facts = entry.facts
    user: Json = {"type": _concept(pattern.user), "who": _reference(actor), "requestor": True}
    policy = [f"urn:salus:rule:{_quoted(rule)}" for rule in facts.rules]
    if facts.policy_set:
        policy.append(f"urn:salus:policy-set:sha256:{facts.policy_set}")
    if policy:
        user["policy"] = policy
    if facts.purpose:
        user["purposeOfUse"] = [_purpose(facts.purpose)]
    return user


def _server(entry: TrailEntry, around: Surroundings) -> str:
    """Return the service that holds what was acted on: the one that states the fact, else the ledger's."""
    if around.service_named(entry.source) is not None and entry.source:
        return entry.source
    return around.services.get("sequencer", f"urn:salus:network:{_quoted(around.origin)}")


def _source(entry: TrailEntry, around: Surroundings) -> Json:
    return {
        "site": around.origin,
        "observer": _reference(_server(entry, around)),
        "type": [_coding(_TERMINOLOGY + "security-source-type", "4", "Application Server")],
    }


def _entities(entry: TrailEntry, around: Surroundings) -> list[Json]:
    facts = entry.facts
    entities: list[Json] = [
        {
            "what": _object_reference(entry),
            "type": _coding(_TERMINOLOGY + "audit-entity-type", "2", "System Object"),
            "role": _coding(_TERMINOLOGY + "object-role", "4", "Domain Resource"),
            "description": facts.object_kind or "record",
        },
        {
            "what": {"identifier": {"value": entry.id or entry.uid}},
            "type": _coding(_BALP_CODES + "BasicAuditEntityType", "XrequestId"),
            "detail": _details(entry, around),
        },
    ]
    return [*entities, *_patients(entry)]


def _object_reference(entry: TrailEntry) -> Json:
    name = entry.facts.object or entry.subject or entry.uid
    return {"identifier": {"system": f"urn:salus:{entry.facts.object_kind or 'record'}", "value": name}}


def _decision_entities(entry: TrailEntry, around: Surroundings) -> list[Json]:
    """Return the entities of BALP's AuthZconsent profile, which allows no others."""
    consents = [
        {
            "what": {"type": "Consent", "identifier": {"system": "urn:salus:consent", "value": consent}},
            "type": _coding("http://hl7.org/fhir/resource-types", "Consent"),
        }
        for consent in entry.facts.consents
    ]
    token = {
        "what": {"identifier": {"system": "urn:salus:decision", "value": entry.facts.decision or entry.uid}},
        "type": _coding(_BALP_CODES + "UserAgentTypes", "UserOauthAgent"),
        "detail": [{"type": "object", "valueString": entry.facts.object or ""}, *_details(entry, around)],
    }
    return [*_patients(entry), *consents, token]


def _patients(entry: TrailEntry) -> list[Json]:
    if not entry.facts.patient:
        return []
    patient = {
        "what": _reference(entry.facts.patient, kind="Patient"),
        "type": _coding(_TERMINOLOGY + "audit-entity-type", "1", "Person"),
        "role": _coding(_TERMINOLOGY + "object-role", "1", "Patient"),
    }
    return [patient]


def _details(entry: TrailEntry, around: Surroundings) -> list[Json]:
    place = entry.place
    told = {
        "event-type": entry.type,
        "party": entry.facts.party,
        "party-role": entry.facts.party_role,
        "decision": entry.facts.decision,
        "break-glass": "true" if entry.facts.break_glass else None,
        "status": entry.status,
        "keys": " ".join(entry.keys),
        "doubted-since": entry.facts.doubted_since.isoformat() if entry.facts.doubted_since else None,
        "leaf-hash": place.leaf_hash,
        "block": f"{place.shard}/{place.height}/{place.index}",
        "block-header-hash": place.header_hash,
        "receipt": around.receipt_url(place),
    }
    return [{"type": name, "valueString": value} for name, value in told.items() if value]
