"""A trail entry in OCSF 1.8.0, as SOCs read it. Times are milliseconds since the epoch.

Classes by activity: access to data is Datastore Activity (6005), an access decision is Authorize Session
(3003), parties are Account Change (3001), roles are User Access Management (3005), keys, consents and rules
are Entity Management (3004), a rejected record is API Activity (6003). Record integrity travels in
`enrichments`, what OCSF has no attribute for in `unmapped`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from salus.audit.domain.entry import Activity, Place, Severity, TrailEntry
from salus.audit.domain.network import Surroundings

OCSF_VERSION = "1.8.0"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RESOURCE_UID = 10
USER_UID = 31
_CLASSES = {
    2004: ("Detection Finding", "Findings"),
    3001: ("Account Change", "Identity & Access Management"),
    3003: ("Authorize Session", "Identity & Access Management"),
    3004: ("Entity Management", "Identity & Access Management"),
    3005: ("User Access Management", "Identity & Access Management"),
    6003: ("API Activity", "Application Activity"),
    6005: ("Datastore Activity", "Application Activity"),
}
_SEVERITIES = {1: "Informational", 2: "Low", 3: "Medium", 4: "High", 5: "Critical"}
_OTHER_ENTITY, _POLICY_ENTITY = 99, 5
_DATABUCKET_OTHER = 99
_DATASTORE_BUCKET = 2


@dataclass(frozen=True, slots=True)
class Shape:
    """The OCSF class of an activity and the number and caption of what was done in it."""

    class_uid: int
    activity_id: int
    activity_name: str


_SHAPES = {
    Activity.RECORDED: Shape(6005, 6, "Create"),
    Activity.STORED: Shape(6005, 6, "Create"),
    Activity.READ: Shape(6005, 1, "Read"),
    Activity.READ_REFUSED: Shape(6005, 1, "Read"),
    Activity.ERASED: Shape(6005, 7, "Delete"),
    Activity.SUBJECT_CREATED: Shape(3004, 1, "Create"),
    Activity.LINK_ENDED: Shape(3004, 11, "Deactivate"),
    Activity.CONSENT_CREATED: Shape(3004, 1, "Create"),
    Activity.CONSENT_ENDED: Shape(3004, 11, "Deactivate"),
    Activity.ACCESS_PROHIBITED: Shape(3004, 1, "Create"),
    Activity.PROHIBITION_LIFTED: Shape(3004, 3, "Update"),
    Activity.PERMIT_PROPOSED: Shape(3004, 1, "Create"),
    Activity.PERMIT_GRANTED: Shape(3004, 10, "Activate"),
    Activity.PERMIT_WITHDRAWN: Shape(3004, 11, "Deactivate"),
    Activity.PERMIT_USED: Shape(3003, 1, "Assign Privileges"),
    Activity.DECIDED: Shape(3003, 1, "Assign Privileges"),
    Activity.GLASS_BROKEN: Shape(3003, 1, "Assign Privileges"),
    Activity.GLASS_REVIEWED: Shape(3004, 3, "Update"),
    Activity.ACCESS_UNJUSTIFIED: Shape(3004, 3, "Update"),
    Activity.REVIEW_OVERDUE: Shape(3004, 3, "Update"),
    Activity.CASE_OPENED: Shape(3004, 1, "Create"),
    Activity.CASE_DECIDED: Shape(3004, 3, "Update"),
    Activity.RULES_CHANGED: Shape(3004, 10, "Activate"),
    Activity.PARTY_CREATED: Shape(3001, 1, "Create"),
    Activity.MEMBER_SUSPENDED: Shape(3001, 5, "Disable"),
    Activity.MEMBER_REINSTATED: Shape(3001, 2, "Enable"),
    Activity.MEMBER_EXPELLED: Shape(3001, 6, "Delete"),
    Activity.KEY_ADDED: Shape(3004, 1, "Create"),
    Activity.KEY_ENDED: Shape(3004, 9, "Disable"),
    Activity.ROLE_ADDED: Shape(3005, 1, "Assign Privileges"),
    Activity.ROLE_ENDED: Shape(3005, 2, "Revoke Privileges"),
    Activity.LEDGER_MOVED: Shape(3004, 1, "Create"),
    Activity.REJECTED: Shape(6003, 1, "Create"),
    Activity.OTHER: Shape(6003, 99, "Other"),
}


def ocsf_of(entry: TrailEntry, around: Surroundings) -> dict[str, Any]:
    """Return the OCSF event of an entry; the same entry always gives the same event."""
    shape = _SHAPES[entry.facts.activity]
    event = {
        **class_of(shape),
        **severity_of(entry.facts.severity),
        "time": milliseconds(entry.time),
        "time_dt": entry.time.isoformat(),
        "message": entry.facts.summary,
        "metadata": _metadata(entry, around),
        **_status(entry),
        "enrichments": [integrity(entry.place, around)],
        "observables": _observables(entry),
        "unmapped": _unmapped(entry),
    }
    return event | _specific(entry, shape)


def class_of(shape: Shape) -> dict[str, Any]:
    """Return the attributes that classify an event."""
    caption, category = _CLASSES[shape.class_uid]
    return {
        "class_uid": shape.class_uid,
        "class_name": caption,
        "category_uid": shape.class_uid // 1000,
        "category_name": category,
        "activity_id": shape.activity_id,
        "activity_name": shape.activity_name,
        "type_uid": shape.class_uid * 100 + shape.activity_id,
        "type_name": f"{caption}: {shape.activity_name}",
    }


def severity_of(severity: Severity) -> dict[str, Any]:
    """Return the severity as number and caption."""
    return {"severity_id": int(severity), "severity": _SEVERITIES[severity]}


def milliseconds(moment: datetime) -> int:
    """Return a moment as OCSF's `timestamp_t`."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def product_of(around: Surroundings) -> dict[str, Any]:
    """Return who reports."""
    return {"name": "Salus", "vendor_name": "Salus", "version": around.version, "uid": around.origin}


