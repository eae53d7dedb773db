"""What events of emergencies, their reviews, and cases mean."""

from __future__ import annotations

from salus.audit.domain.entry import Activity, Facts, Severity
from salus.audit.domain.meanings.describers import describes, short
from salus.events.contexts import consent, consent_oversight


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
