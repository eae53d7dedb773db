"""The CloudEvents 1.0 envelope in structured JSON mode: the Kafka value is the whole event."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

import msgspec

from salus.events.catalogue import EventData, EventType, type_named, type_of
from salus.events.errors import Reason, RejectedError

CONTENT_TYPE = "application/cloudevents+json"

# A larger value is refused: large data belongs off-chain, with its commitment in the event.
VALUE_BYTES_MAX = 1024 * 1024

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """CloudEvents 1.0 context attributes; `data` stays the bytes that were received.

    `expectedversion` is a Salus extension: the version of the aggregate (`subject`) that the writer saw.
    A fold applies the event only if it still is that version; otherwise another writer was first.
    """

    specversion: Literal["1.0"]
    id: Name
    source: Name
    type: Name
    subject: Name
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    datacontenttype: Literal["application/json"]
    dataschema: Name
    data: msgspec.Raw
    expectedversion: Annotated[int, msgspec.Meta(ge=0)] | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """A decoded event: its envelope, its catalogue entry and its typed data."""

    envelope: Envelope
    type: EventType
    data: EventData


_ENVELOPES = msgspec.json.Decoder(Envelope)
_ENCODER = msgspec.json.Encoder()


def encode_event(
    data: EventData,
    *,
    id: str,  # noqa: A002  # the CloudEvents attribute's name
    source: str,
    subject: str,
    time: datetime,
    expected_version: int | None = None,
) -> bytes:
    """Return the structured-mode JSON of an event; these bytes are signed, sent and archived as they are.

    Raises:
        RejectedError: the data does not satisfy its own schema, or the event is too large.
        LookupError: `data` is not of a catalogued class.
    """
    entry = type_of(data)
    envelope = Envelope(
        specversion="1.0",
        id=id,
        source=source,
        type=entry.name,
        subject=subject,
        time=time,
        datacontenttype="application/json",
        dataschema=entry.dataschema,
        data=msgspec.Raw(_ENCODER.encode(data)),
        expectedversion=expected_version,
    )
    value = _ENCODER.encode(envelope)
    decode_event(value)
    return value


def decode_envelope(value: bytes) -> Envelope:
    """Decode the envelope, leaving `data` undecoded.

    Raises:
        RejectedError: TOO_LARGE, MALFORMED_JSON or INVALID_ENVELOPE.
    """
    if len(value) > VALUE_BYTES_MAX:
        raise RejectedError(Reason.TOO_LARGE, f"{len(value)} bytes, at most {VALUE_BYTES_MAX}")
    try:
        return _ENVELOPES.decode(value)
    except msgspec.ValidationError as error:
        raise RejectedError(Reason.INVALID_ENVELOPE, _without_values(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedError(Reason.MALFORMED_JSON, type(error).__name__) from None


def decode_data(envelope: Envelope) -> Event:
    """Decode an envelope's data by its catalogue entry.

    Raises:
        RejectedError: UNKNOWN_TYPE, SCHEMA_VIOLATION or MALFORMED_JSON.
    """
    entry = type_named(envelope.type)
    if entry is None:
        raise RejectedError(Reason.UNKNOWN_TYPE)
    if envelope.dataschema != entry.dataschema and envelope.dataschema not in entry.older_dataschemas:
        raise RejectedError(Reason.SCHEMA_VIOLATION, "dataschema is not a released schema of this type")
    try:
        return Event(envelope=envelope, type=entry, data=entry.decoder.decode(envelope.data))
    except msgspec.ValidationError as error:
        raise RejectedError(Reason.SCHEMA_VIOLATION, _without_values(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedError(Reason.MALFORMED_JSON, type(error).__name__) from None


def decode_event(value: bytes) -> Event:
    """Decode a whole event; raises RejectedError as `decode_envelope` and `decode_data` do."""
    return decode_data(decode_envelope(value))


def _without_values(error: msgspec.ValidationError) -> str:
    """Return where a value is wrong, without quoting it: it may hold what must not reach a log."""
    _, at, where = str(error).rpartition(" - at ")
    return f"at {where}" if at else "at the top level"
