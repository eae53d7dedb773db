"""A slice of the policies answers as all of them do: who decided, what, and what failed."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import cedarpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.access.cedar import CedarEngine, CedarPolicies
from salus.access.decisions import Inputs
from salus.access.parsed_policies import PolicySetError
from salus.access.policy_slices import SLICE_MAX, PolicySlices

FOLDER = files("salus.access").joinpath("policies")
BASE, SCHEMA = (FOLDER.joinpath(name).read_text() for name in ("base.cedar", "salus.cedarschema"))
H, X = "did:web:h.example", "did:web:x.example"
CONJUNCTS = st.sampled_from(
    [
        "principal has member",
        f'principal has member && principal.member == "{H}"',
        f'principal has member && "{X}" == principal.member',
        f'resource.patient has steward && resource.patient.steward == "{H}"',
        'principal.kind == "person"',
        'principal.kind == "member" && principal.kind == "person"',
        f'["{H}", "{X}"].contains(principal.did)',
        'context.purpose == "TREAT"',
        '["TREAT", "HRESCH"].contains(context.purpose)',
        "[].contains(context.purpose)",
        'principal.roles.contains("clinician")',
        "resource.patient.erased",
        "!(resource.patient.erased)",
        f'(principal.kind == "person" || principal.did == "{X}")',
        f'!(principal has member && principal.member == "{H}")',
        # What fails, if anything before it does not end the look.
        "9223372036854775807 + 1 == 2",
        f'principal.member == "{H}"',
    ]
)
CLAUSES = st.lists(
    st.tuples(st.sampled_from(["when", "unless"]), st.lists(CONJUNCTS, min_size=1, max_size=4)), max_size=2
)
SCOPES = st.tuples(
    st.sampled_from(
        [
            "principal",
            f'principal == Salus::Party::"{H}"',
            f'principal is Salus::Party in Salus::Party::"{H}"',
        ]
    ),
    st.sampled_from(
        [
            "action",
            'action == Salus::Action::"read"',
            'action in [Salus::Action::"read", Salus::Action::"write"]',
        ]
    ),
    st.sampled_from(["resource", 'resource == Salus::Record::"o1"', "resource is Salus::Record"]),
)
POLICIES = st.lists(st.tuples(st.sampled_from(["permit", "forbid"]), SCOPES, CLAUSES), min_size=1, max_size=8)
REQUESTS = st.builds(
    lambda *parts: request(*parts),  # noqa: PLW0108  # it stands below
    st.sampled_from([H, X]),
    st.sampled_from(["person", "member"]),
    st.none() | st.sampled_from([H, X]),
    st.none() | st.sampled_from([H, X]),
    st.sampled_from(["read", "write"]),
    st.sampled_from(["o1", "o2"]),
    st.sampled_from(["TREAT", "HRESCH", "PATRQT"]),
    st.booleans(),
)


def request(  # noqa: PLR0917  # a request by what policies look at
    did: str,
    kind: str,
    member: str | None,
    steward: str | None,
    action: str,
    record: str,
    purpose: str,
    erased: bool,  # noqa: FBT001  # as above
) -> Inputs:
    principal, patient = {"type": "Salus::Party", "id": did}, {"type": "Salus::Patient", "id": "p"}
    resource = {"type": "Salus::Record", "id": record}
    party = {"did": did, "kind": kind, "roles": ["clinician"], **({"member": member} if member else {})}
    about: dict[str, Any] = {"dids": [], "grants": [], "erased": erased}
    return Inputs(
        principal=principal,
        action={"type": "Salus::Action", "id": action},
        resource=resource,
        context={"purpose": purpose},
        entities=[
            {"uid": principal, "attrs": party, "parents": []},
            {"uid": patient, "attrs": {**about, **({"steward": steward} if steward else {})}, "parents": []},
            {"uid": resource, "attrs": {"patient": {"__entity": patient}}, "parents": []},
        ],
    )


def text_of(policies: list[Any]) -> str:
    return "\n".join(
        f"{effect} ({', '.join(scope)}) "
        + " ".join(f"{kind} {{ {' && '.join(conjuncts)} }}" for kind, conjuncts in clauses)
        + ";"
        for effect, scope, clauses in policies
    )


def slices_of(text: str) -> PolicySlices:
    return PolicySlices(json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"], kept_max=40)


# issue 14, Speed: 1,000 policies
@given(POLICIES, st.lists(REQUESTS, min_size=1, max_size=4))
def test_a_slice_answers_as_the_whole_set(policies: list[Any], requests: list[Inputs]) -> None:
    text = text_of(policies)
    engine, slices = CedarEngine(text, None), slices_of(text)
    for inputs in requests:
        whole, sliced = engine.ask(inputs), engine.ask(inputs, slices.of(inputs))

        assert sliced.allowed == whole.allowed
        assert sorted(sliced.determining) == sorted(whole.determining)
        assert sorted(sliced.errors) == sorted(whole.errors)


def test_what_organisations_rule_for_themselves_is_asked_of_theirs_alone() -> None:
    others = "\n".join(
        f'@id("own-{number}") forbid (principal, action, resource) when '
        f'{{ principal.roles.contains("clinician") && principal has member && '
        f'principal.member == "did:web:m{number}.example" && context.purpose == "HRESCH" }};'
        for number in range(200)
    )
    slices = slices_of(BASE + others)
    of_seven = slices.of(request(X, "person", "did:web:m7.example", H, "read", "o1", "HRESCH", False))
    of_nobody = slices.of(request(X, "person", None, H, "read", "o1", "HRESCH", False))
    again = slices.of(request(H, "person", X, H, "read", "o2", "HRESCH", False))

    assert of_seven is not None
    assert of_nobody is not None
    assert len(of_seven) == len(of_nobody) + 1
    assert len(of_nobody) < 15
    assert again is of_nobody


def test_what_is_kept_has_a_bound_in_policies() -> None:
    """Case redA8 8: hundreds of policies for all, and one for each of very many records."""
    policies = [
        *(f'permit (principal, action, resource) when {{ context.purpose == "p{n}" }};' for n in range(3)),
        *(f'forbid (principal, action, resource == Salus::Record::"o{n}");' for n in range(60)),
        *("permit (principal, action, resource) when { resource.patient.erased };" for _ in range(10)),
    ]
    slices = slices_of("\n".join(policies))
    asked = [request(H, "person", X, H, "read", f"o{n}", "TREAT", False) for n in range(60)]
    made = [slices.of(each) for each in asked]

    assert [len(each) for each in made if each is not None] == [11] * 60
    assert slices.of(asked[-1]) is made[-1]
    assert slices.of(asked[0]) is not made[0]


def test_of_very_many_policies_no_slice_is_made() -> None:
    text = "permit (principal, action, resource) when { resource.patient.erased };" * (SLICE_MAX + 1)

    assert slices_of(text).of(request(H, "person", X, H, "read", "o1", "TREAT", False)) is None


@pytest.mark.parametrize(
    "looks",
    [
        'resource.patient.grants.contains({ grantee: "a", action: "write", purpose: context.purpose })',
        'resource.patient.grants.contains({ grantee: principal.did, action: "read", purpose: "HRESCH" })',
        "!resource.patient.grants.isEmpty()",
        'resource["patient"]["grants"].containsAny(resource.patient.grants)',
    ],
)
def test_a_policy_that_looks_for_grants_which_it_does_not_see_is_refused(looks: str) -> None:
    policy = f'@id("odd") forbid (principal, action == Salus::Action::"read", resource) when {{ {looks} }};'
    with pytest.raises(PolicySetError, match="odd: grants are looked at"):
        CedarPolicies({"a.cedar": policy.encode(), "a.cedarschema": SCHEMA.encode()})


def test_a_policy_for_both_actions_looks_for_no_grant() -> None:
    looks = 'resource.patient.grants.contains({ grantee: "a", action: "read", purpose: context.purpose })'
    policy = f'@id("both") permit (principal, action, resource) when {{ {looks} }};'
    with pytest.raises(PolicySetError, match="both"):
        CedarPolicies({"a.cedar": policy.encode(), "a.cedarschema": SCHEMA.encode()})
