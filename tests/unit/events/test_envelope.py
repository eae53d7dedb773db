"""Whatever is wrong with a value, it gets the right reason, and nothing of it is quoted."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker, ValidationError, validators
from tests.asking import UNASKED
from tests.unit.events import samples
from tests.unit.events.samples import (
    MEMBER,
    NOON,
    PATIENT,
    any_data,
    as_json,
    document,
    encoded,
    for_each_type,
    refusal_of,
)
from tests.unit.ledger.test_json_reader import SUITE, content_of
from tests.unit.ledger.test_times import VECTORS, Vector

from salus.events import envelope
from salus.events.contexts import CATALOGUE, identity
from salus.events.contexts.clinical import ObservationRecorded
from salus.events.contexts.consent import AccessDecided, ConsentGranted
from salus.events.envelope import CONTENT_TYPE, VALUE_BYTES_MAX, decode_event, encode_event
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import type_of
from salus.events.fields import SEALED_CHARS_MIN, TEXT_PATTERN
from salus.events.wellformed import require_well_formed
from salus.ledger.times import read_time

DATA = Path(__file__).parents[2] / "data"
CLOUDEVENTS = Draft7Validator(json.loads((DATA / "cloudevents/cloudevents-1.0.schema.json").read_text()))
NAUGHTY = json.loads((DATA / "abuse/blns.visible.json").read_text())
VALUE = encoded(document())
CANARY = "Jane Roe 1970-01-01"


def refusal(value: bytes) -> RejectedError:
    error = refusal_of(value)
    assert error is not None
    return error


def changed(*, data: dict[str, Any] | None = None, without: str | None = None, **changes: Any) -> bytes:
    """The valid event with some attributes replaced, or some fields of its data."""
    event = as_json(VALUE) | changes
    event["data"] = {**event["data"], **(data or {})} if isinstance(event["data"], dict) else event["data"]
    event.pop(without or "", None)
    # As compact as our own encoder writes, so that the quick look has its say.
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


NO_OBJECT = json.dumps(as_json(VALUE) | {"data": []}).encode()


def sealed(ciphertext: str) -> bytes:
    data = ObservationRecorded(patient=PATIENT, observation="o", content=samples.SEALED)
    whole = json.dumps(samples.SEALED.ciphertext).encode()
    return encoded(data).replace(whole, json.dumps(ciphertext).encode())


def sealed_to(key: str) -> bytes:
    data = ObservationRecorded(patient=PATIENT, observation="o", content=samples.SEALED)
    return encoded(data).replace(samples.SEALED.key.encode(), key.encode())


def sealed_by(suite: str) -> bytes:
    data = ObservationRecorded(patient=PATIENT, observation="o", content=samples.SEALED)
    return encoded(data).replace(samples.SEALED.suite.encode(), suite.encode())


LONG = "A" * SEALED_CHARS_MIN


@for_each_type()
def test_what_is_encoded_is_decoded_to_the_same_data(data: Any) -> None:
    event = decode_event(encoded(data), CATALOGUE)

    assert event.data == data
    assert event.type is type_of(data)


@for_each_type()
def test_every_encoded_event_is_a_cloudevent_by_the_specifications_own_schema(data: Any) -> None:
    CLOUDEVENTS.validate(as_json(encoded(data)))


@for_each_type()
def test_what_is_encoded_satisfies_the_schema_file_of_its_type(data: Any) -> None:
    schema = json.loads(type_of(data).schema)

    Draft202012Validator(schema).validate(as_json(encoded(data))["data"])


@for_each_type()
def test_another_writers_spacing_and_order_change_nothing(data: Any) -> None:
    value = encoded(data)
    rewritten = json.dumps(as_json(value), sort_keys=True, indent=1).encode()

    assert decode_event(rewritten, CATALOGUE).data == decode_event(value, CATALOGUE).data


@pytest.mark.parametrize("path", SUITE, ids=lambda path: path.name)
@pytest.mark.parametrize("place", ["whole", "data", "attribute", "field"])
def test_no_case_of_the_json_test_suite_gets_through_or_breaks_out(path: Path, place: str) -> None:
    content = content_of(path)
    value = {
        "whole": content,
        "data": VALUE.partition(b'"data":')[0] + b'"data":' + content + b"}",
        "attribute": VALUE[:-1] + b',"extension":' + content + b"}",
        "field": VALUE[:-2] + b',"extension":' + content + b"}}",
    }[place]
    try:
        require_well_formed(value)
    except RejectedError:
        expected = {Reason.MALFORMED_JSON}
    else:
        expected = {Reason.INVALID_ENVELOPE, Reason.SCHEMA_VIOLATION}

    assert refusal(value).reason in expected


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (
            VALUE.replace(b'"patient":', b'"media_type":"a/b","patient":'),
            "a name is given twice in one object",
        ),
        (VALUE.replace(b'"id":', b'"id":"event-0","id":'), "a name is given twice in one object"),
        (VALUE.replace(b"object-0", b"\xff"), "not UTF-8"),
        (VALUE.replace(b"object-0", rb"\ud800"), "half a surrogate pair"),
        (VALUE.replace(b"object-0", b"\xed\xa0\x80"), "not UTF-8"),
        (VALUE.replace(b'"object-0"', b"NaN"), "not JSON"),
        (VALUE.replace(b'"object-0"', b"[" * 65 + b"]" * 65), "nested deeper than 64"),
        (b"\xef\xbb\xbf" + VALUE, "it begins with a byte order mark"),
        (changed(expectedversion=2**53), "a number that not every reader can hold"),
        (VALUE + b"{}", "not JSON"),
        (b"", "not JSON"),
    ],
)
def test_what_is_not_json_is_malformed(value: bytes, detail: str) -> None:
    error = refusal(value)

    assert error.reason is Reason.MALFORMED_JSON
    assert error.detail.startswith(detail)


@pytest.mark.parametrize(
    "value",
    [
        VALUE.replace(b'"salus.clinical.document-registered.v1"', b'"x"').replace(b"object-0", b"\xff"),
        VALUE.replace(b'"specversion":"1.0"', b'"specversion":"0.3"').replace(b'"object-0"', b"tru"),
        VALUE.replace(b'"subject"', b'"object"').replace(b'"object-0"', b"[" * 65 + b"]" * 65),
    ],
)
def test_what_is_not_json_is_malformed_whatever_else_is_wrong(value: bytes) -> None:
    assert refusal(value).reason is Reason.MALFORMED_JSON


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (changed(without="id"), "$: Object missing required field `id`"),
        (changed(specversion="0.3"), "$.specversion: not as the schema says"),
        (changed(time="2026-11-22T12:00:00"), "$.time: not a time of RFC 3339"),
        (changed(time="2026-11-22T12:00:00+0000"), "$.time: not a time of RFC 3339"),
        (changed(time="2026-11-22T12:00:60Z"), "$.time: second 60"),
        (changed(time="1899-12-31T23:59:59Z"), "$.time: not in the years 1900 to 9998"),
        (changed(time="9999-12-31T23:59:59-23:59"), "$.time: not in the years 1900 to 9998"),
        (changed(time=1), "$.time: Expected `str`"),
        (changed(expectedversion=-1), "$.expectedversion: Expected `int`"),
        (changed(expectedversion=1.5), "$.expectedversion: Expected `int | null`"),
        (changed(id="a\nb"), "$.id: a control character, or a blank at its beginning"),
        (changed(id="a\n"), "$.id: a control character, or a blank at its beginning"),
        (changed(id="a\x00"), "$.id: a control character, or a blank at its beginning"),
        (changed(id="a\x85"), "$.id: a control character, or a blank at its beginning"),
        (changed(subject="a\x7f"), "$.subject: a control character, or a blank at its beginning"),
        (changed(id=""), "$.id: Expected `str`"),
        (changed(id="x" * 257), "$.id: Expected `str`"),
        (changed(data_base64="AA=="), "$: unknown field"),
        (changed(datacontenttype="text/xml"), "$.datacontenttype: not as the schema says"),
        (b"[]", "$: Expected `object`"),
        (b"null", "$: Expected `object`"),
    ],
)
def test_what_is_not_our_cloudevent_has_an_invalid_envelope(value: bytes, detail: str) -> None:
    error = refusal(value)

    assert error.reason is Reason.INVALID_ENVELOPE
    assert error.detail.startswith(detail)


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (changed(data={"object": "a\tb"}), "$.object: a control character, or a blank at its beginning"),
        (changed(data={"object": "a\n"}), "$.object: a control character, or a blank at its beginning"),
        (VALUE.replace(b"object-0", b"a\x7f"), "$.object: a control character, or a blank at its beginning"),
        (
            VALUE.replace(b"object-0", b"\xc2\x85a"),
            "$.object: a control character, or a blank at its beginning",
        ),
        (changed(data={"extra": 1}), "$: unknown field"),
        (changed(data={"object": 1}), "$.object: Expected `str`"),
        (changed(data={"object": None}), "$.object: Expected `str`"),
        (changed(data={"patient": samples.OTHER_PATIENT}), "$.patient: differs from the subject"),
        (changed(data={"patient": PATIENT + "\n"}), "$.patient: Expected `str`"),
        (changed(dataschema="urn:salus:schema:x"), "$.dataschema: not a released schema of this type"),
        (NO_OBJECT, "$: Expected `object`"),
        (sealed(LONG + "AA=\n"), "$.content: not as the schema says"),
        (sealed(LONG + "A=A="), "$.content: not as the schema says"),
        (sealed("=" * SEALED_CHARS_MIN), "$.content: not as the schema says"),
        (sealed(LONG + "AAA==="), "$.content: not as the schema says"),
        (sealed(LONG + "é"), "$.content: not as the schema says"),
        # Case SEC9: readable text under a suite and a key that nobody knows was accepted.
        (sealed("V2UgZm91bmQ="), "$.content.ciphertext: Expected `str`"),
        (sealed(LONG[1:]), "$.content.ciphertext: Expected `str`"),
        (sealed_by("rot13"), "$.content.suite: not as the schema says"),
        (sealed_to("nokey"), "$.content.key: Expected `str`"),
        (sealed_to(f"{PATIENT}#"), "$.content.key: Expected `str`"),
        (sealed_to(f"{samples.OTHER_PATIENT}#1"), "$.content.key: not a key of the subject"),
    ],
)
def test_what_its_schema_does_not_allow_is_a_violation(value: bytes, detail: str) -> None:
    error = refusal(value)

    assert error.reason is Reason.SCHEMA_VIOLATION
    assert error.detail == detail


DIDS = (MEMBER.did, MEMBER.did + "\n")


def test_a_did_with_a_line_end_is_no_did() -> None:
    data = samples.party(samples.STRANGER)
    ours, theirs = (
        identity.PartyRegistered(data.did, "person", data.keys, (), did, request=UNASKED) for did in DIDS
    )

    encoded(ours)
    with pytest.raises(RejectedError, match=r"schema-violation: \$\.member"):
        encoded(theirs)


def test_an_unknown_type_is_said_to_be_one() -> None:
    assert refusal(changed(type="salus.clinical.patient-healed.v1")).reason is Reason.UNKNOWN_TYPE


def test_more_than_a_mebibyte_is_too_large_and_not_looked_at() -> None:
    assert refusal(b"\xff" * (VALUE_BYTES_MAX + 1)).reason is Reason.TOO_LARGE


@pytest.mark.parametrize("text", NAUGHTY)
def test_naughty_strings_are_kept_as_they_are_or_refused(text: str) -> None:
    odd = len(text) > 256 or re.fullmatch(TEXT_PATTERN, text) is None
    value = encoded(document(), id="IT-IS-HERE").replace(b'"IT-IS-HERE"', json.dumps(text).encode())
    error = refusal_of(value)

    assert (error is not None) is odd
    assert odd or encoded(document(), id=text) == value or decode_event(value, CATALOGUE).envelope.id == text


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "\ud800"},
        {"time": NOON.replace(tzinfo=None)},
        {"time": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=23)))},
        {"subject": samples.OTHER_PATIENT},
        {"expected_version": -1},
    ],
)
def test_the_writer_is_told_before_anything_is_sent(changes: dict[str, Any]) -> None:
    with pytest.raises(RejectedError):
        encoded(document(), **changes)


def test_data_of_another_shape_is_refused_by_the_writer() -> None:
    with pytest.raises(RejectedError):
        encode_event(
            AccessDecided(*[object()] * 14, request=UNASKED),  # type: ignore[arg-type]  # on purpose
            id="1",
            source=MEMBER.did,
            subject=PATIENT,
            time=datetime.now(UTC),
        )


def _places(value: Any) -> list[tuple[Any, Any]]:
    found = []
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            found += [(value, key), *_places(value[key])]
    return found


LEAKY = st.sampled_from(
    [
        CANARY,
        "x` - at `$.jane_roe",
        f"x - at `$.{CANARY}`",
        f"x` - at `$.{CANARY}",
        f"Expected `{CANARY}`",
        f"`{CANARY.lower()}`",
    ]
)


@for_each_type(st.data())
def test_no_detail_quotes_what_was_sent(data: Any, drawn: st.DataObject) -> None:
    event = as_json(encoded(data))
    target, key = drawn.draw(st.sampled_from(_places(event)))
    canary = drawn.draw(LEAKY)
    what = drawn.draw(st.sampled_from(["value", "name", "list", "object"]))
    if what == "name" and isinstance(target, dict):
        target[canary] = target.pop(key) if drawn.draw(st.booleans()) else 1
    else:
        target[key] = {"list": [canary], "object": {canary: canary}}.get(what, canary)
    value = json.dumps(event).encode()
    if drawn.draw(st.booleans()):
        value = value.replace(b"}", b"", 1)

    error = refusal_of(value)
    said = f"{error} {error and error.detail} {error!r}".lower()

    assert "jane" not in said
    assert "roe" not in said
    assert error is None or (
        error.__cause__ is None and error.__suppress_context__ is (error.__context__ is not None)
    )


ODD = st.sampled_from(
    [None, True, -1, 2**53, 0.5, "", "x", "a\n", "a\x85b", "y" * 300, [], {}, ["x"], {"x": 1}]
)


@for_each_type(st.data())
def test_the_schema_file_and_the_decoder_say_the_same(data: Any, drawn: st.DataObject) -> None:
    entry = type_of(data)
    event = as_json(encoded(data))
    body = event["data"]
    target, key = drawn.draw(st.sampled_from(_places(body)))
    if drawn.draw(st.booleans()):
        target[key] = drawn.draw(ODD)
    elif isinstance(target, dict):
        target.pop(key)
        target.update(drawn.draw(st.sampled_from([{}, {"unknown": 1}])))
    # That the data is of the subject is said in `x-salus`, not by the schema itself.
    if entry.subject_field is not None and isinstance(body.get(entry.subject_field), str):
        event["subject"] = body[entry.subject_field] or "x"
    error = refusal_of(json.dumps(event).encode())

    # A subject that is no subject is found in the envelope before the data is looked at.
    if error is None or error.reason is not Reason.INVALID_ENVELOPE:
        assert (error is None) is _with_times(json.loads(entry.schema)).is_valid(body)


def _with_times(schema: Any) -> Any:
    formats = FormatChecker(formats=())

    @formats.checks("date-time")
    def is_time(value: object) -> bool:
        if not isinstance(value, str):
            return True
        try:
            read_time(value)
        except ValueError:
            return False
        return True

    portable = validators.extend(Draft202012Validator, {"pattern": _by_re2})
    return portable(schema, format_checker=formats)


def _by_re2(_: Any, pattern: str, value: Any, __: Any) -> Iterator[ValidationError]:
    """As other engines have it: Python's `$` matches before a final newline as well."""
    if isinstance(value, str) and re2.compile(pattern).search(value) is None:
        yield ValidationError("pattern")


