"""What each event type means for the trail. A new event type gets one function here, with `@describes`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from salus.audit.domain.entry import Activity, Facts, Severity
from salus.events.contexts import (
    clinical,
    consent,
    consent_oversight,
    consent_permits,
    consent_prohibitions,
    identity,
    identity_login,
    lab,
    ledger,
    network,
    pharma,
    storage,
)
from salus.events.event_types import EventData
from salus.events.membership import MembershipFact
from salus.events.recipients import Recipient

Describer = Callable[[Any], Facts]
_T = TypeVar("_T", bound=Describer)
_DESCRIBERS: dict[type[EventData], Describer] = {}


def describes(cls: type[EventData]) -> Callable[[_T], _T]:
    """Register the describer of a class of event data."""

    def register(describer: _T) -> _T:
        _DESCRIBERS[cls] = describer
        return describer

    return register


def facts_of(data: EventData) -> Facts | None:
    """Return what this data says, if the trail knows its class."""
    describer = _DESCRIBERS.get(type(data))
    return None if describer is None else describer(data)


def short(did: str) -> str:
    """Return a DID or pseudonym short enough for a sentence; the full one is in the entry's fields."""
    return did if len(did) <= 24 else f"{did[:13]}…{did[-6:]}"


# --- identity -------------------------------------------------------------------------------------


@describes(identity.PartyRegistered)
def _party_registered(data: identity.PartyRegistered) -> Facts:
    roles = f" with roles {', '.join(data.roles)}" if data.roles else ""
    return Facts(
        activity=Activity.PARTY_CREATED,
        action="C",
        summary=f"The {data.kind} {short(data.did)} belongs to the network{roles}.",
        party=data.did,
        object=data.did,
        object_kind=data.kind,
        privileges=data.roles,
    )


@describes(identity.KeyAdded)
def _key_added(data: identity.KeyAdded) -> Facts:
    return Facts(
        activity=Activity.KEY_ADDED,
        action="C",
        severity=Severity.LOW,
        summary=f"{short(data.did)} may also sign with another key.",
        party=data.did,
        object=data.key.id,
        object_kind="key",
    )


@describes(identity.KeyRevoked)
def _key_revoked(data: identity.KeyRevoked) -> Facts:
    doubted = f" What it signed since {data.since.isoformat()} is in doubt." if data.since else ""
    return Facts(
        activity=Activity.KEY_ENDED,
        action="U",
        severity=Severity.HIGH if data.reason == "compromised" else Severity.LOW,
        summary=f"A key of {short(data.did)} was revoked: {data.reason}.{doubted}",
        party=data.did,
        object=data.key_id,
        object_kind="key",
        doubted_since=data.since,
    )


@describes(identity.RoleGranted)
def _role_granted(data: identity.RoleGranted) -> Facts:
    return _role(data, Activity.ROLE_ADDED, f"{short(data.did)} now holds the role {data.role}.")


@describes(identity.RoleWithdrawn)
def _role_withdrawn(data: identity.RoleWithdrawn) -> Facts:
    return _role(data, Activity.ROLE_ENDED, f"{short(data.did)} no longer holds the role {data.role}.")


@describes(identity.MemberSuspended)
def _member_suspended(data: identity.MemberSuspended) -> Facts:
    return _membership(data, Activity.MEMBER_SUSPENDED, "suspended", Severity.HIGH)


@describes(identity.MemberReinstated)
def _member_reinstated(data: identity.MemberReinstated) -> Facts:
    return _membership(data, Activity.MEMBER_REINSTATED, "reinstated", Severity.MEDIUM)


@describes(identity.MemberExpelled)
def _member_expelled(data: identity.MemberExpelled) -> Facts:
    return _membership(data, Activity.MEMBER_EXPELLED, "expelled", Severity.HIGH)


