"""Encrypted objects and patients' keys: what the storage service states."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import msgspec

from salus.events.event_types import Context, Retention
from salus.events.fields import Count, Did, Pseudonym, Purpose, Sealed, Sha256, Text
from salus.events.requests import RequestedData

CONTEXT = Context("storage")
STORAGE = CONTEXT.role("storage", "service", "keeps encrypted objects and the patients' keys")
_event = partial(CONTEXT.event, owner=STORAGE, subject_field="patient")


@_event(
    "salus.storage.subject-registered.v1",
    retention=Retention.RECORD,
    changes=True,
    claims=lambda data: (f"subject:{data.patient}",),
)
class SubjectRegistered(RequestedData):
    """A patient has a key pair; anyone may seal to the public half."""

    patient: Pseudonym
    steward: Did
    suite: Text
    key: Text
    public_key: Annotated[str, msgspec.Meta(max_length=4096)]


@_event(
    "salus.storage.object-stored.v1",
    retention=Retention.RECORD,
    changes=True,
    claims=lambda data: (f"object:{data.patient}/{data.object}",),
)
class ObjectStored(RequestedData):
    """An encrypted object is in the object store; the salted commitment proves what it holds.

    `commitment` is SHA-256(salt || SHA-256(plaintext)); the salt is sealed to the patient's key.
    """

    object: Text
    patient: Pseudonym
    steward: Did
    media_type: Text
    plaintext_bytes: Count
    ciphertext_bytes: Count
    ciphertext_sha256: Sha256
    commitment: Sha256
    salt: Sealed


@_event("salus.storage.object-read.v1", retention=Retention.ACCESS)
class ObjectRead(RequestedData):
    """Someone received an object's content under this decision."""

    object: Text
    patient: Pseudonym
    reader: Did
    decision: Text
    purpose: Purpose
    break_glass: bool = False


@_event("salus.storage.read-refused.v1", retention=Retention.ACCESS)
class ReadRefused(RequestedData):
    """Someone was refused an object's content, for this reason."""

    object: Text
    patient: Pseudonym
    reader: Did
    reason: Text


@_event("salus.storage.read-broken-off.v1", retention=Retention.ACCESS, accompanies=True)
class ReadBrokenOff(RequestedData):
    """A read that was begun under this decision ended before all of the content was sent, for this reason."""

    object: Text
    patient: Pseudonym
    reader: Did
    decision: Text
    reason: Text
    sent_bytes: Count


@_event("salus.storage.sealed-opened.v1", retention=Retention.ACCESS)
class SealedOpened(RequestedData):
    """Someone received what is sealed in this field of an event, under this decision.

    `source` and `event` are the event's source and id. `digest` is the RFC 6962 leaf hash of the bytes that
    were opened, so that anybody can compare them with the ledger.
    """

    patient: Pseudonym
    source: Did
    event: Text
    field: Text
    digest: Sha256
    reader: Did
    decision: Text
    purpose: Purpose
    break_glass: bool = False


@_event("salus.storage.subject-key-destroyed.v1", retention=Retention.NETWORK, changes=True)
class SubjectKeyDestroyed(RequestedData):
    """A patient's key is gone: every object, sealed field and commitment of hers is unreadable for ever."""

    patient: Pseudonym
    key: Text
    requested_by: Did
    basis: Literal["gdpr-art-17", "retention-ended", "patient-request", "court-order"]
    objects: Count
