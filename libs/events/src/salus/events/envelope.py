"""The CloudEvents 1.0 envelope in structured JSON mode: the Kafka value is the whole event."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal

import msgspec

from salus.events.catalogue import Catalogue
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import EventData, EventType, type_of
from salus.events.fields import Count, Text, field_names, may_be_unplain, unplain_fields
from salus.events.moments import MomentError, holds_moments, moments_of, with_moments
from salus.events.sealed_fields import sealed_to_another
from salus.events.wellformed import require_well_formed
from salus.ledger.times import YEAR_MAX, YEAR_MIN, read_time

CONTENT_TYPE = "application/cloudevents+json"

# A larger value is refused: large data belongs off-chain, with its commitment in the event.
VALUE_BYTES_MAX = 1024 * 1024


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """CloudEvents 1.0 context attributes; `data` stays the bytes that were received.

    `expectedversion` is a Salus extension: the version of the subject that the writer saw. Events that change
    their subject have it, and no others; `salus.events.effect` says what follows from it.
    """

    specversion: Literal["1.0"]
    id: Text
    source: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    type: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    subject: Text
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    datacontenttype: Literal["application/json"]
    dataschema: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    data: msgspec.Raw
    expectedversion: Count | None = None


class Event(msgspec.Struct, frozen=True, gc=False):
    """A decoded event: its envelope, its catalogue entry and its typed data."""

    envelope: Envelope
    type: EventType
    data: EventData


# msgspec reads more as a time, and less, than `read_time` does; so a time comes in as it was written.
_ENVELOPES: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    msgspec.defstruct("Written", [("time", str)], bases=(Envelope,), frozen=True)
)
_ENCODER = msgspec.json.Encoder()
_TYPE = b'"type":"'
TypeNamed = Callable[[str], EventType | None]
"""The type of a name, as somebody's catalogue has it."""


