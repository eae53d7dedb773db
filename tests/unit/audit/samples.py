"""Events of every catalogued type for the audit tests, made from the types themselves."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
from hypothesis import strategies as st
from msgspec import inspect
from tests.asking import UNASKED
from tests.unit.events.samples import sealed_to_its_subject

from salus.audit.domain.entry import Place
from salus.audit.domain.network import Surroundings
from salus.events.catalogue import Catalogue
from salus.events.contexts import CATALOGUE
from salus.events.envelope import Event, decode_event, encode_event
from salus.events.event_types import EventData, type_of
from salus.events.fields import SEALED_CHARS_MIN, TEXT_PATTERN
from salus.events.requests import SIGNED, Request, RequestedData

NOON = datetime(2026, 11, 22, 12, 0, 0, 250_000, tzinfo=UTC)
IDENTITY = "did:key:z6MkidentityIdentityIdentityIdentityIdentity"
STORAGE = "did:key:z6MkstorageStorageStorageStorageStorageStora"
CONSENT = "did:key:z6MkconsentConsentConsentConsentConsentConse"
MEMBER = "did:web:north-hospital.example"
AROUND = Surroundings(
    origin="salus.local/dev",
    log_origin="salus.local/dev/log",
    receipts_url="http://127.0.0.1:8405",
    version="0.1.0",
    services={"identity": IDENTITY, "storage": STORAGE, "consent": CONSENT, "sequencer": "did:key:z6Mkseq"},
)
SECRET = "U0VDUkVULXBhdGllbnQtbmFtZQ=="
"""What every sealed field of a sample holds: it must not come out anywhere."""


def place(index: int = 0, **changes: Any) -> Place:
    given: dict[str, Any] = {
        "topic": "salus.clinical.events",
        "partition": 0,
        "offset": index,
        "shard": 0,
        "height": 7,
        "index": index,
        "leaf_hash": f"{index:064x}",
        "digest": "d" * 64,
        "header_hash": "e" * 64,
        "sealed_at": NOON,
        "appended_at": NOON,
    }
    return Place(**given | changes)


# The fields that say who asked, in the types that have one.
_ASKERS = ("principal", "reviewer", "reader", "requested_by")


def asked_of(data: EventData, *, source: str) -> EventData:
    """Return data as a service states it: asked for by whom the data itself names, or else by its source."""
    if not isinstance(data, RequestedData) or data.request != UNASKED:
        return data
    by = next((getattr(data, name) for name in _ASKERS if hasattr(data, name)), source)
    return msgspec.structs.replace(data, request=Request(by=by, authentication=SIGNED))


def event_of(
    data: EventData,
    *,
    source: str = MEMBER,
    name: str = "event-1",
    subject: str | None = None,
    catalogue: Catalogue = CATALOGUE,
) -> Event:
    about = type_of(data).subject_field
    chosen = subject or (getattr(data, about) if about else "subject-1")
    return decode_event(
        encode_event(
            asked_of(data, source=source),
            id=name,
            source=source,
            subject=chosen,
            time=NOON,
            expected_version=0 if type_of(data).changes else None,
        ),
        catalogue,
    )


def _of(kind: inspect.Type, name: str) -> st.SearchStrategy[Any]:  # noqa: C901, PLR0911  # one per kind of type
    match kind:
        case inspect.Metadata():
            return _of(kind.type, name)
        case inspect.StrType():
            return _text(kind, name)
        case inspect.IntType():
            return st.integers(kind.ge or 0, min(2**40, 2**40 if kind.le is None else kind.le))
        case inspect.BoolType():
            return st.booleans()
        case inspect.DateTimeType():
            return st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # Hypothesis adds the zone
        case inspect.LiteralType():
            return st.sampled_from(kind.values)
        case inspect.NoneType():
            return st.none()
        case inspect.UnionType():
            return st.one_of([_of(each, name) for each in kind.types])
        case inspect.VarTupleType():
            return st.lists(_of(kind.item_type, name), min_size=kind.min_length or 0, max_size=3).map(tuple)
        case inspect.StructType():
            return _struct(kind)
    raise TypeError(kind)


def _text(kind: inspect.StrType, name: str) -> st.SearchStrategy[str]:
    if name == "ciphertext":
        return st.just("A" * SEALED_CHARS_MIN + SECRET)
    if kind.pattern is not None:
        return st.from_regex(kind.pattern.replace("$", r"\Z"), fullmatch=False).filter(
            lambda text: len(text) <= (kind.max_length or 400)
        )
    texts = st.text(
        st.characters(exclude_categories=("Cs", "Cc")), min_size=kind.min_length or 0, max_size=40
    )
    # Whether blanks may stand first is in the schema alone, so none is drawn that begins with one.
    return texts.filter(lambda text: not text or re.fullmatch(TEXT_PATTERN, text) is not None)


def _struct(kind: inspect.StructType) -> st.SearchStrategy[Any]:
    fields = {field.encode_name: _of(field.type, field.name) for field in kind.fields}
    return st.fixed_dictionaries(fields).map(lambda found: kind.cls(**found))


def data_of(cls: type[EventData]) -> st.SearchStrategy[EventData]:
    """Any valid data of a class."""
    found: st.SearchStrategy[EventData] = _of(inspect.type_info(cls), cls.__name__)
    return found.map(sealed_to_its_subject)


def any_event() -> st.SearchStrategy[Event]:
    """Any valid event of any catalogued type."""
    data = st.sampled_from([entry.data for entry in CATALOGUE.types()]).flatmap(data_of)
    return data.map(event_of)


def as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