def integrity(place: Place, around: Surroundings) -> dict[str, Any]:
    """Return the record integrity of a leaf, with which anyone can check the event against the log."""
    return {
        "name": "ledger.leaf_hash",
        "value": place.leaf_hash,
        "type": "record-integrity",
        "provider": around.log_origin,
        "src_url": around.receipt_url(place),
        "desc": "The RFC 6962 leaf of this fact; its receipt proves it to be in the network's log.",
        "data": {
            "leaf_hash": place.leaf_hash,
            "digest": place.digest,
            "shard": place.shard,
            "height": place.height,
            "index": place.index,
            "block_header_hash": place.header_hash,
            "log": around.log_origin,
            "topic": place.topic,
            "partition": place.partition,
            "offset": place.offset,
        },
    }


def _metadata(entry: TrailEntry, around: Surroundings) -> dict[str, Any]:
    given = {
        "version": OCSF_VERSION,
        "product": product_of(around),
        "profiles": ["datetime", "security_control"],
        "uid": entry.uid,
        "original_event_uid": entry.id,
        "event_code": entry.type,
        "log_name": entry.place.topic,
        "log_provider": entry.source,
        "logged_time": milliseconds(entry.place.appended_at),
        "correlation_uid": entry.facts.decision,
        "sequence": entry.place.offset,
    }
    return _present(given)


def _status(entry: TrailEntry) -> dict[str, Any]:
    if entry.facts.is_done:
        done = {"status_id": 1, "status": "Success", "action_id": 1, "action": "Allowed"}
        return done if entry.facts.outcome == "success" else done | {"status_code": entry.facts.outcome}
    # What is sealed as rejected, and wrongly so, is not what it is sealed as.
    rejection = entry.rejection if entry.facts.outcome == "rejected" else None
    detail = rejection or ", ".join(entry.facts.rules) or entry.facts.outcome
    return {
        "status_id": 2,
        "status": "Failure",
        "status_code": rejection or entry.facts.outcome,
        "status_detail": detail,
        "action_id": 2,
        "action": "Denied",
        "disposition_id": 2,
        "disposition": "Blocked",
    }


def _observables(entry: TrailEntry) -> list[dict[str, Any]]:
    facts = entry.facts
    found = (
        ("actor.user.uid", USER_UID, entry.actor),
        ("unmapped.party", USER_UID, facts.party),
        ("unmapped.approver", USER_UID, facts.approver),
        ("unmapped.patient", RESOURCE_UID, facts.patient),
        ("unmapped.object", RESOURCE_UID, facts.object),
    )
    return [{"name": name, "type_id": kind, "value": value} for name, kind, value in found if value]