def _membership(data: MembershipFact, activity: Activity, how: str, severity: Severity) -> Facts:
    return Facts(
        activity=activity,
        action="U",
        severity=severity,
        summary=f"The member {short(data.did)} was {how}: {data.reason}.",
        party=data.did,
        object=data.did,
        object_kind="member",
        rules=(data.reason,),
    )


@describes(identity.ShardsAssigned)
def _shards_assigned(data: identity.ShardsAssigned) -> Facts:
    sealing = sum(1 for shard in data.shards if shard.topics)
    return Facts(
        activity=Activity.LEDGER_MOVED,
        action="U",
        severity=Severity.MEDIUM,
        summary=f"Assignment {data.epoch}: {sealing} shards seal the network's topics.",
        object=str(data.epoch),
        object_kind="assignment",
    )


@describes(identity.EventTypeProposed)
def _event_type_proposed(data: identity.EventTypeProposed) -> Facts:
    return _event_type(data.type, f"{short(data.member)} proposed the event type {data.type}.")


@describes(identity.EventTypeActivated)
def _event_type_activated(data: identity.EventTypeActivated) -> Facts:
    return _event_type(data.type, f"Events of the type {data.type} are taken.", Severity.MEDIUM)


@describes(identity.EventTypeWithdrawn)
def _event_type_withdrawn(data: identity.EventTypeWithdrawn) -> Facts:
    return _event_type(data.type, f"Events of the type {data.type} are not taken any more.", Severity.MEDIUM)


@describes(identity_login.ProviderAdded)
def _provider_added(data: identity_login.ProviderAdded) -> Facts:
    summary = f"People of {short(data.member)} log in at the provider {data.provider}."
    return _provider(data.provider, summary, Severity.HIGH)


@describes(identity_login.ProviderKeysReplaced)
def _provider_keys_replaced(data: identity_login.ProviderKeysReplaced) -> Facts:
    return _provider(data.provider, f"The keys of the provider {data.provider} were replaced.")


@describes(identity_login.ProviderWithdrawn)
def _provider_withdrawn(data: identity_login.ProviderWithdrawn) -> Facts:
    return _provider(data.provider, f"Nobody logs in at the provider {data.provider} any more.")


def _provider(name: str, summary: str, severity: Severity = Severity.MEDIUM) -> Facts:
    return Facts(
        activity=Activity.RULES_CHANGED,
        action="U",
        severity=severity,
        summary=summary,
        object=name,
        object_kind="login-provider",
    )


@describes(identity_login.SessionOpened)
def _session_opened(data: identity_login.SessionOpened) -> Facts:
    return Facts(
        activity=Activity.KEY_ADDED,
        action="C",
        severity=Severity.INFORMATIONAL,
        summary=f"{short(data.did)} logged in at the provider {data.provider}.",
        party=data.did,
        object=data.key.id,
        object_kind="session",
    )


def _event_type(name: str, summary: str, severity: Severity = Severity.LOW) -> Facts:
    return Facts(
        activity=Activity.RULES_CHANGED,
        action="U",
        severity=severity,
        summary=summary,
        object=name,
        object_kind="event-type",
    )


def _role(data: identity.RoleGranted | identity.RoleWithdrawn, activity: Activity, summary: str) -> Facts:
    return Facts(
        activity=activity,
        action="U",
        severity=Severity.LOW,
        summary=summary,
        party=data.did,
        object=data.did,
        object_kind="role",
        privileges=(data.role,),
    )


# --- consent --------------------------------------------------------------------------------------


@describes(consent.PatientLinked)
def _patient_linked(data: consent.PatientLinked) -> Facts:
    return Facts(
        activity=Activity.SUBJECT_CREATED,
        action="C",
        severity=Severity.LOW,
        summary=f"{short(data.did)} is the patient {short(data.patient)} and may act as she.",
        party=data.did,
        object=data.did,
        object_kind="patient-party",
        patient=data.patient,
    )