def test_every_type_says_whose_it_is_or_has_no_patient() -> None:
    for entry in CATALOGUE.types():
        assert entry.subject_field is not None or "patient" not in entry.data.__struct_fields__


def test_we_speak_the_structured_mode_of_the_kafka_binding_and_no_other() -> None:
    feature = (DATA / "cloudevents/features/kafka-protocol-binding.feature").read_text()
    binary, structured = feature.split("Scenario Outline: Structured content mode")
    payload = binary.split('"""')[1].strip().encode()

    assert f"| {CONTENT_TYPE} " in structured
    assert refusal(payload).reason is Reason.INVALID_ENVELOPE


def verdict(value: bytes) -> object:
    """What is decoded, in a form that can be compared, or the reason and detail why not."""
    try:
        event = decode_event(value, CATALOGUE)
    except RejectedError as error:
        return error.reason, error.detail
    about = {
        name: getattr(event.envelope, name) for name in event.envelope.__struct_fields__ if name != "data"
    }
    return about, event.type.name, event.data


@st.composite
def nearly_valid(draw: st.DrawFn) -> bytes:
    """An event of any type in which a few bytes are cut out, replaced, or repeated."""
    value = bytearray(encoded(draw(any_data())))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(value) - 1))
        length = draw(st.integers(0, 12))
        value[at : at + length] = draw(
            st.sampled_from([b"", b'"', b"x", b"\x7f", b"\xc2\x80", value[at : at + 40]])
        )
    return bytes(value)


