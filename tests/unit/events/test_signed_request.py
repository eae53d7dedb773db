"""What an event carries of a request is what the request means: all read it for ever (red team 3, 7)."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import NETWORK, UNASKED, asked_by, truly_asked
from tests.unit.events.samples import MEMBER, NOON, OTHER_MEMBER, PATIENT, public_key
from tests.unit.events.test_accountability import GRANT, STORED

from salus.client.auth import RequestLine, make_approval, make_bearer, make_possession
from salus.events.accountability import require_asked
from salus.events.bearer import APPROVAL, BearerError, audience_of, read_bearer
from salus.events.contexts import CATALOGUE, CONTEXTS, consent, identity
from salus.events.errors import RejectedError
from salus.events.event_types import type_of
from salus.events.possession import PossessionError, verify_possession
from salus.events.requests import BODY_CHARS_MAX
from salus.events.signed_request import Asked, Body
from salus.ledger.times import read_time

WORDS = "Jane Roe, born 1980-01-01, HIV positive. "
CONSENT = GRANT.consent
FACTS: list[Any] = [
    GRANT,
    consent.ConsentRevoked(consent=CONSENT, patient=PATIENT, epoch=1, request=UNASKED),
    consent.PatientLinked(patient=PATIENT, did=MEMBER.did, request=UNASKED),
    consent.PatientUnlinked(patient=PATIENT, did=MEMBER.did, epoch=1, request=UNASKED),
    identity.RoleGranted(did=MEMBER.did, role="clinician", request=UNASKED),
    identity.RoleWithdrawn(did=MEMBER.did, role="patient", request=UNASKED),
    identity.KeyRevoked(did=MEMBER.did, key_id=public_key(MEMBER).id, reason="left", request=UNASKED),
    identity.KeyAdded(did=MEMBER.did, key=public_key(MEMBER), request=UNASKED),
    STORED,
]
COMMANDS = [data for data in FACTS if data is not STORED]
OPENAPI = Path(__file__).parents[3] / "docs" / "openapi"


def name_of(data: Any) -> str:
    return type(data).__name__


def line_of(data: Any) -> tuple[str, str, bytes | None]:
    """Return method, target and body of the request that asks for this."""
    request = truly_asked(data, MEMBER, at=NOON).request
    claims = json.loads(base64.urlsafe_b64decode(request.proof.split(".")[1] + "=="))
    return claims["htm"], claims["htu"], request.body.encode() if request.body is not None else None


def asked_for(data: Any, method: str, target: str, body: bytes | None) -> Any:
    request = asked_by(MEMBER, str(type_of(data).owner), method, target, at=NOON, raw=body)
    return msgspec.structs.replace(data, request=request)


def is_stated(data: Any) -> bool:
    try:
        require_asked(data, catalogue=CATALOGUE, network=NETWORK)
    except RejectedError:
        return False
    return True


@pytest.mark.parametrize("data", FACTS, ids=name_of)
def test_a_request_asks_for_its_fact_and_for_nothing_else(data: Any) -> None:
    method, target, body = line_of(data)
    mark = "&" if "?" in target else "?"

    assert is_stated(asked_for(data, method, target, body))
    for more in ("note=Jane%20Roe", "&&&&", "patient=x", "=x"):
        assert not is_stated(asked_for(data, method, target + mark + more, body)), more


@pytest.mark.parametrize("data", COMMANDS, ids=name_of)
def test_a_body_has_the_members_that_its_command_knows(data: Any) -> None:
    method, target, body = line_of(data)
    if body is None:
        assert not is_stated(asked_for(data, method, target, WORDS.encode()))
        assert not is_stated(asked_for(data, method, target, b"{}"))
        return
    said = json.loads(body)
    pretty = json.dumps(said, indent=4).encode()

    assert is_stated(asked_for(data, method, target, pretty))
    assert not is_stated(asked_for(data, method, target, json.dumps({**said, "note": WORDS}).encode()))
    assert not is_stated(asked_for(data, method, target, body + b" " * 1000))
    assert not is_stated(asked_for(data, method, target, body[:-1] + b"\n" * 2000 + b"}"))


class Command(Body):
    one: str
    many: tuple[str, ...]
    moment: datetime


@given(
    st.text(max_size=40),
    st.lists(st.text(max_size=9), max_size=3),
    st.datetimes(datetime(1970, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_a_body_that_is_written_as_it_says_need_not_be_read(
    one: str, many: list[str], moment: datetime
) -> None:
    said = Command(one, tuple(many), moment)
    body = msgspec.json.encode(said)
    asked, spaced, unknown = (
        Asked.of(method="POST", target="/c", body=each, digest=None) for each in (body, b" " + body, None)
    )

    assert asked.is_written_as(said)
    assert asked.read(Command) == said
    assert not asked.is_written_as(Command(f"{one}.", tuple(many), moment))
    assert not spaced.is_written_as(said)
    assert not unknown.is_written_as(said)


def test_members_within_a_body_are_known_ones_too() -> None:
    data = next(data for data in FACTS if isinstance(data, identity.KeyAdded))
    method, target, body = line_of(data)
    said = json.loads(body or b"")
    said["key"]["note"] = WORDS

    assert not is_stated(asked_for(data, method, target, json.dumps(said).encode()))


def test_a_body_has_a_size() -> None:
    method, target, body = line_of(GRANT)
    said = json.loads(body or b"")
    said["actions"] *= 5000

    assert not is_stated(asked_for(GRANT, method, target, json.dumps(said).encode()))


def test_a_digest_is_that_of_nothing_where_there_is_no_body() -> None:
    data = FACTS[1]
    method, target, _ = line_of(data)
    named = asked_for(data, method, target, b"Jane")
    without = msgspec.structs.replace(named, request=msgspec.structs.replace(named.request, body=None))

    assert not is_stated(without)
    assert is_stated(asked_for(data, method, target, b""))


def test_what_is_no_command_is_in_no_event() -> None:
    assert not is_stated(asked_for(STORED, *line_of(STORED)[:2], WORDS.encode()))


@pytest.mark.parametrize(
    ("target", "stated"),
    [
        ("/fhir/Consent", True),
        ("/fhir/Consent?_format=json", True),
        ("/fhir/Consent?_format=application/fhir+json", True),
        ("/fhir/Consent?_format=application/fhir%2Bjson;fhirVersion=4.0", True),
        ("/fhir/Consent?_format=Application/FHIR+JSON;%20charset=UTF-8;%20fhirVersion=4.0", True),
        ("/fhir/Consent?_pretty=true", True),
        ("/fhir/Consent?_format=json&_pretty=false", True),
        ("/fhir/Consent?_pretty=Jane", False),
        ("/fhir/Consent?_pretty=true&_pretty=true", False),
        ("/fhir/Consent?_format=application/fhir+json;fhirVersion=5.0", False),
        ("/fhir/Consent?_format=application/fhir+json;%20%20charset=utf-8", False),
        ("/fhir/Consent?_format=application/fhir+json;charset=utf-8;charset=utf-8", False),
        ("/fhir/Consent?_format=json;Jane", False),
        ("/fhir/Consent?_summary=Jane", False),
    ],
)
def test_a_fhir_request_names_its_format_and_nothing_else(target: str, *, stated: bool) -> None:
    data = asked_for(GRANT, "POST", target, b"{}")
    kept = msgspec.structs.replace(data, request=msgspec.structs.replace(data.request, body=None))

    assert is_stated(kept) is stated


def signed(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, claims)]
    signature = MEMBER.sign(b".".join(parts))
    return b".".join([*parts, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()


def parts_of(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])
    return header, claims


LINE = RequestLine("POST", "/consents", b"{}")
AT_CONSENT = audience_of("consent", NETWORK)
TOKENS = {
    AT_CONSENT: make_bearer(MEMBER, AT_CONSENT, now=NOON, request=LINE),
    audience_of(APPROVAL, NETWORK): make_approval(OTHER_MEMBER, LINE, network=NETWORK, now=NOON),
}


@pytest.mark.parametrize("audience", TOKENS)
@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({}, {"note": WORDS}),
        ({"jwk": {"note": WORDS}}, {}),
        ({"typ": WORDS}, {}),
        ({}, {"jti": WORDS}),
        ({}, {"jti": "x" * 65}),
        ({}, {"jti": ""}),
        ({}, {"dig": WORDS}),
    ],
)
def test_a_token_says_what_it_is_for_and_no_more(
    audience: str, header: dict[str, Any], claims: dict[str, Any]
) -> None:
    head, body = parts_of(TOKENS[audience])
    read_bearer(signed(head, body), audience=audience, lifetime_s_max=10**6)

    with pytest.raises(BearerError) as refused:
        read_bearer(signed({**head, **header}, {**body, **claims}), audience=audience, lifetime_s_max=10**6)
    assert WORDS not in str(refused.value)


@pytest.mark.parametrize("more", [{"note": WORDS}, {"jti": WORDS}])
def test_a_proof_of_possession_says_no_more_either(more: dict[str, Any]) -> None:
    header, claims = parts_of(make_possession(MEMBER, network=NETWORK, now=NOON))
    key = public_key(MEMBER)
    verify_possession(signed(header, claims), key=key, member=None, network=NETWORK, at=NOON)

    with pytest.raises(PossessionError) as refused:
        verify_possession(signed(header, {**claims, **more}), key=key, member=None, network=NETWORK, at=NOON)
    assert WORDS not in str(refused.value)


@pytest.mark.parametrize("service", ["identity", "consent", "storage"])
def test_every_request_that_may_make_an_event_has_a_form(service: str) -> None:
    document = json.loads((OPENAPI / f"{service}.json").read_text())
    changing = [
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method in methods
        if method in {"post", "put", "delete", "patch"}
    ]

    assert changing
    for method, path in changing:
        asked = Asked.of(method=method, target=path, body=None, digest=None)
        form = CATALOGUE.form_of(asked, service=service)
        assert form is not None, (method, path)
        body = document["paths"][path][method.lower()].get("requestBody", {}).get("content", {})
        if (method, path) == ("POST", "/policies"):
            # The files stand in the event's data, so they are not there twice.
            continue
        # A command of our API is JSON, or the form of a token exchange, and is in the event; anything else is
        # not, nor what AuthZEN has: it demands that unknown members are ignored, so they could be any words.
        is_json = "application/json" in body and not path.startswith("/access/")
        is_command = is_json or "application/x-www-form-urlencoded" in body
        assert bool(form.body_bytes_max) is is_command, (method, path)


def test_no_form_takes_more_than_an_event_has_room_for() -> None:
    assert max(form.body_bytes_max or 0 for context in CONTEXTS for form in context.forms) <= BODY_CHARS_MAX


# --- red team 3, 18 ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "same"),
    [
        ("2026-12-01T12:00:00.9999999Z", "2026-12-01T12:00:00.999999Z"),
        ("2026-11-30T23:59:60Z", "2026-11-30T23:59:59.999999Z"),
        ("2026-12-01t13:00:00.5+01:00", "2026-12-01T12:00:00.5Z"),
    ],
)
def test_who_judges_a_time_reads_it_as_who_took_it(written: str, same: str) -> None:
    moment = read_time(same)
    data = msgspec.structs.replace(GRANT, valid_until=moment)
    method, target, body = line_of(GRANT)
    said = json.dumps({**json.loads(body or b""), "valid_until": written}).encode()

    assert is_stated(asked_for(data, method, target, said))
    later = msgspec.structs.replace(data, valid_until=moment + timedelta(microseconds=1))
    assert not is_stated(asked_for(later, method, target, said))


@pytest.mark.parametrize(
    "written", ["2026-12-01T12:00:60Z", "2026-12-01 12:00:00Z", "2026-12-01", 1796000000]
)
def test_what_is_no_time_to_the_one_rule_is_none_to_who_judges(written: Any) -> None:
    method, target, body = line_of(GRANT)
    said = json.dumps({**json.loads(body or b""), "valid_until": written}).encode()

    assert not is_stated(asked_for(GRANT, method, target, said))


DECISION = consent.AccessDecided(
    decision=f"{PATIENT}/d",
    principal=MEMBER.did,
    action="read",
    object="o",
    patient=PATIENT,
    purpose="TREAT",
    allowed=False,
    reasons=("no-policy-permits",),
    policy_set="0" * 64,
    inputs="0" * 64,
    state_positions=(),
    epoch=0,
    decided_at=NOON,
    valid_until=NOON,
    request=msgspec.structs.replace(UNASKED, by=MEMBER.did),
)


@pytest.mark.parametrize(
    ("service", "asks"), [("storage", True), ("trials", True), (WORDS, False), ("salus:trials", False)]
)
def test_who_asks_for_a_decision_names_the_service_that_acts_by_it_and_no_words(service, asks):
    """Issue 13, section 2: a decision is meant for any service."""
    body = {"action": "read", "object": "o", "patient": PATIENT, "purpose": "TREAT", "service": service}
    asked = Asked.of(method="POST", target="/decisions", body=json.dumps(body).encode(), digest=None)

    assert CATALOGUE.asks_for(asked, DECISION) == asks


@pytest.mark.parametrize(
    ("path", "item", "asks"),
    [
        ("/access/v1/evaluation", None, True),
        ("/access/v1/evaluation", 0, False),
        ("/access/v1/evaluations", 0, True),
        ("/access/v1/evaluations", consent.QUESTIONS_MAX - 1, True),
        # One request was good for any number of decisions (case redA8 10).
        ("/access/v1/evaluations", consent.QUESTIONS_MAX, False),
        # Without a list it is one evaluation (case redA8 9).
        ("/access/v1/evaluations", None, True),
    ],
)
def test_an_authzen_request_asks_for_so_many_decisions(path, item, asks):
    data = msgspec.structs.replace(DECISION, item=item)
    asked = Asked.of(method="POST", target=path, body=None, digest="0" * 64)

    assert CATALOGUE.asks_for(asked, data) == asks