@describes(consent.PatientUnlinked)
def _patient_unlinked(data: consent.PatientUnlinked) -> Facts:
    return Facts(
        activity=Activity.LINK_ENDED,
        action="U",
        severity=Severity.LOW,
        summary=f"{short(data.did)} is not the patient {short(data.patient)} any more.",
        party=data.did,
        object=data.did,
        object_kind="patient-party",
        patient=data.patient,
    )


def _whom(party: str, role: str | None) -> str:
    """Return the recipient of a consent or a prohibition in words."""
    return str(Recipient(short(party), role))


@describes(consent.ConsentGranted)
def _consent_granted(data: consent.ConsentGranted) -> Facts:
    privileges = tuple(f"{action}:{purpose}" for action in data.actions for purpose in data.purposes)
    return Facts(
        activity=Activity.CONSENT_CREATED,
        action="C",
        summary=(
            f"A consent of {short(data.patient)} lets {_whom(data.grantee, data.role)} "
            f"{' and '.join(data.actions)} "
            f"for {', '.join(data.purposes)}."
        ),
        party=data.grantee,
        party_role=data.role,
        object=data.consent,
        object_kind="consent",
        patient=data.patient,
        consents=(data.consent,),
        privileges=privileges,
    )


@describes(consent.ConsentRevoked)
def _consent_revoked(data: consent.ConsentRevoked) -> Facts:
    return Facts(
        activity=Activity.CONSENT_ENDED,
        action="U",
        severity=Severity.LOW,
        summary=f"Consent {data.consent} of {short(data.patient)} was taken back.",
        object=data.consent,
        object_kind="consent",
        patient=data.patient,
        consents=(data.consent,),
    )


@describes(consent_prohibitions.AccessProhibited)
def _access_prohibited(data: consent_prohibitions.AccessProhibited) -> Facts:
    whom = "everybody" if data.party is None else _whom(data.party, data.role)
    what = " and ".join(data.actions) or "read and write"
    why = ", ".join(data.purposes) or "any purpose"
    return Facts(
        activity=Activity.ACCESS_PROHIBITED,
        action="C",
        summary=f"{short(data.patient)} forbids {whom} to {what} for {why}.",
        party=data.party,
        party_role=data.role,
        object=data.prohibition,
        object_kind="prohibition",
        patient=data.patient,
        consents=(data.prohibition,),
    )


@describes(consent_prohibitions.ProhibitionLifted)
def _prohibition_lifted(data: consent_prohibitions.ProhibitionLifted) -> Facts:
    return Facts(
        activity=Activity.PROHIBITION_LIFTED,
        action="U",
        severity=Severity.LOW,
        summary=f"Prohibition {data.prohibition} of {short(data.patient)} was lifted.",
        party=data.party,
        object=data.prohibition,
        object_kind="prohibition",
        patient=data.patient,
        consents=(data.prohibition,),
    )


@describes(consent.AccessDecided)
def _access_decided(data: consent.AccessDecided) -> Facts:
    word = "may" if data.allowed else "has to wait to" if data.pending else "may not"
    glass = " by emergency access" if data.break_glass else ""
    denied = Severity.LOW if not data.allowed else Severity.INFORMATIONAL
    return Facts(
        activity=Activity.DECIDED,
        action="E",
        outcome="success" if data.allowed else "refused",
        severity=Severity.HIGH if data.break_glass else denied,
        summary=f"{short(data.principal)} {word} {data.action} {data.object} for {data.purpose}{glass}.",
        actor=data.principal,
        object=data.object,
        object_kind="object",
        patient=data.patient,
        purpose=data.purpose,
        decision=data.decision,
        consents=data.consents,
        rules=data.reasons,
        policy_set=data.policy_set,
        privileges=(f"{data.action}:{data.purpose}",),
        break_glass=data.break_glass,
    )


