"""Medications: what members state."""

from __future__ import annotations

from salus.events.context import Context
from salus.events.event_types import MEMBER, EventData, Retention
from salus.events.fields import Pseudonym, Sealed, Text

CONTEXT = Context("pharma")


@CONTEXT.event(
    "salus.pharma.medication-dispensed.v1",
    owner=MEMBER,
    retention=Retention.RECORD,
    subject_field="patient",
)
class MedicationDispensed(EventData):
    """A pharmacy handed out a medication; which and how much is sealed."""

    patient: Pseudonym
    dispense: Text
    content: Sealed