def _unmapped(entry: TrailEntry) -> dict[str, Any]:
    facts = entry.facts
    given = {
        "activity": facts.activity.value,
        "outcome": facts.outcome,
        "no_effect": facts.no_effect,
        "damage": facts.damage,
        "patient": facts.patient,
        "object": facts.object,
        "object_kind": facts.object_kind,
        "party": facts.party,
        "party_role": facts.party_role,
        "purpose": facts.purpose,
        "decision": facts.decision,
        "rules": list(facts.rules) or None,
        "policy_set": facts.policy_set,
        "break_glass": facts.break_glass or None,
        "authentication": facts.authentication,
        "behalf": facts.behalf,
        "approver": facts.approver,
        "keys": list(entry.keys) or None,
        "doubted_since": facts.doubted_since.isoformat() if facts.doubted_since else None,
    }
    return _present(given)


def _specific(entry: TrailEntry, shape: Shape) -> dict[str, Any]:
    """Return what the class asks for beside what all have."""
    actor = _actor(entry)
    match shape.class_uid:
        case 6005:
            return actor | _endpoint(entry) | _databucket(entry) | _policy(entry)
        case 6003:
            operation = {"operation": "publish", "service": {"name": entry.place.topic}}
            return actor | _endpoint(entry) | {"api": operation}
        case 3003:
            return actor | {"user": _user(entry.actor, entry.member)} | _session(entry) | _policy(entry)
        case 3001:
            return actor | {"user": _user(entry.facts.party, None)}
        case 3005:
            privileges = list(entry.facts.privileges)
            return actor | {"user": _user(entry.facts.party, None), "privileges": privileges}
        case _:
            return actor | {"entity": _entity(entry)}


def _actor(entry: TrailEntry) -> dict[str, Any]:
    actor: dict[str, Any] = {"user": _user(entry.actor, entry.member)}
    if (approver := entry.facts.approver) is not None:
        policy = {"name": "second operator", "desc": f"approved by {approver}"}
        actor["authorizations"] = [{"decision": "approved", "policy": policy}]
    return {"actor": actor}


def _user(did: str | None, member: str | None) -> dict[str, Any]:
    user: dict[str, Any] = {"uid": did or "unproven"}
    return user | {"org": {"uid": member}} if member else user


def _endpoint(entry: TrailEntry) -> dict[str, Any]:
    # The ledger knows who sent something, not from which machine: the party is the endpoint.
    return {"src_endpoint": {"uid": entry.actor or "unproven"}}


def _databucket(entry: TrailEntry) -> dict[str, Any]:
    bucket: dict[str, Any] = {"type_id": _DATABUCKET_OTHER, "type": entry.facts.object_kind or "record"}
    bucket["uid"] = entry.facts.object or entry.subject or entry.uid
    if entry.facts.activity in {Activity.STORED, Activity.READ, Activity.READ_REFUSED}:
        bucket |= {"is_encrypted": True}
    return {"databucket": bucket, "type_id": _DATASTORE_BUCKET, "type": "Databucket"}


def _session(entry: TrailEntry) -> dict[str, Any]:
    session = {"session": {"uid": entry.facts.decision}} if entry.facts.decision else {}
    return session | {"privileges": list(entry.facts.privileges)}


def _policy(entry: TrailEntry) -> dict[str, Any]:
    facts = entry.facts
    given = _present({"uid": facts.policy_set, "name": ", ".join(facts.rules) or None})
    if not given:
        return {}
    decision = "allow" if facts.is_done else "deny"
    return {"policy": given, "authorizations": [{"decision": decision, "policy": given}]}


_OF_POLICIES = frozenset(
    {
        Activity.CONSENT_CREATED,
        Activity.CONSENT_ENDED,
        Activity.ACCESS_PROHIBITED,
        Activity.PROHIBITION_LIFTED,
        Activity.PERMIT_PROPOSED,
        Activity.PERMIT_GRANTED,
        Activity.PERMIT_WITHDRAWN,
        Activity.RULES_CHANGED,
    }
)


def _entity(entry: TrailEntry) -> dict[str, Any]:
    facts = entry.facts
    policy = facts.activity in _OF_POLICIES
    return {
        "type_id": _POLICY_ENTITY if policy else _OTHER_ENTITY,
        "type": "Policy" if policy else (facts.object_kind or "record"),
        "uid": facts.object or entry.subject or entry.uid,
        "name": facts.object_kind or "record",
    }


def _present(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}