@describes(consent.GlassBroken)
def _glass_broken(data: consent.GlassBroken) -> Facts:
    return Facts(
        activity=Activity.GLASS_BROKEN,
        action="E",
        severity=Severity.HIGH,
        summary=(
            f"{short(data.principal)} used emergency access to {data.object} of "
            f"{short(data.patient)}: {data.reason}. It awaits review."
        ),
        actor=data.principal,
        object=data.object,
        object_kind="object",
        patient=data.patient,
        purpose="ETREAT",
        decision=data.decision,
        rules=(f"break-glass:{data.reason}",),
        privileges=("break-glass",),
        break_glass=True,
    )


@describes(consent.GlassBreakReviewed)
def _glass_break_reviewed(data: consent.GlassBreakReviewed) -> Facts:
    blamed, ground = data.outcome == "unjustified", f": {data.ground}" if data.ground else ""
    return Facts(
        activity=Activity.ACCESS_UNJUSTIFIED if blamed else Activity.GLASS_REVIEWED,
        action="U",
        severity=Severity.HIGH if blamed else Severity.INFORMATIONAL,
        summary=f"{short(data.reviewer)} found emergency access {data.decision} {data.outcome}{ground}.",
        actor=data.reviewer,
        object=data.decision,
        object_kind="decision",
        patient=data.patient,
        decision=data.decision,
        rules=(f"break-glass-review:{data.outcome}",),
        break_glass=True,
    )


@describes(consent_oversight.ReviewOverdue)
def _review_overdue(data: consent_oversight.ReviewOverdue) -> Facts:
    return Facts(
        activity=Activity.REVIEW_OVERDUE,
        action="E",
        severity=Severity.HIGH,
        summary=(
            f"No privacy officer looked at {data.decision}, an access of {short(data.principal)}, by "
            f"{data.due.isoformat()}, when that was due."
        ),
        party=data.principal,
        object=data.decision,
        object_kind="decision",
        patient=data.patient,
        decision=data.decision,
        rules=("review:overdue",),
    )


@describes(consent_oversight.CaseOpened)
def _case_opened(data: consent_oversight.CaseOpened) -> Facts:
    return Facts(
        activity=Activity.CASE_OPENED,
        action="C",
        severity=Severity.LOW,
        summary=(
            f"{short(data.principal)} asked to {data.action} {data.object} of {short(data.patient)} for "
            f"{data.purpose}. That waits for a privacy officer."
        ),
        actor=data.principal,
        object=data.object,
        object_kind="object",
        patient=data.patient,
        purpose=data.purpose,
        decision=data.case,
        privileges=(f"{data.action}:{data.purpose}",),
    )


@describes(consent_oversight.CaseDecided)
def _case_decided(data: consent_oversight.CaseDecided) -> Facts:
    return Facts(
        activity=Activity.CASE_DECIDED,
        action="U",
        severity=Severity.LOW,
        summary=f"{short(data.reviewer)} decided that case {data.case} is {data.outcome}: {data.ground}.",
        actor=data.reviewer,
        object=data.case,
        object_kind="case",
        patient=data.patient,
        decision=data.case,
        rules=(f"case:{data.outcome}",),
    )


@describes(consent_permits.PermitProposed)
def _permit_proposed(data: consent_permits.PermitProposed) -> Facts:
    return Facts(
        activity=Activity.PERMIT_PROPOSED,
        action="C",
        summary=(
            f"{short(data.proposer)} proposed that {short(data.recipient)} may use data set "
            f"{data.data_set} of {short(data.owner)} for {data.purpose}: until "
            f"{data.valid_until.isoformat()}, and {data.uses_max} times at most."
        ),
        party=data.recipient,
        object=data.permit,
        object_kind="permit",
        purpose=data.purpose,
    )


@describes(consent_permits.PermitGranted)
def _permit_granted(data: consent_permits.PermitGranted) -> Facts:
    return Facts(
        activity=Activity.PERMIT_GRANTED,
        action="U",
        severity=Severity.LOW,
        summary=f"{short(data.request.by)} approved permit {data.permit} with the terms {data.terms[:12]}….",
        object=data.permit,
        object_kind="permit",
    )


