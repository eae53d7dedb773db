"""A verdict that is known is what the policies would say, and they are not asked again."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.consent.test_policy_slices import BASE, CONJUNCTS, SCHEMA, SCOPES, H, X, request, text_of

from salus.access.cedar import CedarAnswer, CedarEngine, CedarPolicies
from salus.access.decisions import Inputs, Verdict
from salus.access.known_verdicts import KnownVerdicts

NAMING = st.sampled_from(
    [
        'resource == Salus::Record::"o1"',
        'resource.patient == Salus::Patient::"p1"',
        '[Salus::Record::"o2"].contains(resource)',
        'resource in Salus::Record::"o1"',
        "resource.patient == resource",
    ]
)
CLAUSES = st.lists(
    st.tuples(st.sampled_from(["when", "unless"]), st.lists(CONJUNCTS | NAMING, min_size=1, max_size=3)),
    max_size=2,
)
POLICIES = st.lists(st.tuples(st.sampled_from(["permit", "forbid"]), SCOPES, CLAUSES), min_size=1, max_size=4)


def named(inputs: Inputs, *, record: str, patient: str) -> Inputs:
    """Return the same about a record and a patient of other names."""
    text = json.dumps([inputs.resource, *inputs.entities])
    for kind, name in (("Record", record), ("Patient", patient)):
        for old in ("o1", "p"):
            text = text.replace(
                json.dumps({"type": f"Salus::{kind}", "id": old}),
                json.dumps({"type": f"Salus::{kind}", "id": name}),
            )
    resource, *entities = json.loads(text)
    return replace(inputs, resource=resource, entities=entities)


SEEN = st.builds(
    lambda action, purpose, erased, member: request(H, "person", member, H, action, "o1", purpose, erased),
    st.sampled_from(["read", "write"]),
    st.sampled_from(["TREAT", "HRESCH"]),
    st.booleans(),
    st.sampled_from([None, X]),
)
NAMES = st.sampled_from(["o1", "o2", "p1", "TREAT", '"', "#1"])


# issue 14, Speed
@given(POLICIES, st.lists(st.tuples(SEEN, NAMES, NAMES), min_size=2, max_size=8))
def test_what_has_one_key_has_one_answer(policies: list[Any], asked: list[tuple[Inputs, str, str]]) -> None:
    text = text_of(policies)
    engine = CedarEngine(text, None)
    known = KnownVerdicts(json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"].values())
    answers: dict[bytes, CedarAnswer] = {}
    for seen, record, patient in asked:
        inputs = named(seen, record=record, patient=patient)
        answer = engine.ask(inputs)
        before = answers.setdefault(known.key(inputs), answer)

        assert before.allowed == answer.allowed
        assert sorted(before.determining) == sorted(answer.determining)
        assert len(before.errors) == len(answer.errors)


def released(more: str = "") -> CedarPolicies:
    return CedarPolicies({"a.cedar": (BASE + more).encode(), "salus.cedarschema": SCHEMA.encode()})


@pytest.fixture
def engine_asked(monkeypatch: pytest.MonkeyPatch) -> list[Inputs]:
    asked: list[Inputs] = []
    ask = CedarEngine.ask

    def counted(self: CedarEngine, inputs: Inputs, policies: Any = None) -> CedarAnswer:
        asked.append(inputs)
        return ask(self, inputs, policies)

    monkeypatch.setattr(CedarEngine, "ask", counted)
    return asked


def test_of_a_hundred_patients_who_allow_the_same_the_policies_are_asked_once(
    engine_asked: list[Inputs],
) -> None:
    policies, one = released(), request(H, "member", None, H, "write", "o1", "TREAT", False)
    verdicts = [policies.evaluate(named(one, record=f"r{n}", patient=f"n{n}")) for n in range(100)]

    assert len(engine_asked) == 1
    assert {verdict.rules for verdict in verdicts} == {verdicts[0].rules}


@pytest.mark.parametrize(
    "changed",
    [
        request(X, "member", None, H, "write", "o1", "TREAT", False),
        request(H, "person", None, H, "write", "o1", "TREAT", False),
        request(H, "member", X, H, "write", "o1", "TREAT", False),
        request(H, "member", None, X, "write", "o1", "TREAT", False),
        request(H, "member", None, H, "read", "o1", "TREAT", False),
        request(H, "member", None, H, "write", "o1", "HRESCH", False),
        request(H, "member", None, H, "write", "o1", "TREAT", True),
    ],
)
def test_whatever_else_differs_is_asked(changed: Inputs, engine_asked: list[Inputs]) -> None:
    policies = released()
    policies.evaluate(request(H, "member", None, H, "write", "o1", "TREAT", False))
    policies.evaluate(changed)

    assert engine_asked[1:] == [changed]


def test_where_a_policy_names_a_record_each_record_is_asked_about(engine_asked: list[Inputs]) -> None:
    policies = released('\n@id("shut") forbid (principal, action, resource == Salus::Record::"o2");')
    one = request(H, "member", None, H, "write", "o1", "TREAT", False)
    verdicts = [policies.evaluate(named(one, record=name, patient="p")) for name in ("o1", "o2", "o3")]

    assert len(engine_asked) == 3
    assert ["shut" in {rule.id for rule in verdict.rules} for verdict in verdicts] == [False, True, False]


def test_what_failed_is_asked_again() -> None:
    known = KnownVerdicts([])
    known.keep(b"1", Verdict(allowed=False, errors=("away",)))

    assert known.get(b"1") is None


def test_what_was_asked_for_longest_ago_makes_room() -> None:
    known = KnownVerdicts([], kept_max=2)
    for key in (b"1", b"2"):
        known.keep(key, Verdict(allowed=True))
    known.get(b"1")
    known.keep(b"3", Verdict(allowed=True))

    assert [known.get(key) is not None for key in (b"1", b"2", b"3")] == [True, False, True]