@given(nearly_valid())
def test_the_quick_look_decides_nothing_differently(value: bytes) -> None:
    quick = verdict(value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(envelope, "decode_canonical", lambda *_: None)
        assert verdict(value) == quick


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"id":', b'"id":"first","id":'),
        (b'"patient":', b'"patient":"urn:uuid:00000000-0000-4000-8000-000000000000","patient":'),
        (b'"specversion":"1.0"', b'"specversion":"1.0" '),
        (b'"time":"2', b'"time":"1'),
    ],
)
def test_the_quick_look_leaves_what_another_encoder_wrote_to_the_careful_one(old: bytes, new: bytes) -> None:
    assert envelope.decode_canonical(VALUE, CATALOGUE.type_named) is not None
    assert envelope.decode_canonical(VALUE.replace(old, new, 1), CATALOGUE.type_named) is None


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector.why)
def test_an_event_and_its_data_have_the_times_of_the_vectors(vector: Vector) -> None:  # cases K5, formats 8
    granted = encode_event(
        ConsentGranted(
            consent="c",
            patient=PATIENT,
            grantee=MEMBER.did,
            actions=("read",),
            purposes=("TREAT",),
            valid_from=NOON,
            valid_until=datetime(2026, 12, 1, tzinfo=UTC),
            epoch=0,
            request=UNASKED,
        ),
        id="1",
        source=MEMBER.did,
        subject=PATIENT,
        time=NOON,
        expected_version=0,
    )
    event = as_json(granted)
    of_event = json.dumps(event | {"time": vector.text}, separators=(",", ":")).encode()
    event["data"]["valid_from"] = vector.text
    of_data = json.dumps(event, separators=(",", ":")).encode()
    refused = refusal_of(of_event), refusal_of(of_data)

    if vector.utc is None:
        assert [error and error.reason for error in refused] == [
            Reason.INVALID_ENVELOPE,
            Reason.SCHEMA_VIOLATION,
        ]
        return
    data = decode_event(of_data, CATALOGUE).data
    assert isinstance(data, ConsentGranted)
    assert decode_event(of_event, CATALOGUE).envelope.time == data.valid_from == read_time(vector.text)