@describes(consent_permits.PermitWithdrawn)
def _permit_withdrawn(data: consent_permits.PermitWithdrawn) -> Facts:
    return Facts(
        activity=Activity.PERMIT_WITHDRAWN,
        action="U",
        severity=Severity.MEDIUM if data.ground == "misused" else Severity.LOW,
        summary=f"{short(data.request.by)} withdrew permit {data.permit}: {data.ground}.",
        object=data.permit,
        object_kind="permit",
        rules=(f"permit:{data.ground}",),
    )


@describes(consent_permits.PermitUsed)
def _permit_used(data: consent_permits.PermitUsed) -> Facts:
    about = "" if data.patient is None else f", about {short(data.patient)}"
    return Facts(
        activity=Activity.PERMIT_USED,
        action="E",
        summary=(
            f"{short(data.principal)} may use data set {data.data_set} of {short(data.owner)} for "
            f"{data.purpose}{about}: use {data.number} of permit {data.permit}."
        ),
        actor=data.principal,
        party=data.owner,
        object=data.data_set,
        object_kind="data-set",
        patient=data.patient,
        purpose=data.purpose,
        decision=data.use,
        consents=(data.permit,),
        rules=(data.permit,),
        privileges=(f"read:{data.purpose}",),
    )


@describes(consent_permits.PermitUseDenied)
def _permit_use_denied(data: consent_permits.PermitUseDenied) -> Facts:
    about = "" if data.patient is None else f", about {short(data.patient)}"
    return Facts(
        activity=Activity.PERMIT_USED,
        action="E",
        outcome="refused",
        severity=Severity.LOW,
        summary=(
            f"{short(data.principal)} may not use data set {data.data_set} of {short(data.owner)} for "
            f"{data.purpose}{about}, by permit {data.permit}: {', '.join(data.reasons)}."
        ),
        actor=data.principal,
        party=data.owner,
        object=data.data_set,
        object_kind="data-set",
        patient=data.patient,
        purpose=data.purpose,
        consents=(data.permit,),
        rules=data.reasons,
        privileges=(f"read:{data.purpose}",),
    )


@describes(consent.PolicySetAdopted)
def _policy_set_adopted(data: consent.PolicySetAdopted) -> Facts:
    return Facts(
        activity=Activity.RULES_CHANGED,
        action="U",
        severity=Severity.LOW,
        summary=f"Consent goes by policy set {data.policy_set[:12]}… and its code {data.contract[:12]}….",
        object=data.policy_set,
        object_kind="policy-set",
        policy_set=data.policy_set,
    )


@describes(consent.PolicySetProposed)
def _policy_set_proposed(data: consent.PolicySetProposed) -> Facts:
    return Facts(
        activity=Activity.RULES_CHANGED,
        action="C",
        summary=f"{short(data.request.by)} proposed policy set {data.policy_set[:12]}….",
        actor=data.request.by,
        object=data.policy_set,
        object_kind="policy-set",
        policy_set=data.policy_set,
    )


@describes(consent.PolicySetActivated)
def _policy_set_activated(data: consent.PolicySetActivated) -> Facts:
    return Facts(
        activity=Activity.RULES_CHANGED,
        action="U",
        severity=Severity.MEDIUM,
        summary=(
            f"{short(data.request.by)} put policy set {data.policy_set[:12]}… into force as version "
            f"{data.version}, in the place of {data.replaces[:12]}…."
        ),
        actor=data.request.by,
        object=data.policy_set,
        object_kind="policy-set",
        policy_set=data.policy_set,
    )


# --- storage --------------------------------------------------------------------------------------


@describes(storage.SubjectRegistered)
def _subject_registered(data: storage.SubjectRegistered) -> Facts:
    return Facts(
        activity=Activity.SUBJECT_CREATED,
        action="C",
        summary=f"The patient {short(data.patient)} has a key pair; {short(data.steward)} is the steward.",
        party=data.steward,
        object=data.key,
        object_kind="subject-key",
        patient=data.patient,
    )


