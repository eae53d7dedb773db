"""What events that members publish mean."""

from __future__ import annotations

from salus.audit.domain.entry import Activity, Facts
from salus.audit.domain.meanings.describers import describes, short
from salus.events.contexts import clinical, lab, pharma


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
