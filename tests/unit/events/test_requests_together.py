"""Events that carry requests, and their tokens, are read together only as each would be read by itself."""

from __future__ import annotations

import gc
import json
import re
import weakref
from array import array
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tests.asking import NETWORK
from tests.unit.events.samples import (
    ANY_TEXT,
    MEMBER,
    NOON,
    OTHER_MEMBER,
    PLAIN_TEXT,
    RING,
    SERVICES,
    Alphabet,
    Row,
    as_json,
    data_of,
    encoded,
    for_each_type,
    records_of,
    row,
    subject_of,
    verdict,
)
from tests.unit.events.test_canonical import EDITS, TOKENS, edited, places_in, require_same, with_token
from tests.unit.events.test_judging import requested

from salus.client.auth import RequestLine, make_bearer
from salus.events import batch_judging, canonical, judging, jws_batch
from salus.events.batch_judging import BatchJudging
from salus.events.bearer import BearerError, Signed, audience_of, read_bearer, require_meant
from salus.events.canonical import Attributes, requested_attributes
from salus.events.catalogue import Catalogue
from salus.events.contexts import CATALOGUE, CONTEXTS
from salus.events.contexts.consent import ConsentGranted, PolicySetAdopted, PolicySetProposed
from salus.events.contexts.consent_permits import PermitProposed, PermitUsed
from salus.events.contexts.identity import EventTypeProposed
from salus.events.contexts.identity_login import ProviderAdded, SessionOpened
from salus.events.contexts.storage import ObjectStored
from salus.events.envelope import Event, decode_event
from salus.events.errors import RejectedError
from salus.events.event_types import EventType, type_of
from salus.events.jws_batch import signed_tokens
from salus.events.recognizers import Mark
from salus.events.requests import Request, RequestedData
from salus.events.type_registry import TypeRegistry
from salus.events.valid_json import decode_valid_event
from salus.ledger.records import appended_at

needs_library = pytest.mark.skipif(
    canonical._requested_reader(CATALOGUE) is None or jws_batch._read is None,
    reason="no C compiler, or a processor without vector lanes",
)
TYPES = [entry for entry in CATALOGUE.types() if issubclass(entry.data, RequestedData)]
# What a media type may be no step can tell, nor what a policy's text or an issuer's address is, nor whether
# a number is within bounds of its own.
WITHOUT_PROGRAM = {
    *(ObjectStored, PolicySetAdopted, PolicySetProposed, ProviderAdded),
    *(PermitProposed, PermitUsed),
}
GRANTED = next(entry for entry in TYPES if entry.data is ConsentGranted)
TOKEN = make_bearer(
    MEMBER,
    audience_of("consent", NETWORK),
    now=NOON,
    request=RequestLine("POST", "/consents", b'{"a":"b"}'),
)
BODIES = st.none() | st.just("") | st.text('{}"ab:,\\ é\n', max_size=20) | st.just(json.dumps({"a": ["b"]}))
REQUESTS = st.builds(
    Request,
    by=st.sampled_from([MEMBER.did, SERVICES["consent"].did]),
    authentication=st.sampled_from(["did-jwt", "service"]),
    behalf=st.none() | st.just(MEMBER.did),
    decision=st.none() | st.just("decision"),
    proof=st.none() | st.just(TOKEN) | st.just("a.b.c"),
    body=BODIES,
    approval=st.none() | st.just(TOKEN),
)


def read(*values: bytes) -> Attributes:
    return requested_attributes(
        b"".join(values), array("Q", accumulate(map(len, values), initial=0)), CATALOGUE
    )


def is_plain(value: bytes) -> bool:
    """Tell whether nothing is escaped in an event's texts and no number is long."""
    return value.isascii() and re.search(rb'\\[^"]|\x7f|[:,\[][0-9]{16}', value) is None


def require_same_event(value: bytes, found: Attributes, at: int = 0) -> None:
    """An event of which something is said is valid, says the same, and is decoded to the same."""
    require_same(value, found, at)
    entry = found.type_of(at)
    assert entry is not None
    event, known = decode_event(value, CATALOGUE), decode_valid_event(value, entry)
    assert known.data == event.data
    assert msgspec.json.encode(known.envelope) == msgspec.json.encode(event.envelope) == value
    assert known.envelope.time == event.envelope.time
    first, end = found.spans[len(Mark) * at + Mark.PROOF], found.spans[len(Mark) * at + Mark.PROOF_END]
    assert isinstance(event.data, RequestedData)
    assert found.events[first:end].decode() == (event.data.request.proof or "")


@needs_library
def test_types_that_carry_a_request_have_programs() -> None:
    reader = canonical._requested_reader(CATALOGUE)

    assert reader is not None
    assert {entry.data for entry in TYPES if entry not in reader.types} == WITHOUT_PROGRAM


