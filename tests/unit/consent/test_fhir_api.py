"""FHIR over HTTP: every answer is a FHIR resource, and every header that changes a meaning counts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, get_args

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI
from tests.asking import FixedCallers
from tests.unit.consent.test_handlers import CLINICIAN, HOSPITAL, NOW, PATIENT, STRANGER, Memory

from salus.access.prohibitions import Prohibition
from salus.access.state import Consent
from salus.consent import api, fhir_api, prohibitions_api
from salus.consent.adapters.fhir.consent import render, render_prohibition
from salus.consent.adapters.fhir.elements import ISSUES_MAX
from salus.consent.adapters.fhir.identifier_marks import IdentifierMarks
from salus.consent.fhir_creation import FhirApi
from salus.contracts.testing.faults import Fault
from salus.events.contexts.consent_prohibitions import AccessProhibited
from salus.events.contexts.identity import PartyKind
from salus.events.did import LocalSigner
from salus.events.parties import Party
from salus.runtime import problems
from salus.runtime.bodies import guard_bodies
from salus.runtime.problems import ProblemError
from salus.runtime.request_headers import guard_headers

FHIR = {"Content-Type": "application/fhir+json"}
FORM = {"system": "urn:oid:2.25.1", "value": "paper-form-17"}
UNLESS = {"If-None-Exist": "identifier=urn:oid:2.25.1|paper-form-17"}
STEWARD = Party(did=HOSPITAL, kind="member", roles=frozenset(), member=None)


def marks(key: bytes = b"k") -> IdentifierMarks:
    return IdentifierMarks(LocalSigner(Ed25519PrivateKey.from_private_bytes(key * 32)))


class Server:
    """The consent API over memory, and who is calling it."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.caller: Party | None = STEWARD
        self.key = b"k"

    def find(self, _: object) -> Party:
        if self.caller is None:
            raise ProblemError(401, "unauthenticated", "who?")
        return self.caller

    def app(self) -> FastAPI:
        app = FastAPI()
        problems.install(app)
        guard_bodies(app, streams=())
        guard_headers(app, streams=())
        shared = api.Api(world=self.memory.world, authenticate=FixedCallers(self.find), now=lambda: NOW)
        app.include_router(api.routes(shared))
        app.include_router(prohibitions_api.routes(shared))
        fhir_api.install(app, FhirApi(shared, marks(self.key)))
        return app

    async def ask(self, method: str, path: str, resource: Any = None, **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(self.app(), raise_app_exceptions=False)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with httpx.AsyncClient(transport=transport, base_url="http://consent") as client:
            if resource is None or isinstance(resource, bytes):
                return await client.request(method, path, content=resource, headers=FHIR | named)
            return await client.request(method, path, json=resource, headers=FHIR | named)

    async def create(self, resource: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        return await self.ask("POST", "/fhir/Consent", resource, **(headers or {}))


@pytest.fixture
def server() -> Server:
    return Server()


def consent(**more: Any) -> dict[str, Any]:
    ours = Consent("c", CLINICIAN, ("read",), ("TREAT",), NOW, NOW + timedelta(days=1))
    return {**render(ours, patient=PATIENT), **more}


ONE = consent(identifier=[FORM])


async def test_metadata_needs_no_token(server: Server) -> None:  # case F3
    server.caller = None
    answer = await server.ask("GET", "/fhir/metadata")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/fhir+json")
    assert (answer.json()["resourceType"], answer.json()["fhirVersion"]) == ("CapabilityStatement", "4.0.1")


@pytest.mark.parametrize(
    ("method", "path", "body", "headers", "status", "code"),
    [
        ("GET", "/fhir/Consent/none", None, {}, 404, "not-found"),
        ("GET", "/fhir/Patient/1", None, {}, 404, "not-found"),
        ("GET", "/fhir", None, {}, 404, "not-found"),
        ("PUT", "/fhir/Consent/none", ONE, {}, 405, "not-supported"),
        ("DELETE", "/fhir/Consent/none", None, {}, 405, "not-supported"),
        ("GET", "/fhir/Consent", None, {}, 400, "invalid"),
        ("GET", f"/fhir/Consent?patient={PATIENT}&actor=x", None, {}, 400, "invalid"),
        ("GET", f"/fhir/Consent?patient={PATIENT}&patient={PATIENT}", None, {}, 400, "invalid"),
        ("GET", "/fhir/Consent?patient=Patient/1", None, {}, 400, "invalid"),
        # Red team 3, case 16: each was a 500.
        ("GET", f"/fhir/Consent?patient={PATIENT}" + "&_format=json" * 17, None, {}, 400, "invalid"),
        ("POST", "/fhir/Consent", ONE, {"If-None-Exist": "identifier=a|b" + "&x=1" * 17}, 412, "conflict"),
        ("POST", "/fhir/Consent", ONE, {"Content-Type": "application/fhir+xml"}, 415, "not-supported"),
        ("POST", "/fhir/Consent", ONE, {"Content-Type": "text/plain"}, 415, "not-supported"),
        (
            "POST",
            "/fhir/Consent",
            ONE,
            {"Content-Type": "application/json; charset=utf-16"},
            415,
            "not-supported",
        ),
        (
            "POST",
            "/fhir/Consent",
            ONE,
            {"Content-Type": "application/fhir+json; fhirVersion=5.0"},
            415,
            "not-supported",
        ),
        ("POST", "/fhir/Consent", ONE, {"Content-Encoding": "gzip"}, 415, "not-supported"),
        ("POST", "/fhir/Consent", ONE, {"Accept": "application/fhir+xml"}, 406, "not-supported"),
        ("POST", "/fhir/Consent", ONE, {"Accept": "application/fhir+json;q=0"}, 406, "not-supported"),
        ("POST", "/fhir/Consent", ONE, {"Accept": "application/fhir+json;q=0.0000"}, 406, "not-supported"),
        ("POST", "/fhir/Consent", ONE, {"Accept": 'a/b, application/json; x="'}, 406, "not-supported"),
        ("POST", "/fhir/Consent?_format=xml", ONE, {}, 406, "not-supported"),
        (
            "GET",
            "/fhir/Consent/x?_format=application/fhir%2Bjson;fhirVersion=5.0",
            None,
            {},
            406,
            "not-supported",
        ),
        ("GET", "/fhir/Consent/x?_format=json;charset=utf-16", None, {}, 406, "not-supported"),
        ("GET", "/fhir/Consent/x?_pretty=1", None, {}, 400, "invalid"),
        ("POST", "/fhir/Consent", ONE, {"If-Match": 'W/"1"'}, 412, "conflict"),
        ("POST", "/fhir/Consent", ONE, {"If-None-Match": "*"}, 412, "conflict"),
        ("POST", "/fhir/Consent", ONE, {"If-None-Exist": f"patient={PATIENT}"}, 412, "conflict"),
        ("POST", "/fhir/Consent", ONE, {"If-None-Exist": "identifier=paper-form-17"}, 412, "conflict"),
        ("POST", "/fhir/Consent", ONE, {"If-None-Exist": "identifier=a|b,c|d"}, 412, "conflict"),
        ("POST", "/fhir/Consent", ONE, {"If-None-Exist": "identifier=a|b"}, 422, "value"),
        ("POST", "/fhir/Consent", consent(), UNLESS, 422, "value"),
        ("POST", "/fhir/Consent", ONE, {"Idempotency-Key": "12345678"}, 422, "not-supported"),
        ("POST", "/fhir/Consent", consent(), {"Idempotency-Key": "1"}, 422, "invalid"),
        ("POST", "/fhir/Consent", ONE, {"X-Provenance": "{}"}, 400, "invalid"),
        ("POST", "/fhir/Consent", b"{", {}, 422, "structure"),
        ("POST", "/fhir/Consent", b'{"a":1,"a":2}', {}, 422, "structure"),
        ("POST", "/fhir/Consent", b" " * 300_000, {}, 413, "too-long"),
        ("POST", "/fhir/Consent", b" " * 2_000_000, {}, 413, "too-long"),
        ("POST", "/fhir/Consent", consent(status="draft"), {}, 422, "not-supported"),
    ],
)
async def test_a_refusal_is_an_operation_outcome_and_grants_nothing(  # noqa: PLR0917  # cases F1 to F3, formats 6 and 7
    server: Server, method: str, path: str, body: Any, headers: dict[str, str], status: int, code: str
) -> None:
    answer = await server.ask(method, path, body, **headers)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/fhir+json")
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert {issue["code"] for issue in answer.json()["issue"]} == {code}
    assert server.memory.log == []


@pytest.mark.parametrize(
    ("change", "status", "code", "stable"),
    [
        ({"caller": None}, 401, "login", "unauthenticated"),
        ({"caller": Party("did:web:x", "member", frozenset(), None)}, 403, "forbidden", "not-permitted"),
        ({"away": True}, 503, "transient", "unavailable"),
        ({"fault": Fault.LOST}, 503, "transient", "outcome-unknown"),
        ({"broken": RuntimeError("broken")}, 500, "exception", "internal-error"),
        ({"grantee": "did:web:nobody"}, 422, "processing", "unknown-grantee"),
        ({"end": "2026-11-01"}, 422, "processing", "invalid-period"),
    ],
)
async def test_what_the_contract_and_the_parts_say_is_an_operation_outcome(
    server: Server, change: dict[str, Any], status: int, code: str, stable: str
) -> None:
    resource = consent()
    if "caller" in change:
        server.caller = change["caller"]
    server.memory.topics.is_away = "away" in change
    server.memory.topics.faults.add(change.get("fault"))
    if "broken" in change:
        server.memory.catch_up = _raising(change["broken"])  # type: ignore[method-assign]  # the part that fails
    if "grantee" in change:
        resource["provision"]["actor"][0]["reference"]["identifier"]["value"] = change["grantee"]
    if "end" in change:
        resource["provision"]["period"] = {"start": "2026-10-01", "end": change["end"]}
    answer = await server.create(resource)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/fhir+json")
    (issue,) = answer.json()["issue"]
    assert (issue["code"], issue["details"]["coding"][0]["code"]) == (code, stable)
    assert ("www-authenticate" in answer.headers) is (status == 401)


def _raising(error: Exception) -> Any:
    async def catch_up() -> None:
        raise error

    return catch_up


@pytest.mark.parametrize(("path", "allowed"), [("/fhir/Consent/x", "GET"), ("/fhir/Consent", "GET, POST")])
async def test_a_405_says_what_is_allowed(server: Server, path: str, allowed: str) -> None:  # case F3
    assert (await server.ask("PATCH", path)).headers["allow"] == allowed


async def test_a_conditional_create_grants_once(server: Server) -> None:  # case F2
    first, second = await server.create(ONE, UNLESS), await server.create(ONE, UNLESS)

    assert (first.status_code, second.status_code) == (201, 200)
    assert first.headers["location"] == second.headers["location"] == f"/fhir/Consent/{first.json()['id']}"
    assert second.json() == first.json()
    assert len(server.memory.log) == 1


async def test_a_condition_finds_what_was_created_without_one(server: Server) -> None:  # case F2
    first, second = await server.create(ONE), await server.create(ONE, UNLESS)

    assert (first.status_code, second.status_code) == (201, 200)
    assert second.json() == first.json()


@pytest.mark.parametrize("headers", [UNLESS, {"Idempotency-Key": "paper-form-17"}])
async def test_a_create_is_not_found_done_once_its_consent_was_revoked(
    server: Server, headers: dict[str, str]
) -> None:
    """Case threat model, second attack, sibling: 200 or 201 for a consent that was taken back."""
    resource = ONE if headers is UNLESS else consent()
    first = await server.create(resource, headers)
    name = first.json()["id"]
    assert (await server.ask("POST", f"/consents/{name}/revoke")).status_code == 200
    again = await server.create(resource, headers)

    (issue,) = again.json()["issue"]
    assert (again.status_code, issue["details"]["coding"][0]["code"]) == (409, "consent-revoked")
    assert name in issue["diagnostics"]


def other(**changes: Any) -> dict[str, Any]:
    """Return the resource with the same identifier that grants something else."""
    ours = Consent("c", CLINICIAN, ("read",), ("TREAT",), NOW, NOW + timedelta(days=1))
    return {**render(msgspec.structs.replace(ours, **changes), patient=PATIENT), "identifier": [FORM]}


@pytest.mark.parametrize(
    ("changes", "element"),
    [
        ({"grantee": STRANGER}, "provision.actor[0].reference"),
        ({"actions": ("read", "write")}, "provision.action"),
        ({"purposes": ("TREAT", "ETREAT")}, "provision.purpose"),
        ({"valid_from": NOW - timedelta(days=1)}, "provision.period.start"),
        ({"valid_until": NOW + timedelta(days=100)}, "provision.period.end"),
    ],
)
@pytest.mark.parametrize("prefer", ["OperationOutcome", "minimal", "representation"])
async def test_a_condition_that_finds_another_grant_names_what_differs(
    server: Server, changes: dict[str, Any], element: str, prefer: str
) -> None:
    """Case A8: 200 `done`, though the consent of this identifier is of another grantee, and longer."""
    first = await server.create(ONE, UNLESS)
    answer = await server.create(other(**changes), {**UNLESS, "Prefer": f"return={prefer}"})

    (issue,) = answer.json()["issue"]
    assert (answer.status_code, issue["details"]["coding"][0]["code"]) == (409, "consent-differs")
    assert (issue["code"], issue["expression"]) == ("conflict", [f"Consent.{element}"])
    assert "location" not in answer.headers
    assert len(server.memory.log) == 1
    both = other(grantee=STRANGER, valid_until=NOW + timedelta(days=9))
    named = [issue["expression"][0] for issue in (await server.create(both, UNLESS)).json()["issue"]]
    assert named == ["Consent.provision.actor[0].reference", "Consent.provision.period.end"]
    assert (await server.create(ONE, UNLESS)).headers["location"] == first.headers["location"]


async def test_what_was_granted_before_is_not_answered_as_granted_now(server: Server) -> None:  # case A8
    wanted = {**UNLESS, "Prefer": "return=OperationOutcome"}
    told = [(await server.create(ONE, wanted)).json()["issue"][0]["diagnostics"] for _ in range(2)]

    assert told == ["it is in force", "it was stated before, and is in force"]


async def test_a_role_is_granted_at_a_member_and_at_nobody_else(server: Server) -> None:
    to_clinicians = other(grantee=HOSPITAL, role="clinician")
    of_a_person = await server.create(other(role="clinician"), UNLESS)
    granted, again = [await server.create(to_clinicians, UNLESS) for _ in range(2)]
    differs = [
        await server.create(resource, UNLESS)
        for resource in (other(grantee=HOSPITAL), other(grantee=HOSPITAL, role="researcher"), other())
    ]

    (issue,) = of_a_person.json()["issue"]
    assert (of_a_person.status_code, issue["details"]["coding"][0]["code"]) == (422, "role-without-member")
    assert issue["expression"] == ["Consent.contained[0].organization"]
    assert (granted.status_code, again.status_code) == (201, 200)
    assert granted.json()["contained"] == to_clinicians["contained"]
    for answer in differs:
        (issue,) = answer.json()["issue"]
        assert (answer.status_code, issue["details"]["coding"][0]["code"]) == (409, "consent-differs")
        assert issue["expression"] == ["Consent.provision.actor[0].reference"]
    assert len(server.memory.log) == 1


KINDS = {
    "Device": "device",
    "Organization": "member",
    "Patient": "person",
    "Practitioner": "person",
    "PractitionerRole": "person",
    "RelatedPerson": "person",
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("kind", get_args(PartyKind))
@pytest.mark.parametrize("how", ["identifier", "reference"])
async def test_a_grantee_is_what_its_reference_says_it_is(
    server: Server, name: str, kind: PartyKind, how: str
) -> None:
    """Case A9: a Practitioner with a member's DID was granted to all of the member's people."""
    server.memory.parties["did:web:other"] = Party("did:web:other", kind, frozenset(), None)
    uri = {"reference": "did:web:other"}
    if how == "identifier":
        uri = {"identifier": {"system": "urn:ietf:rfc:3986", "value": "did:web:other"}}  # type: ignore[dict-item]
    resource = consent()
    resource["provision"]["actor"][0]["reference"] = {**uri, "type": name}
    answer = await server.create(resource)

    if KINDS[name] == kind:
        assert (answer.status_code, len(server.memory.log)) == (201, 1)
        return
    (issue,) = answer.json()["issue"]
    assert (answer.status_code, issue["details"]["coding"][0]["code"]) == (422, "grantee-differs")
    assert (issue["code"], issue["expression"]) == ("value", ["Consent.provision.actor[0].reference.type"])
    assert server.memory.log == []


@pytest.mark.parametrize("headers", [UNLESS, {"Idempotency-Key": "paper-form-17"}])
async def test_a_repetition_that_takes_the_grantee_for_a_person_is_not_found_done(
    server: Server, headers: dict[str, str]
) -> None:
    """Case A9, sibling: the first create named no type, the second a Practitioner."""
    resource = other(grantee=STRANGER)
    if headers is not UNLESS:
        del resource["identifier"]
    assert (await server.create(resource, headers)).status_code == 201
    resource["provision"]["actor"][0]["reference"]["type"] = "Practitioner"
    answer = await server.create(resource, headers)

    (issue,) = answer.json()["issue"]
    assert (answer.status_code, issue["details"]["coding"][0]["code"]) == (422, "grantee-differs")


def denial(**changes: Any) -> dict[str, Any]:
    ours = Prohibition("p", NOW, CLINICIAN, ("read",), ("TREAT",), NOW + timedelta(days=1))
    ours = msgspec.structs.replace(ours, **changes)
    return {**render_prohibition(ours, patient=PATIENT), "identifier": [FORM]}


async def test_what_denies_forbids_is_read_is_found_and_is_lifted(server: Server) -> None:
    first, again = await server.create(denial(), UNLESS), await server.create(denial(), UNLESS)
    name = first.json()["id"]

    assert (first.status_code, again.status_code) == (201, 200)
    assert [type(event) for event in server.memory.log] == [AccessProhibited]
    assert (await server.ask("GET", f"/fhir/Consent/{name}")).json() == first.json() == again.json()
    listed = (await server.ask("GET", f"/patients/{PATIENT}/prohibitions")).json()["prohibitions"]
    assert [one["prohibition"] for one in listed] == [name]
    lifted = await server.ask("POST", f"/prohibitions/{name}/lift")
    assert (lifted.status_code, lifted.json()["lifted"]) == (200, True)
    assert (await server.ask("GET", f"/prohibitions/{name}")).json() == lifted.json()
    bundle = (await server.ask("GET", f"/fhir/Consent?patient={PATIENT}&status=inactive")).json()
    assert [entry["resource"]["provision"]["type"] for entry in bundle["entry"]] == ["deny"]
    (issue,) = (await server.create(denial(), UNLESS)).json()["issue"]
    assert issue["details"]["coding"][0]["code"] == "prohibition-lifted"


@pytest.mark.parametrize(
    ("resource", "element"),
    [
        (denial(party=None), "provision.actor[0].reference"),
        (denial(actions=()), "provision.action"),
        (denial(purposes=()), "provision.purpose"),
        (denial(valid_until=None), "provision.period.end"),
        (ONE, "provision.type"),
    ],
)
async def test_a_condition_that_finds_another_prohibition_names_what_differs(
    server: Server, resource: Any, element: str
) -> None:
    assert (await server.create(denial(), UNLESS)).status_code == 201
    answer = await server.create(resource, UNLESS)

    (issue,) = answer.json()["issue"]
    assert (answer.status_code, issue["expression"]) == (409, [f"Consent.{element}"])
    assert len(server.memory.log) == 1


async def test_a_prohibition_is_shown_to_nobody_whom_it_is_about(server: Server) -> None:
    name = (await server.create(denial())).json()["id"]
    server.caller = Party(CLINICIAN, "person", frozenset({"clinician"}), HOSPITAL)

    assert (await server.ask("GET", f"/fhir/Consent/{name}")).status_code == 404
    assert (await server.ask("GET", f"/prohibitions/{name}")).status_code == 404
    assert (await server.ask("GET", f"/patients/{PATIENT}/prohibitions")).status_code == 403
    assert (await server.ask("GET", f"/fhir/Consent?patient={PATIENT}")).json()["total"] == 0


async def test_a_prohibition_over_http_is_as_it_was_asked_for(server: Server) -> None:
    body = {"patient": PATIENT, "purposes": ["HRESCH"]}
    headers = {"Content-Type": "application/json", "Idempotency-Key": "of-research"}
    answers = [await server.ask("POST", "/prohibitions", body, **headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    view = answers[0].json()
    assert (view["party"], view["actions"], view["purposes"]) == (None, [], ["HRESCH"])
    assert (view["valid_until"], view["lifted"]) == (None, False)
    (event,) = server.memory.log
    assert isinstance(event, AccessProhibited)
    assert (event.party, event.purposes, event.epoch) == (None, ("HRESCH",), 1)


async def test_of_several_a_condition_does_not_choose(server: Server) -> None:
    assert [(await server.create(ONE)).status_code for _ in range(2)] == [201, 201]
    refused = await server.create(ONE, UNLESS)

    assert refused.status_code == 412
    assert len(server.memory.log) == 2


async def test_another_identifier_is_another_consent(server: Server) -> None:
    await server.create(ONE, UNLESS)
    other = consent(identifier=[{**FORM, "value": "paper-form-18"}])
    answer = await server.create(other, {"If-None-Exist": "identifier=urn%3Aoid%3A2.25.1%7Cpaper-form-18"})

    assert answer.status_code == 201


async def test_an_identifier_is_nowhere_on_the_ledger(server: Server) -> None:
    await server.create(ONE, UNLESS)

    assert "paper-form-17" not in repr(server.memory.log)
    assert "paper-form-17" not in (await server.ask("GET", f"/fhir/Consent?patient={PATIENT}")).text


async def test_what_was_marked_under_another_key_is_not_guessed(server: Server) -> None:
    await server.create(ONE, UNLESS)
    server.key = b"l"
    refused = await server.create(ONE, UNLESS)
    plain = await server.create(consent())

    assert refused.status_code == 412
    assert refused.json()["issue"][0]["details"]["coding"][0]["code"] == "identifier-unknown"
    assert plain.status_code == 201


def test_a_mark_needs_the_key_and_tells_patients_and_identifiers_apart() -> None:
    said = {"patient": PATIENT, "system": "a", "value": "b"}
    others = [{**said, "patient": "x"}, {**said, "system": "ab", "value": ""}, {**said, "value": "c"}]
    mark = marks().of(**said)

    assert mark == marks().of(**said)
    assert mark not in {marks().of(**other) for other in others} | {marks(b"l").of(**said)}
    assert marks(b"l").is_of_another_key(f"x.{mark}{'0' * 8}")
    assert not marks().is_of_another_key(f"x.{mark}{'0' * 8}")
    assert not marks(b"l").is_of_another_key("x." + "0" * 20)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (f"patient={PATIENT}", 2),
        (f"patient:identifier=urn:ietf:rfc:3986|{PATIENT}&_format=json", 2),
        (f"patient={PATIENT}&identifier=urn:oid:2.25.1|paper-form-17", 1),
        (f"patient={PATIENT}&identifier=urn:oid:2.25.1|other", 0),
        (f"patient={PATIENT}&status=active", 2),
        (f"patient={PATIENT}&status=inactive", 0),
    ],
)
async def test_a_search_answers_a_bundle(server: Server, query: str, found: int) -> None:  # case F3
    await server.create(ONE, UNLESS)
    await server.create(consent())
    answer = await server.ask("GET", f"/fhir/Consent?{query}")

    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/fhir+json")
    assert (answer.json()["type"], answer.json()["total"]) == ("searchset", found)
    assert len(answer.json().get("entry", [])) == found


@pytest.mark.parametrize(
    "query", ["", "?_format=json;fhirVersion=4.0", "?_pretty=false", "?_format=json&_pretty=true"]
)
async def test_format_with_parameters_and_pretty_are_honoured(server: Server, query: str) -> None:
    """FHIR R4, RESTful API, general parameters: both may stand at any interaction."""
    made = await server.ask("POST", f"/fhir/Consent{query}", ONE, **UNLESS)
    read = await server.ask("GET", made.headers["location"] + query)
    refused = await server.ask("GET", f"/fhir/Consent/none{query}")

    assert [answer.status_code for answer in (made, read, refused)] == [201, 200, 404]
    assert made.json() == read.json()
    for answer in (made, read, refused):
        assert (b'\n  "resourceType"' in answer.content) == ("_pretty=true" in query)


async def test_a_search_shows_nothing_to_others(server: Server) -> None:
    await server.create(consent())
    server.caller = Party("did:web:x", "member", frozenset(), None)

    assert (await server.ask("GET", f"/fhir/Consent?patient={PATIENT}")).json()["total"] == 0


@pytest.mark.parametrize(
    ("prefer", "kind"),
    [
        ("return=minimal", None),
        ("return=OperationOutcome", "OperationOutcome"),
        ("handling=strict", "Consent"),
    ],
)
async def test_a_create_answers_what_is_preferred(server: Server, prefer: str, kind: str | None) -> None:
    answer = await server.create(consent(), {"Prefer": prefer})

    assert answer.status_code == 201
    assert answer.headers["location"].startswith("/fhir/Consent/")
    assert (answer.json()["resourceType"] if answer.content else None) == kind


async def test_an_answer_names_so_many_faults_and_no_more(server: Server) -> None:  # red team 3, case 1
    answer = await server.create(consent(**{f"x{number}": 0 for number in range(400)}))

    assert answer.status_code == 422
    assert len(answer.json()["issue"]) == ISSUES_MAX
