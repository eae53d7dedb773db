"""Encrypted objects and patients' keys: what the storage service states.

`state_positions` tell up to where every partition of the topics was folded that a statement rests on:
storage's, consent's and identity's.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import msgspec

from salus.events.context import Context
from salus.events.event_types import Retention
from salus.events.fields import Count, Did, MediaType, Nonce, Pseudonym, Purpose, Sealed, Sha256, Text
from salus.events.names import Name, is_name
from salus.events.pseudonyms import pseudonym_of
from salus.events.requests import BODY_CHARS_MAX, RequestedData
from salus.events.signed_request import Asked, Body
from salus.events.state_positions import StatePositions
from salus.events.step_up import StepUp

CONTEXT = Context("storage")
STORAGE = CONTEXT.role("storage", "service", "keeps encrypted objects and the patients' keys")
# Content codings of HTTP (RFC 9110, 8.4.1) that an object may come in; it is kept and handed out as it came.
ContentCoding = Literal["br", "compress", "deflate", "gzip", "zstd"]
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
    suite: Name
    key: Name
    public_key: Annotated[str, msgspec.Meta(max_length=4096)]
    state_positions: StatePositions = ()


@_event(
    "salus.storage.object-stored.v1",
    retention=Retention.RECORD,
    changes=True,
    claims=lambda data: (f"object:{data.patient}/{data.object}",),
    transfer=True,
    older_dataschemas=frozenset(
        f"urn:salus:schema:salus.storage.object-stored.v1:sha256:{digest}"
        for digest in ("663e1af89033f154f003a97117e2ee982e4954269f4e7a6462282fbf62e80ff4",)
    ),
)
class ObjectStored(RequestedData):
    """An encrypted object is in the object store; the salted commitment proves what it holds.

    `commitment` is SHA-256(salt || SHA-256(plaintext)); the salt is sealed to the patient's key.
    `ciphertext_root` is the RFC 6962 tree hash over header and segments as they are stored, so that each is
    proven by itself; objects of the first form have none.
    """

    object: Name
    patient: Pseudonym
    steward: Did
    media_type: MediaType
    plaintext_bytes: Count
    ciphertext_bytes: Count
    ciphertext_sha256: Sha256
    commitment: Sha256
    salt: Sealed
    state_positions: StatePositions = ()
    content_encoding: ContentCoding | None = None
    ciphertext_root: Sha256 | None = None


@_event("salus.storage.object-read.v1", retention=Retention.ACCESS, transfer=True)
class ObjectRead(RequestedData):
    """Someone received an object's content under this decision."""

    object: Name
    patient: Pseudonym
    reader: Did
    decision: Name
    purpose: Purpose
    break_glass: bool = False
    state_positions: StatePositions = ()


@_event("salus.storage.read-refused.v1", retention=Retention.ACCESS, transfer=True, report=True)
class ReadRefused(RequestedData):
    """Someone was refused an object's content, for this reason."""

    object: Text
    patient: Pseudonym
    reader: Did
    reason: Name
    state_positions: StatePositions = ()


@_event(
    "salus.storage.read-broken-off.v1",
    retention=Retention.ACCESS,
    accompanies=True,
    transfer=True,
    report=True,
)
class ReadBrokenOff(RequestedData):
    """A read that was begun under this decision ended before all of the content was sent, for this reason."""

    object: Text
    patient: Pseudonym
    reader: Did
    decision: Name
    reason: Name
    sent_bytes: Count
    state_positions: StatePositions = ()


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
    decision: Name
    purpose: Purpose
    break_glass: bool = False
    state_positions: StatePositions = ()


@_event("salus.storage.subject-erased.v1", retention=Retention.NETWORK, changes=True)
class SubjectErased(RequestedData):
    """A patient is erased: from here on nothing of hers is read or stored, and her key is to be destroyed."""

    patient: Pseudonym
    key: Name
    requested_by: Did
    basis: Literal["gdpr-art-17", "retention-ended", "patient-request", "court-order"]
    objects: Count
    state_positions: StatePositions = ()

    @property
    def step_up(self) -> StepUp:
        """Nobody takes it back."""
        return StepUp.ERASURE