@needs_library
@for_each_type(REQUESTS, of=TYPES)
def test_every_plain_event_with_a_request_is_read(data: Any, request: Request) -> None:
    value = encoded(msgspec.structs.replace(data, request=request))
    found = read(value)

    if is_plain(value) and type(data) not in WITHOUT_PROGRAM:
        assert found.type_of(0) == type_of(data)
    if found.type_of(0) is not None:
        require_same_event(value, found)


@for_each_type(REQUESTS, st.lists(EDITS, max_size=3), of=TYPES)
def test_an_event_with_changed_bytes_is_read_only_if_it_is_valid(
    data: Any, request: Request, edits: list[Any]
) -> None:
    value = encoded(msgspec.structs.replace(data, request=request))
    for edit in edits:
        value = edited(value, edit)
    found = read(value)

    if found.type_of(0) is not None:
        require_same_event(value, found)


@for_each_type(REQUESTS, st.data(), of=TYPES)
def test_an_event_with_another_value_somewhere_is_read_only_if_it_is_valid(
    data: Any, request: Request, draw: st.DataObject
) -> None:
    value = encoded(msgspec.structs.replace(data, request=request))
    path = draw.draw(st.sampled_from(places_in(as_json(value))))
    value = with_token(value, path, draw.draw(st.sampled_from(TOKENS)))
    found = read(value)

    if found.type_of(0) is not None:
        require_same_event(value, found)


def grant(request: Request) -> ConsentGranted:
    return ConsentGranted(
        consent="c",
        patient=PATIENT,
        grantee=MEMBER.did,
        actions=("read",),
        purposes=("TREAT",),
        valid_from=NOON,
        valid_until=NOON,
        epoch=0,
        request=request,
    )


PATIENT = "urn:uuid:00000000-0000-4000-8000-000000000001"


@needs_library
@pytest.mark.parametrize(
    ("body", "is_read"),
    [
        (b"", True),
        (rb"\"\"", True),
        (rb"{\"a\":\"b\"}", True),
        (rb"\\", False),
        (rb"\\\"", False),
        (rb"\n", False),
        (rb"\u0041", False),
        (b"\x7f", False),
        (b"\xc3\xa9", False),
        (b"x" * 262_144, True),
        (b"x" * 262_145, False),
        (rb"\"" * 262_144, True),
        (rb"\"" * 262_145, False),
    ],
)
def test_a_body_is_read_if_it_has_nothing_but_quotation_marks_to_escape(
    body: bytes, *, is_read: bool
) -> None:
    request = Request(by=MEMBER.did, authentication="did-jwt", proof=TOKEN, body="BODY")
    value = encoded(grant(request)).replace(b"BODY", body)
    found = read(value)

    assert (found.type_of(0) is not None) == is_read
    if is_read:
        require_same_event(value, found)


@needs_library
def test_the_end_of_a_body_is_not_looked_for_in_the_next_event() -> None:
    value = encoded(grant(Request(by=MEMBER.did, authentication="did-jwt", proof=TOKEN, body='{"a":"b"}')))
    cuts = [part for at in range(len(value)) for part in (value[:at], value[at:])]
    found = read(*cuts)

    whole = [number for number in range(len(cuts)) if found.type_of(number) is not None]
    assert [cuts[number] for number in whole] == [value]


# --- tokens ------------------------------------------------------------------------------------------


def tokens(*texts: bytes) -> Any:
    """What is read of texts as if they stood between the marks of events."""
    places = list(accumulate(map(len, texts), initial=0))
    found = Attributes(
        (),
        b"".join(texts),
        array("i", [0]) * len(texts),
        array("Q", bytes(8 * len(Mark) * len(texts))),
        array("q", bytes(8 * len(texts))),
    )
    for number in range(len(texts)):
        found.spans[len(Mark) * number + Mark.PROOF] = places[number]
        found.spans[len(Mark) * number + Mark.PROOF_END] = places[number + 1]
    return signed_tokens(found)


def alone(token: bytes) -> Signed | str:
    try:
        return read_bearer(token.decode("latin-1"), audience=None)
    except BearerError as error:
        return str(error)


def require_same_token(token: bytes, signed: Signed) -> None:
    """What is read together says what `read_bearer` says, with what is left to be asked of it."""
    try:
        require_meant(signed, audience=None)
        said: Signed | str = signed
    except BearerError as error:
        said = str(error)

    assert alone(token) == said


