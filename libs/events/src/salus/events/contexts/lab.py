"""Results of laboratories: what members state."""

from __future__ import annotations

from salus.events.context import Context
from salus.events.event_types import MEMBER, EventData, Retention
from salus.events.fields import Pseudonym, Sealed, Text

CONTEXT = Context("lab")


@CONTEXT.event(
    "salus.lab.result-released.v1", owner=MEMBER, retention=Retention.RECORD, subject_field="patient"
)
class ResultReleased(EventData):
    """A laboratory stands by a result; the result is sealed."""

    patient: Pseudonym
    report: Text
    content: Sealed
    object: Text | None = None