@describes(storage.ObjectStored)
def _object_stored(data: storage.ObjectStored) -> Facts:
    return Facts(
        activity=Activity.STORED,
        action="C",
        summary=f"Object {data.object} of {short(data.patient)} was stored, encrypted.",
        actor=data.steward,
        object=data.object,
        object_kind="object",
        patient=data.patient,
    )


@describes(storage.ObjectRead)
def _object_read(data: storage.ObjectRead) -> Facts:
    glass = " by emergency access" if data.break_glass else ""
    return Facts(
        activity=Activity.READ,
        action="R",
        severity=Severity.HIGH if data.break_glass else Severity.INFORMATIONAL,
        summary=(
            f"{short(data.reader)} read object {data.object} of {short(data.patient)} for "
            f"{data.purpose}{glass}."
        ),
        actor=data.reader,
        object=data.object,
        object_kind="object",
        patient=data.patient,
        purpose=data.purpose,
        decision=data.decision,
        rules=(f"decision:{data.decision}",),
        break_glass=data.break_glass,
    )


@describes(storage.ReadRefused)
def _read_refused(data: storage.ReadRefused) -> Facts:
    return Facts(
        activity=Activity.READ_REFUSED,
        action="R",
        outcome="refused",
        severity=Severity.MEDIUM,
        summary=f"{short(data.reader)} was refused object {data.object} of {short(data.patient)}.",
        actor=data.reader,
        object=data.object,
        object_kind="object",
        patient=data.patient,
        rules=(data.reason,),
    )


@describes(storage.ReadBrokenOff)
def _read_broken_off(data: storage.ReadBrokenOff) -> Facts:
    return Facts(
        activity=Activity.READ_REFUSED,
        action="R",
        outcome="refused",
        severity=Severity.MEDIUM,
        summary=(
            f"{short(data.reader)} had a read of object {data.object} of {short(data.patient)} broken off "
            f"after {data.sent_bytes} bytes."
        ),
        actor=data.reader,
        object=data.object,
        object_kind="object",
        patient=data.patient,
        decision=data.decision,
        rules=(data.reason,),
    )


@describes(storage.SealedOpened)
def _sealed_opened(data: storage.SealedOpened) -> Facts:
    glass = " by emergency access" if data.break_glass else ""
    return Facts(
        activity=Activity.READ,
        action="R",
        severity=Severity.HIGH if data.break_glass else Severity.INFORMATIONAL,
        summary=(
            f"{short(data.reader)} read what is sealed in {data.field} of event {data.event} of "
            f"{short(data.patient)} for {data.purpose}{glass}."
        ),
        actor=data.reader,
        object=data.event,
        object_kind="event",
        patient=data.patient,
        purpose=data.purpose,
        decision=data.decision,
        rules=(f"decision:{data.decision}",),
        break_glass=data.break_glass,
    )


@describes(storage.SubjectErased)
def _subject_erased(data: storage.SubjectErased) -> Facts:
    return Facts(
        activity=Activity.ERASED,
        action="D",
        severity=Severity.LOW,
        summary=f"{short(data.patient)} is erased: {data.objects} objects are not read any more.",
        actor=data.requested_by,
        object=data.key,
        object_kind="subject-key",
        patient=data.patient,
        rules=(data.basis,),
    )


@describes(storage.SubjectKeyDestroyed)
def _subject_key_destroyed(data: storage.SubjectKeyDestroyed) -> Facts:
    return Facts(
        activity=Activity.ERASED,
        action="D",
        severity=Severity.LOW,
        summary=f"The key of {short(data.patient)} is gone, and what was sealed to it is unreadable.",
        object=data.key,
        object_kind="subject-key",
        patient=data.patient,
    )


# --- what members publish -------------------------------------------------------------------------


