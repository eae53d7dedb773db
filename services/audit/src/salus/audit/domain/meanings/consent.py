"""What events of consents, prohibitions, decisions and policies mean."""

from __future__ import annotations

from salus.audit.domain.entry import Activity, Facts, Severity
from salus.audit.domain.meanings.describers import describes, short
from salus.events.contexts import consent, consent_prohibitions
from salus.events.recipients import Recipient


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