def base64url(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


HEADER, PAYLOAD, SIGNATURE = TOKEN.encode().split(b".")
CLAIMS = msgspec.json.encode(read_bearer(TOKEN, audience=None).claims)
HEAD = json.dumps(
    {"alg": "EdDSA", "typ": "JWT", "kid": MEMBER.verification_method}, separators=(",", ":")
).encode()


@needs_library
@given(
    signer=st.sampled_from([MEMBER, OTHER_MEMBER]),
    line=st.none()
    | st.builds(
        RequestLine,
        st.sampled_from(["POST", "DELETE"]),
        st.sampled_from(["/consents", "/a/b?c=d"]),
        st.none() | st.just(b"{}"),
    ),
)
def test_tokens_as_clients_write_them_are_read_together(signer: Any, line: RequestLine | None) -> None:
    token = make_bearer(signer, audience_of("consent", NETWORK), now=NOON, request=line).encode()
    found = tokens(token, b"", token)

    assert found.keys() == {0, 2}
    assert found[0] == found[2] == alone(token)


@given(st.lists(EDITS, min_size=1, max_size=3))
def test_a_token_with_changed_bytes_is_read_only_as_alone(edits: list[Any]) -> None:
    token = TOKEN.encode()
    for edit in edits:
        token = edited(token, edit)

    for signed in tokens(token).values():
        require_same_token(token, signed)


@given(st.lists(EDITS, max_size=3), st.lists(EDITS, max_size=2), st.binary(min_size=62, max_size=66))
def test_a_token_of_changed_claims_or_of_a_changed_header_is_read_only_as_alone(
    of_claims: list[Any], of_header: list[Any], signature: bytes
) -> None:
    claims, header = CLAIMS, HEAD
    for edit in of_claims:
        claims = edited(claims, edit)
    for edit in of_header:
        header = edited(header, edit)
    token = b".".join(map(base64url, (header, claims, signature)))

    for signed in tokens(token).values():
        require_same_token(token, signed)


@given(st.data())
def test_a_token_with_another_value_in_its_claims_is_read_only_as_alone(draw: st.DataObject) -> None:
    path = draw.draw(st.sampled_from(places_in(as_json(CLAIMS))))
    token = b".".join(
        [HEADER, base64url(with_token(CLAIMS, path, draw.draw(st.sampled_from(TOKENS)))), SIGNATURE]
    )

    for signed in tokens(token).values():
        require_same_token(token, signed)


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b"..",
        b"." * 200,
        HEADER + b"." + PAYLOAD,
        b"." + PAYLOAD + b"." + SIGNATURE,
        HEADER + b".." + SIGNATURE,
        HEADER + b"." + PAYLOAD + b"." + SIGNATURE + b"=",
        HEADER + b"." + PAYLOAD + b"." + SIGNATURE[:-1],
        # Loose bits: another text of the same bytes.
        HEADER + b"." + PAYLOAD + b"." + SIGNATURE[:-1] + bytes([SIGNATURE[-1] + 1]),
        HEADER + b"." + PAYLOAD + b"." + PAYLOAD + b"." + SIGNATURE,
        HEADER + b"." + base64url(CLAIMS.replace(b'"iss"', b' "iss"')) + b"." + SIGNATURE,
        HEADER + b"." + base64url(CLAIMS.replace(b'"sub":"did', b'"sub":"dit')) + b"." + SIGNATURE,
        HEADER + b"." + base64url(CLAIMS[:-1] + b',"more":1}') + b"." + SIGNATURE,
        HEADER + b"." + base64url(CLAIMS.replace(b"/consents", b"/" + b"c" * 4000)) + b"." + SIGNATURE,
        base64url(HEAD.replace(b"JWT", b"JWS")) + b"." + PAYLOAD + b"." + SIGNATURE,
        base64url(HEAD.replace(b"EdDSA", b"none")) + b"." + PAYLOAD + b"." + SIGNATURE,
        base64url(HEAD.replace(b'"typ"', b'"crit":["b64"],"typ"')) + b"." + PAYLOAD + b"." + SIGNATURE,
    ],
)
def test_of_what_is_no_token_nothing_is_said(token: bytes) -> None:
    assert tokens(token, token) == {}


@needs_library
@pytest.mark.parametrize("span", [(5, 3), (0, 9999), (2**64 - 1, 2**64 - 1)])
def test_places_that_are_not_within_the_events_are_refused(span: tuple[int, int]) -> None:
    spans = array("Q", bytes(8 * len(Mark)))
    spans[Mark.PROOF], spans[Mark.PROOF_END] = span

    with pytest.raises(ValueError, match="astray"):
        signed_tokens(Attributes((), TOKEN.encode(), array("i", [0]), spans, array("q", [0])))


def test_a_library_that_is_missing_is_done_without(tmp_path: Path) -> None:
    assert jws_batch.load(str(tmp_path / "none.native")) is None


# --- verdicts ----------------------------------------------------------------------------------------


