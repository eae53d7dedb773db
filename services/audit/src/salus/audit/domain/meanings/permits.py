"""What events of permits for research mean."""

from __future__ import annotations

from salus.audit.domain.entry import Activity, Facts, Severity
from salus.audit.domain.meanings.describers import describes, short
from salus.events.contexts import consent_permits


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
