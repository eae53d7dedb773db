"""Encounters, observations and documents of patients: what members state."""

from __future__ import annotations

from functools import partial

from salus.events.context import Context
from salus.events.event_types import MEMBER, EventData, Retention
from salus.events.fields import Pseudonym, Sealed, Text

CONTEXT = Context("clinical")

_event = partial(CONTEXT.event, owner=MEMBER, retention=Retention.RECORD, subject_field="patient")


@_event("salus.clinical.encounter-recorded.v1")
class EncounterRecorded(EventData):
    """A patient was seen; what happened is sealed."""

    patient: Pseudonym
    encounter: Text
    content: Sealed
    object: Text | None = None


@_event("salus.clinical.observation-recorded.v1")
class ObservationRecorded(EventData):
    """Something was measured or found; what and how much is sealed."""

    patient: Pseudonym
    observation: Text
    content: Sealed
    object: Text | None = None


@_event("salus.clinical.document-registered.v1")
class DocumentRegistered(EventData):
    """A record of a patient is kept off-chain under this object id."""

    patient: Pseudonym
    object: Text
    media_type: Text