def stated(data: Any, edits: Sequence[Any] = (), **changes: Any) -> Row:
    """The record by which a service states data, signed after its bytes were changed."""
    entry = type_of(data)
    signer = SERVICES[entry.owner]
    value = encoded(data, source=signer.did)
    for edit in edits:
        value = edited(value, edit)
    facts: dict[str, Any] = {"signer": signer, "topic": entry.topic, "key": subject_of(data).encode()}
    return row(value, **(facts | changes))


# A type is proposed by a schema, and not by any text.
# A session is asked for by an ID token: `test_sessions`.
ASKED = [entry for entry in TYPES if entry.data not in {EventTypeProposed, SessionOpened}]


def asked_of(entry: EventType, alphabet: Alphabet = ANY_TEXT) -> st.SearchStrategy[Any]:
    return data_of(entry, alphabet).map(lambda data: requested(data, service=SERVICES[entry.owner].did))


def records_of_type(entry: EventType) -> st.SearchStrategy[Row]:
    """Records as they are asked for, changed, of another signer, elsewhere, too late, unasked."""
    asked = asked_of(entry)
    unasked = st.builds(lambda data, by: msgspec.structs.replace(data, request=by), data_of(entry), REQUESTS)
    return st.one_of(
        st.builds(stated, asked),
        st.builds(stated, asked, st.lists(EDITS, min_size=1, max_size=2)),
        st.builds(stated, asked, signer=st.just(OTHER_MEMBER)),
        st.builds(stated, asked, topic=st.just("salus.clinical.events")),
        st.builds(stated, asked, key=st.just(b"another")),
        st.builds(stated, asked, timestamp_ms=st.just(0)),
        st.builds(stated, unasked),
    )


ANY_RECORDS = st.lists(st.sampled_from(ASKED).flatmap(records_of_type), max_size=3)


def by_steps(rows: list[Row]) -> list[Event | RejectedError]:
    return judged(rows).verdicts()


def judged(rows: list[Row]) -> BatchJudging:
    steps = BatchJudging([record for part in records_of(rows) for record in part], ring=RING)
    while steps.judge(2):
        pass
    steps.verify()
    return steps


def told(said: Any) -> Any:
    if isinstance(said, RejectedError):
        return said.reason, said.detail
    return said.data, msgspec.json.encode(said.envelope), said.envelope.time, said.type


@for_each_type(
    ANY_RECORDS, of=ASKED, drawn=lambda entry: st.lists(records_of_type(entry), min_size=1, max_size=3)
)
def test_records_with_requests_are_judged_together_as_one_by_one(
    of_type: list[Row], others: list[Row]
) -> None:
    rows = [*of_type, *others]
    for library in {canonical._requested_reader(CATALOGUE), None}:
        with mock.patch.object(canonical, "_requested_reader", return_value=library):
            said = [told(one) for one in by_steps(rows)]
        for found, record in zip(said, rows, strict=True):
            one = verdict(record, at=appended_at(record.timestamp_ms))
            assert found == told(one if isinstance(one, RejectedError) else one.event)


@needs_library
@for_each_type(
    of=[entry for entry in ASKED if entry.data not in WITHOUT_PROGRAM],
    drawn=lambda entry: asked_of(entry, PLAIN_TEXT),
)
def test_a_request_as_most_are_is_not_read_by_itself(data: Any) -> None:
    record = stated(data)
    assume(record.value is not None and is_plain(record.value))
    with (
        mock.patch.object(judging, "decode_event", side_effect=AssertionError),
        mock.patch.object(batch_judging, "read_bearer", side_effect=AssertionError),
    ):
        (said,) = by_steps([record])

    assert isinstance(said, Event)
    assert record.value == msgspec.json.encode(said.envelope)


@pytest.mark.parametrize("holds", [True, False], ids=["holds", "does not hold"])
def test_a_type_counts_only_if_it_holds_at_the_moment_of_the_record(*, holds: bool) -> None:
    request = Request.of_service(SERVICES["consent"].did)
    record = stated(PolicySetAdopted(policy_set="0" * 64, contract="1" * 64, request=request))
    other = Catalogue([context for context in CONTEXTS if context.name != "consent"])
    with mock.patch.object(TypeRegistry, "catalogue_at", return_value=CATALOGUE if holds else other):
        (said,) = by_steps([record])
        one = verdict(record)

    assert isinstance(said, Event) == holds
    assert told(said) == told(one if isinstance(one, RejectedError) else one.event)


def test_what_was_judged_is_gone_with_the_last_who_holds_it() -> None:
    """Records of a backlog that wait for the collector of cycles are memory that grows."""
    request = Request.of_service(SERVICES["consent"].did)
    steps = judged([stated(PolicySetAdopted(policy_set="0" * 64, contract="1" * 64, request=request))] * 3)
    steps.verdicts()
    seen = weakref.ref(steps)
    gc.disable()
    try:
        del steps
        is_gone = seen() is None
    finally:
        gc.enable()

    assert is_gone
