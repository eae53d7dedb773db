"""The Cedar adapter: Cedar's own integration tests, policy sets that are refused, and failing closed."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from salus.access.cedar import CedarEngine, CedarPolicies
from salus.access.decisions import Inputs
from salus.access.parsed_policies import PolicySetError
from salus.access.policy_files import digest_of, read_policies

CEDAR = Path(__file__).parents[2] / "data" / "cedar"
CASES = [
    path
    for folder in ("corpus-tests", "tests")
    for path in sorted((CEDAR / folder).rglob("*.json"))
    if not path.name.endswith(".entities.json")
]
SCHEMA = b"entity User; action read appliesTo { principal: [User], resource: [User], context: { n?: Long } };"


def inputs(**changes: Any) -> Inputs:
    uid = {"type": "User", "id": "alice"}
    fields: dict[str, Any] = {
        "principal": uid,
        "action": {"type": "Action", "id": "read"},
        "resource": uid,
        "context": {},
        "entities": [{"uid": uid, "attrs": {}, "parents": []}],
    }
    return Inputs(**{**fields, **changes})


def policies(text: str, schema: bytes = SCHEMA) -> CedarPolicies:
    return CedarPolicies({"a.cedar": text.encode(), "a.cedarschema": schema})


def test_cedars_own_tests_are_all_here() -> None:
    assert len(CASES) == 112


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_engine_agrees_with_cedars_own_tests(path: Path) -> None:
    case = json.loads(path.read_text())
    engine = CedarEngine((CEDAR / case["policies"]).read_text(), (CEDAR / case["schema"]).read_text())
    entities = json.loads((CEDAR / case["entities"]).read_text())
    for request in case["requests"]:
        asked = {name: request[name] for name in ("principal", "action", "resource", "context")}
        answer = engine.ask(Inputs(**asked, entities=entities))

        assert answer.allowed == (request["decision"] == "allow"), request["description"]
        assert sorted(answer.determining) == sorted(request["reason"]), request["description"]
        assert bool(answer.errors) == bool(request["errors"]), request["description"]


def test_what_no_policy_permits_is_denied() -> None:
    verdict = policies('@id("a") permit (principal, action, resource) when { context has n };').evaluate(
        inputs()
    )

    assert (verdict.allowed, verdict.rules, verdict.errors) == (False, (), ())


def test_the_permitting_policy_is_named_by_its_id_and_a_forbid_overrides_it() -> None:
    permit = '@id("open") @obligations("log tell") @valid_seconds("5") permit (principal, action, resource);'
    forbid = '@id("shut") forbid (principal, action, resource) when { context has n };'
    both = policies(permit + forbid)
    allowed, denied = both.evaluate(inputs()), both.evaluate(inputs(context={"n": 1}))

    assert allowed.allowed
    assert [(r.id, r.obligations, r.valid_seconds) for r in allowed.rules] == [("open", ("log", "tell"), 5)]
    assert (denied.allowed, [rule.id for rule in denied.rules]) == (False, ["shut"])


def test_one_failing_policy_denies_although_another_permits() -> None:
    permit = '@id("open") permit (principal, action, resource);'
    failing = '@id("fails") permit (principal, action, resource) when { context has n && context.n * 2 > 0 };'
    both = policies(permit + failing)
    verdict = both.evaluate(inputs(context={"n": 2**63 - 1}))

    assert both.evaluate(inputs()).allowed
    assert not verdict.allowed
    assert verdict.errors


@pytest.mark.parametrize(
    "changes",
    [
        {"principal": {"type": "Robot", "id": "r"}},
        {"action": {"type": "Action", "id": "fly"}},
        {"context": {"unknown": 1}},
        {"context": {"n": "text"}},
        {"entities": [{"uid": {"type": "User", "id": "alice"}, "attrs": {"extra": 1}, "parents": []}]},
        {"entities": [{"nonsense": True}]},
        {"principal": {"type": "not a type", "id": ""}},
        {"principal": {}},
    ],
)
def test_a_request_that_does_not_fit_the_schema_is_denied(changes: dict[str, Any]) -> None:
    verdict = policies('@id("open") permit (principal, action, resource);').evaluate(inputs(**changes))

    assert not verdict.allowed
    assert verdict.errors


@pytest.mark.parametrize(
    "text",
    [
        "permit (principal, action, resource);",
        '@id("") permit (principal, action, resource);',
        '@id("a") permit (principal, action, resource); @id("a") forbid (principal, action, resource);',
        '@id("a") permit (principal, action, resource) when { context.typo };',
        '@id("a") permit (principal, action == Action::"fly", resource);',
        '@id("a") @valid_seconds("0") permit (principal, action, resource);',
        '@id("a") @valid_seconds("901") permit (principal, action, resource);',
        '@id("a") @valid_seconds("\u0663") permit (principal, action, resource);',
        '@id("a") permit (principal == ?principal, action, resource);',
        "permit (principal",
        "",
    ],
)
def test_a_policy_set_that_could_not_be_trusted_is_refused(text: str) -> None:
    with pytest.raises(PolicySetError):
        policies(text)


def test_a_folder_needs_one_schema_and_text() -> None:
    permit = b'@id("a") permit (principal, action, resource);'
    for wrong in (
        {"a.cedar": permit},
        {"a.cedar": permit, "a.cedarschema": SCHEMA, "b.cedarschema": SCHEMA},
        {"a.cedarschema": SCHEMA},
        {"a.cedar": b"\xff", "a.cedarschema": SCHEMA},
        {"a.cedar": permit, "a.cedarschema": b"entity"},
    ):
        with pytest.raises(PolicySetError):
            CedarPolicies(wrong)


def test_the_policies_of_the_release_fit_their_schema() -> None:
    shipped = read_policies(files("salus.access").joinpath("policies"))

    assert sorted(shipped) == ["base.cedar", "salus.cedarschema"]
    assert CedarPolicies(shipped).digest == digest_of(shipped)


def test_the_digest_names_files_and_bytes_without_ambiguity() -> None:
    one, other = {"a.cedar": b"12", "b.cedar": b""}, {"a.cedar": b"1", "b.cedar": b"2"}

    assert digest_of(one) != digest_of(other)
    assert digest_of({"a.cedar": b"1"}) != digest_of({"b.cedar": b"1"})
    assert digest_of(one) == digest_of(dict(reversed(one.items())))
