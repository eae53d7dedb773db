"""Of what a service states of its own, names are no place for words about anybody (case R13-F1)."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, settings
from msgspec import inspect
from tests.asking import UNASKED, truly_asked
from tests.effort import tries
from tests.unit.events.samples import MEMBER, NAMES, NOON, PATIENT, SERVICES, encoded, row, verdict

from salus.events.contexts import CATALOGUE
from salus.events.contexts.storage import ObjectRead, ReadRefused
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import EventData
from salus.events.fields import TEXT_PATTERN
from salus.events.judging import Judged
from salus.events.names import is_name, is_of_names, misnamed_field
from salus.events.requests import Request, RequestedData

WORDS = "Anna Meyer born 1970 has HIV"
# What stays text, and why nobody who has a service's key can write what he likes there.
FREE = {
    (
        "salus.consent.policy-set-activated.v1",
        "engine",
    ): "its name and version, for two operators",
    ("salus.consent.policy-set-adopted.v1", "engine"): "the same, of the set that a network begins with",
    (
        "salus.identity.event-type-activated.v1",
        "dataschema",
    ): "in the request, of a proposal",
    ("salus.identity.shards-assigned.v1", "network"): "the network's own name, which its founders chose",
    (
        "salus.identity.party-registered.v1",
        "name",
    ): "an organisation's name, as its maker signed it",
    (
        "salus.storage.read-refused.v1",
        "object",
    ): "an event's id, or an object's: judged with the request",
    ("salus.storage.read-broken-off.v1", "object"): "as of read-refused",
    ("salus.storage.sealed-opened.v1", "event"): "an event's id, in the request that the reader signed",
    ("salus.storage.sealed-opened.v1", "field"): "a field of that event, in the same request",
}
STATED = [entry for entry in CATALOGUE.types() if issubclass(entry.data, RequestedData)]


def texts_of(data: type[EventData]) -> list[str]:
    """The fields of a class whose value is any text."""
    info = inspect.type_info(data)
    assert isinstance(info, inspect.StructType)
    return [field.name for field in info.fields if any(map(_is_text, _parts(field.type)))]


def _parts(info: inspect.Type) -> list[inspect.Type]:
    match info:
        case inspect.UnionType(types=types):
            return [part for each in types for part in _parts(each)]
        case inspect.VarTupleType(item_type=item):
            return _parts(item)
        case inspect.Metadata(type=inspect.VarTupleType() as inner):
            return _parts(inner)
        case _:
            return [info]


def _is_text(info: inspect.Type) -> bool:
    return (
        isinstance(info, inspect.Metadata)
        and (info.extra_json_schema or {}).get("pattern") == TEXT_PATTERN
        and not is_of_names(info)
    )


def test_whatever_a_service_states_is_a_name_or_known_to_be_text() -> None:
    assert {(entry.name, field) for entry in STATED for field in texts_of(entry.data)} == FREE.keys()


def refused(**changes: str) -> ReadRefused:
    honest = ReadRefused("o-1", PATIENT, MEMBER.did, "no-decision", request=UNASKED)
    return msgspec.structs.replace(honest, **changes)


@pytest.mark.parametrize(
    "said",
    [
        refused(reason=WORDS),
        refused(object=WORDS),
        ObjectRead(WORDS, PATIENT, MEMBER.did, "d-1", "TREAT", request=UNASKED),
        ObjectRead("o-1", PATIENT, MEMBER.did, WORDS, "TREAT", request=UNASKED),
    ],
    ids=["reason", "object", "object read", "decision"],
)
def test_words_in_the_place_of_a_name_are_refused_and_not_repeated(said: RequestedData) -> None:
    value = encoded(truly_asked(said, MEMBER, at=NOON), source=SERVICES["storage"].did)
    found = verdict(row(value, signer=SERVICES["storage"], topic="salus.storage.events"))

    assert isinstance(found, RejectedError)
    assert found.reason is Reason.INVALID_REQUEST
    assert "Meyer" not in str(found)


def test_names_are_taken() -> None:
    value = encoded(truly_asked(refused(), MEMBER, at=NOON), source=SERVICES["storage"].did)

    assert isinstance(verdict(row(value, signer=SERVICES["storage"], topic="salus.storage.events")), Judged)


def test_the_decision_of_a_request_is_a_name() -> None:
    request = Request(by=MEMBER.did, authentication="signed", decision=WORDS)

    assert misnamed_field(request) == "decision"
    assert misnamed_field(msgspec.structs.replace(request, decision=None)) is None


@settings(max_examples=tries(25, long=1000))
@given(NAMES)
def test_a_name_has_no_blank_and_no_letter_beyond_ascii(name: str) -> None:
    assert is_name(name)
    for other in (f"{name} {name}", f"{name}\n", f"é{name}", f"{name}\u200b", "", "a" * 129):
        assert not is_name(other)