def encode_event(  # noqa: PLR0913  # the CloudEvents attributes
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
    try:
        value = _ENCODER.encode(
            Envelope(
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
        )
    except (TypeError, ValueError, OverflowError) as error:
        # What JSON cannot hold, as half a surrogate pair or an object of a class of its own.
        raise RejectedError(Reason.SCHEMA_VIOLATION, type(error).__name__) from None
    _decode(value, {entry.name: entry}.get)
    return value


def decode_event(
    value: bytes, catalogue: Catalogue, *, require: Callable[[Envelope, EventType], None] | None = None
) -> Event:
    """Decode a whole event, whose data is then as the schema of its type says.

    `require` is called between the envelope and the data; it raises RejectedError for what is to be said
    before the schema is looked at. The reasons come in the order of `Reason`: whatever else is wrong, a
    value that is not JSON is MALFORMED_JSON.

    Raises:
        RejectedError: TOO_LARGE, MALFORMED_JSON, INVALID_ENVELOPE, UNKNOWN_TYPE or SCHEMA_VIOLATION.
    """
    return _decode(value, catalogue.type_named, require)


def _decode(
    value: bytes, type_named: TypeNamed, require: Callable[[Envelope, EventType], None] | None = None
) -> Event:
    if len(value) > VALUE_BYTES_MAX:
        raise RejectedError(Reason.TOO_LARGE, f"{len(value)} bytes, at most {VALUE_BYTES_MAX}")
    event = decode_canonical(value, type_named)
    if event is not None:
        if require is not None:
            require(event.envelope, event.type)
        return event
    suspect = may_be_unplain(value)
    try:
        envelope = _decode_envelope(value, suspect=suspect)
        entry = type_named(envelope.type)
        if entry is None:
            raise RejectedError(Reason.UNKNOWN_TYPE)  # noqa: TRY301  # the one place where reasons are put in order
        if require is not None:
            require(envelope, entry)
        encoded = bytes(envelope.data)
        data = _decode_data(envelope, encoded, entry, suspect=suspect)
    except RejectedError:
        require_well_formed(value)
        raise
    # What a msgspec encoder writes repeats no name; most values are written so, and the rest is looked at.
    if _ENCODER.encode(data) != encoded or _ENCODER.encode(envelope) != value:
        require_well_formed(value)
    return Event(envelope, entry, data)


def decode_canonical(value: bytes, type_named: TypeNamed) -> Event | None:
    """Return an event that is valid and written as our own encoder writes it, as most are; else None.

    `decode_event` tells what is wrong with another, if anything is; nothing is said here of its length.

    One look at envelope and data together, for the price of half of what finding the reason takes. What an
    encoder wrote repeats no name and nests no deeper than its schema, so it is well-formed; and as quotation
    marks in a text have a backslash before them, the type is what stands after its name.
    """
    if may_be_unplain(value):
        return None
    at = value.find(_TYPE) + len(_TYPE)
    entry = type_named(value[at : value.find(b'"', at)].decode("ascii", "replace"))
    if entry is None or entry.objection is not None:
        return None
    try:
        envelope = _whole_decoder(entry.data).decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    data: EventData = envelope.data
    subject = entry.subject_field
    if (
        envelope.dataschema != entry.dataschema
        or entry.changes != (envelope.expectedversion is not None)
        or not YEAR_MIN <= envelope.time.year <= YEAR_MAX
        or not all(YEAR_MIN <= moment.year <= YEAR_MAX for moment in moments_of(data, entry.data))
        or (subject is not None and getattr(data, subject) != envelope.subject)
        or sealed_to_another(data, subject=envelope.subject) is not None
        or _ENCODER.encode(envelope) != value
    ):
        return None
    return Event(envelope, entry, data)


@cache
def _whole_decoder(kind: type[EventData]) -> msgspec.json.Decoder[Any]:
    """Return the decoder of an envelope together with data of this class."""
    whole = msgspec.defstruct("Whole", [("data", kind)], bases=(Envelope,), frozen=True, gc=False)
    return msgspec.json.Decoder(whole)


def _decode_envelope(value: bytes, *, suspect: bool) -> Envelope:
    try:
        written = _ENVELOPES.decode(value)
        envelope = Envelope(**{**msgspec.structs.asdict(written), "time": read_time(written.time)})
    except msgspec.ValidationError as error:
        raise RejectedError(Reason.INVALID_ENVELOPE, _without_values(error, Envelope)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RejectedError(Reason.MALFORMED_JSON, "not JSON") from None
    except ValueError as error:
        raise RejectedError(Reason.INVALID_ENVELOPE, f"$.time: {error}") from None
    if suspect:
        _require_plain(envelope, Envelope, Reason.INVALID_ENVELOPE)
    return envelope


def _decode_data(envelope: Envelope, encoded: bytes, entry: EventType, *, suspect: bool) -> EventData:
    if envelope.dataschema != entry.dataschema and envelope.dataschema not in entry.older_dataschemas:
        raise RejectedError(Reason.SCHEMA_VIOLATION, "$.dataschema: not a released schema of this type")
    if entry.changes != (envelope.expectedversion is not None):
        wanted = "missing" if entry.changes else "only events that change their subject have one"
        raise RejectedError(Reason.SCHEMA_VIOLATION, f"$.expectedversion: {wanted}")
    try:
        if holds_moments(entry.data):
            plain = with_moments(msgspec.json.decode(encoded), entry.data)
            data = msgspec.convert(plain, entry.data, builtin_types=(datetime,))
        else:
            data = entry.decoder.decode(encoded)
    except MomentError as error:
        raise RejectedError(Reason.SCHEMA_VIOLATION, f"{error.place}: {error}") from None
    except msgspec.ValidationError as error:
        raise RejectedError(Reason.SCHEMA_VIOLATION, _without_values(error, entry.data)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RejectedError(Reason.MALFORMED_JSON, "not JSON") from None
    if entry.subject_field is not None and getattr(data, entry.subject_field) != envelope.subject:
        raise RejectedError(Reason.SCHEMA_VIOLATION, f"$.{entry.subject_field}: differs from the subject")
    sealed = sealed_to_another(data, subject=envelope.subject)
    if sealed is not None:
        raise RejectedError(Reason.SCHEMA_VIOLATION, f"$.{sealed}.key: not a key of the subject")
    if suspect:
        _require_plain(data, entry.data, Reason.SCHEMA_VIOLATION)
    _require_as_schema(encoded, entry)
    return data


def _require_as_schema(encoded: bytes, entry: EventType) -> None:
    """Raise SCHEMA_VIOLATION for what a member's schema says and its class does not, as a pattern."""
    why = None if entry.objection is None else entry.objection(msgspec.json.decode(encoded))
    if why is not None:
        raise RejectedError(Reason.SCHEMA_VIOLATION, why)


def _require_plain(decoded: msgspec.Struct, kind: type[msgspec.Struct], reason: Reason) -> None:
    for path in unplain_fields(decoded, kind):
        raise RejectedError(reason, f"{path}: a control character, or a blank at its beginning")


# msgspec's sentences that hold nothing of the value; the others may quote it.
_SAFE_SENTENCE = re.compile(r"Expected `[a-z0-9 |]+`|Object missing required field `[a-z_]+`")
_PATH = re.compile(r"\$(?:\.[a-z_0-9]+|\[\d+\])*")
_NAME = re.compile(r"[a-z_][a-z_0-9]*")


def _without_values(error: msgspec.ValidationError, kind: type[msgspec.Struct]) -> str:
    """Return what is wrong and where, without quoting anything that was sent: it may be personal data.

    An unknown field's name is something that was sent, and may have been made to look like a path.
    """
    sentence, at, where = str(error).rpartition(" - at `")
    if not at:
        sentence, where = where, "$"
    where = where.removesuffix("`")
    if sentence.startswith("Object contains unknown field"):
        said = "unknown field"
    else:
        safe = _SAFE_SENTENCE.match(sentence)
        said = safe[0] if safe is not None else "not as the schema says"
    if _PATH.fullmatch(where) is None or not set(_NAME.findall(where)) <= field_names(kind):
        return said
    return f"{where}: {said}"