@_event("salus.storage.subject-key-destroyed.v1", retention=Retention.NETWORK, changes=True, unasked=True)
class SubjectKeyDestroyed(RequestedData):
    """An erased patient's key is gone: all objects, sealed fields and commitments of hers are unreadable."""

    patient: Pseudonym
    key: Name


# --- which request asks for which event -------------------------------------------------------------

_SMALL, _OBJECT = 1024, frozenset({"patient"})
CONTEXT.form("POST", "subjects", body_bytes_max=_SMALL)
CONTEXT.form("DELETE", "subjects", None, "key", body_bytes_max=_SMALL)
CONTEXT.form("PUT", "objects", None, body_bytes_max=None, query=_OBJECT)
CONTEXT.form("POST", "objects", body_bytes_max=None, query=_OBJECT)
CONTEXT.form("GET", "objects", None, body_bytes_max=None, query=_OBJECT)
_UPLOAD = _OBJECT | {"object"}
CONTEXT.form("POST", "uploads", body_bytes_max=0, query=_UPLOAD)
CONTEXT.form("PATCH", "uploads", None, body_bytes_max=None, query=_UPLOAD)
CONTEXT.form("DELETE", "uploads", None, body_bytes_max=0, query=_UPLOAD)
# The body is an event as it is on its topic, of members' own types as well.
CONTEXT.form(
    "POST",
    "sealed",
    "open",
    body_bytes_max=None,
    query=_OBJECT | {"source", "id", "field"},
    values_max=BODY_CHARS_MAX,
)


class _Subject(Body):
    nonce: Nonce
    patient: str | None = None
    steward: str | None = None


class _Erasure(Body):
    basis: str


@CONTEXT.asked(SubjectRegistered)
def _registers_subject(asked: Asked, data: SubjectRegistered) -> bool:
    body = asked.read(_Subject)
    return (
        asked.is_("POST", "subjects")
        and body is not None
        and body.patient in (None, data.patient)
        and data.patient == pseudonym_of(data.steward, body.nonce)
        and data.steward == (body.steward or data.request.behalf or data.request.by)
    )


@CONTEXT.asked(ObjectStored)
def _stores(asked: Asked, data: ObjectStored) -> bool:
    there = (
        asked.is_("PUT", "objects", data.object)
        or asked.is_("POST", "objects")
        # The last request of a resumable upload.
        or (asked.is_("PATCH", "uploads", None) and asked.asks("object") == data.object)
    )
    return there and asked.asks("patient") == data.patient


@CONTEXT.asked(ObjectRead)
def _reads(asked: Asked, data: ObjectRead) -> bool:
    return _looks(asked, data) and data.request.decision == data.decision


@CONTEXT.asked(ReadBrokenOff)
def _is_broken_off(asked: Asked, data: ReadBrokenOff) -> bool:
    return _is_refused(asked, data) and data.request.decision == data.decision


@CONTEXT.asked(SealedOpened)
def _opens(asked: Asked, data: SealedOpened) -> bool:
    return (
        _looks_into(asked, event=data.event, patient=data.patient)
        and (asked.asks("source"), asked.asks("field")) == (data.source, data.field)
        and data.request.by == data.reader
        and data.request.decision == data.decision
    )


@CONTEXT.asked(ReadRefused)
def _is_refused(asked: Asked, data: ReadRefused | ReadBrokenOff) -> bool:
    into = _looks_into(asked, event=data.object, patient=data.patient) and data.request.by == data.reader
    return into or _looks(asked, data)


def _looks(asked: Asked, data: ObjectRead | ReadBrokenOff | ReadRefused) -> bool:
    return (
        asked.is_("GET", "objects", data.object)
        # Where it is an event's id, it is as the event's maker chose it.
        and is_name(data.object)
        and asked.asks("patient") == data.patient
        and data.request.by == data.reader
    )


def _looks_into(asked: Asked, *, event: str, patient: str) -> bool:
    return asked.is_("POST", "sealed", "open") and (asked.asks("id"), asked.asks("patient")) == (
        event,
        patient,
    )


@CONTEXT.asked(SubjectErased)
def _erases(asked: Asked, data: SubjectErased) -> bool:
    body = asked.read(_Erasure)
    return (
        asked.is_("DELETE", "subjects", data.patient, "key")
        and body is not None
        and body.basis == data.basis
        and data.request.by == data.requested_by
    )
