"""What events of objects, keys and erasures mean."""

from __future__ import annotations

from salus.audit.domain.entry import Activity, Facts, Severity
from salus.audit.domain.meanings.describers import describes, short
from salus.events.contexts import storage


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