def _recorded(kind: str, patient: str, name: str) -> Facts:
    return Facts(
        activity=Activity.RECORDED,
        action="C",
        summary=f"The {kind} {name} of {short(patient)} is on record.",
        object=name,
        object_kind=kind,
        patient=patient,
    )


@describes(clinical.EncounterRecorded)
def _encounter_recorded(data: clinical.EncounterRecorded) -> Facts:
    return _recorded("encounter", data.patient, data.encounter)


@describes(clinical.ObservationRecorded)
def _observation_recorded(data: clinical.ObservationRecorded) -> Facts:
    return _recorded("observation", data.patient, data.observation)


@describes(clinical.DocumentRegistered)
def _document_registered(data: clinical.DocumentRegistered) -> Facts:
    return _recorded("document", data.patient, data.object)


@describes(lab.ResultReleased)
def _result_released(data: lab.ResultReleased) -> Facts:
    return _recorded("laboratory-report", data.patient, data.report)


@describes(pharma.MedicationDispensed)
def _medication_dispensed(data: pharma.MedicationDispensed) -> Facts:
    return _recorded("dispense", data.patient, data.dispense)


# --- the network itself ----------------------------------------------------------------------------


@describes(network.TopicsRestored)
def _topics_restored(data: network.TopicsRestored) -> Facts:
    return Facts(
        activity=Activity.LEDGER_MOVED,
        action="U",
        severity=Severity.CRITICAL,
        summary=f"Kafka was lost; {len(data.partitions)} partitions were filled again from the ledger.",
        object=str(data.log_size),
        object_kind="log",
    )


@describes(network.DamageFound)
def _damage_found(data: network.DamageFound) -> Facts:
    return Facts(
        activity=Activity.LEDGER_MOVED,
        action="R",
        severity=Severity.CRITICAL,
        summary=f"The archive is damaged at {data.bucket}/{data.key}: {data.code}.",
        object=f"{data.bucket}/{data.key}",
        object_kind="archive-object",
    )


@describes(network.KeyRotated)
def _key_rotated(data: network.KeyRotated) -> Facts:
    return Facts(
        activity=Activity.LEDGER_MOVED,
        action="U",
        severity=Severity.HIGH,
        summary=f"{data.name} signs with another key from {data.first} on.",
        object=data.name,
        object_kind="signing-key",
    )


@describes(network.KeyRetired)
def _key_retired(data: network.KeyRetired) -> Facts:
    return Facts(
        activity=Activity.LEDGER_MOVED,
        action="U",
        severity=Severity.CRITICAL if data.reason == "compromised" else Severity.HIGH,
        summary=f"A key of {data.name} signs no longer from {data.end} on: {data.reason}.",
        object=data.name,
        object_kind="signing-key",
    )


# --- ledger announcements: not leaves today, described so that every type of the catalogue is ----------


@describes(ledger.BlockSealed)
def _block_sealed(data: ledger.BlockSealed) -> Facts:
    return _ledger(f"Block {data.height} of shard {data.shard} is sealed.", data.header, "block")


@describes(ledger.CheckpointPublished)
def _checkpoint_published(data: ledger.CheckpointPublished) -> Facts:
    return _ledger(f"The log has a checkpoint of {data.size} blocks.", str(data.size), "checkpoint")


@describes(ledger.RecordRejected)
def _record_rejected(data: ledger.RecordRejected) -> Facts:
    where = f"{data.topic}/{data.partition}/{data.offset}"
    return _ledger(f"The record {where} was rejected: {data.reason}.", where, "record")


@describes(ledger.RecordsRejected)
def _records_rejected(data: ledger.RecordsRejected) -> Facts:
    count = sum(group.count for group in data.groups)
    block = f"block {data.height} of shard {data.shard}"
    return _ledger(f"Of {block} {count} more records were rejected.", block, "block")


def _ledger(summary: str, name: str, kind: str) -> Facts:
    return Facts(activity=Activity.LEDGER_MOVED, action="C", summary=summary, object=name, object_kind=kind)
