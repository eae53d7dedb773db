"""FHIR Consent: HL7's examples are refused for what they say beyond us; what we can say goes both ways."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.access.prohibitions import Prohibition
from salus.access.state import Consent
from salus.consent.adapters.fhir.capabilities import capability_statement, searchset
from salus.consent.adapters.fhir.consent import (
    RULES,
    SCOPES,
    Denial,
    Identifier,
    Terms,
    UnmappableError,
    parse,
    render,
    render_prohibition,
)
from salus.consent.adapters.fhir.elements import ABSENT, ISSUES_MAX, STRUCTURES, Fate
from salus.consent.adapters.fhir.outcomes import all_ok, answered, operation_outcome
from salus.consent.adapters.fhir.provisions import ROLES
from salus.events.contexts.consent import Action
from salus.events.fields import Purpose
from salus.events.recipients import RecipientRole
from salus.runtime.problems import Answer

EXAMPLES = Path(__file__).parents[2] / "data" / "fhir" / "r4" / "Consent"
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
CLINICIAN, HOSPITAL = "did:web:h.example:c", "did:web:h.example"
URI = "urn:ietf:rfc:3986"
REASONS = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def example(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((EXAMPLES / f"Consent-consent-example-{name}.json").read_text())
    return document


def paths(resource: Any) -> set[str]:
    with pytest.raises(UnmappableError) as caught:
        parse(resource)
    return {issue.expression for issue in caught.value.issues}


def ours() -> dict[str, Any]:
    consent = Consent("c", CLINICIAN, ("read",), ("TREAT",), NOW, NOW + timedelta(days=1))
    return render(consent, patient=PATIENT)


def changed(path: str, value: Any, resource: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return our consent, or another, with one element replaced, or taken away if the value is None."""
    resource = resource or ours()
    *parents, last = path.split(".")
    place: Any = resource
    for name in parents:
        place = place[int(name)] if name.isdigit() else place[name]
    if value is None:
        del place[last]
    else:
        place[int(last) if last.isdigit() else last] = value
    return resource


# What HL7's examples say that a consent of ours cannot say, or leave open that it has to say.
REFUSED = {
    "Out": {"Consent.policyRule", "Consent.provision.actor[0].role", "Consent.provision.purpose"},
    "basic": {"Consent.provision.actor", "Consent.provision.action", "Consent.provision.purpose"},
    "grantor": {"Consent.category[0].coding[0]", "Consent.policyRule", "Consent.provision.actor"},
    "notAuthor": {"Consent.provision.actor[0].role", "Consent.provision.action"},
    "notOrg": {"Consent.policyRule", "Consent.provision.actor[0].reference"},
    "notThem": {"Consent.patient", "Consent.provision.period", "Consent.provision.purpose"},
    "signature": {"Consent.category[0].coding[0]", "Consent.provision.provision", "Consent.provision.action"},
    "smartonfhir": {"Consent.provision.provision", "Consent.provision.actor"},
}


def test_every_example_of_hl7_is_here() -> None:  # case formats 11
    names = {path.stem.removeprefix("Consent-consent-example-") for path in EXAMPLES.iterdir()}

    assert names == set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
def test_an_example_of_hl7_is_refused_where_it_says_more_or_less(name: str) -> None:
    assert REFUSED[name] | {"Consent.patient"} <= paths(example(name))


def test_an_example_of_hl7_is_granted_once_it_says_who_why_and_how_long() -> None:
    resource = example("notThem")
    resource["patient"] = {"identifier": {"system": URI, "value": PATIENT}, "display": "P. van de Heuvel"}
    provision = resource["provision"]
    provision["actor"][0]["reference"] = {"reference": CLINICIAN, "display": "Fictive Nurse"}
    provision["period"] = {"start": "2026-11-01", "end": "2026-11-30"}
    provision["purpose"] = [{"system": REASONS, "code": "TREAT"}]
    terms = parse(resource)

    assert isinstance(terms, Terms)
    assert (terms.patient, terms.grantee) == (PATIENT, CLINICIAN)
    assert (terms.actions, terms.purposes) == (("read", "write"), ("TREAT",))
    assert terms.valid_from == datetime(2026, 11, 1, tzinfo=UTC)
    assert terms.valid_until == datetime(2026, 12, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("status", "draft", "Consent.status"),
        ("status", None, "Consent.status"),
        ("scope", None, "Consent.scope"),
        ("category", None, "Consent.category"),
        ("category", [{"text": "something"}], "Consent.category[0]"),
        ("policyRule", None, "Consent.policyRule"),
        ("patient", {"reference": "Patient/f001"}, "Consent.patient"),
        (
            "patient",
            {"reference": PATIENT, "identifier": {"system": URI, "value": PATIENT[:-1] + "0"}},
            "Consent.patient",
        ),
        (
            "patient",
            {"identifier": {"system": "urn:oid:1.2", "value": PATIENT}},
            "Consent.patient.identifier",
        ),
        ("policy", [{"uri": "http://example.org"}], "Consent.policy"),
        ("verification", [{"verified": False}], "Consent.verification"),
        ("modifierExtension", [], "Consent.modifierExtension"),
        ("implicitRules", "http://example.org", "Consent.implicitRules"),
        ("contained", [], "Consent.contained"),
        ("provision", None, "Consent.provision"),
        ("provision.type", "deny", "Consent.policyRule"),
        ("provision.type", "maybe", "Consent.provision.type"),
        ("policyRule.coding.0.code", "OPTOUT", "Consent.policyRule"),
        ("provision.period", None, "Consent.provision.period"),
        ("provision.period.end", None, "Consent.provision.period.end"),
        ("provision.period.end", "tomorrow", "Consent.provision.period.end"),
        ("provision.period.end", "2026-11-30T12:00:00", "Consent.provision.period.end"),
        ("provision.period.end", "2026-W48-1T00:00:00Z", "Consent.provision.period.end"),
        ("provision.period.end", 20261130, "Consent.provision.period.end"),
        ("provision.period.start", "2026-02-30", "Consent.provision.period.start"),
        ("provision.actor", [], "Consent.provision.actor"),
        ("provision.actor.0.role.coding.0.code", "CST", "Consent.provision.actor[0].role"),
        ("provision.actor.0.reference", {"display": "somebody"}, "Consent.provision.actor[0].reference"),
        (
            "provision.actor.0.reference",
            {"reference": "Practitioner/13"},
            "Consent.provision.actor[0].reference",
        ),
        ("provision.action", None, "Consent.provision.action"),
        ("provision.action.0.coding.0.code", "disclose", "Consent.provision.action[0]"),
        ("provision.action.0.coding.0.system", "http://example.org", "Consent.provision.action[0].coding[0]"),
        ("provision.purpose", None, "Consent.provision.purpose"),
        ("provision.purpose.0.code", "HMARKT", "Consent.provision.purpose[0]"),
        ("provision.purpose.0", "TREAT", "Consent.provision.purpose[0]"),
        ("provision.securityLabel", [], "Consent.provision.securityLabel"),
        ("provision.class", [], "Consent.provision.class"),
        ("provision.code", [], "Consent.provision.code"),
        ("provision.dataPeriod", {}, "Consent.provision.dataPeriod"),
        ("provision.data", [], "Consent.provision.data"),
        ("provision.provision", [], "Consent.provision.provision"),
        ("provision.actor", {}, "Consent.provision.actor"),
    ],
)
def test_what_would_widen_or_narrow_is_refused_with_its_path(path: str, value: Any, expected: str) -> None:
    assert expected in paths(changed(path, value))


def test_two_actors_are_not_one() -> None:
    actor = ours()["provision"]["actor"][0]

    assert paths(changed("provision.actor", [actor, actor])) == {"Consent.provision.actor"}


@pytest.mark.parametrize("value", [None, [], "Consent", 1, {}, {"resourceType": "Patient"}])
def test_what_is_no_consent_is_refused(value: Any) -> None:
    assert "Consent.resourceType" in paths(value)


def test_elements_that_document_are_let_through_and_not_kept() -> None:
    resource = {
        **ours(),
        "text": {"status": "empty", "div": "<div/>"},
        "dateTime": "2026-11-22",
        "_dateTime": {"extension": [{"url": "http://example.org/precision", "valueCode": "day"}]},
        "performer": [{"display": "x", "identifier": {"use": "old", "period": {"end": "2001"}}}],
        "organization": [{"reference": "Organization/f001", "type": "Organization"}],
        "sourceAttachment": {"title": "terms", "size": 12, "hash": "AAAA"},
        "extension": [{"url": "http://example.org/form", "valueString": "17"}],
        "meta": {
            "versionId": "1",
            "lastUpdated": "2026-11-22T12:00:00Z",
            "profile": ["http://example.org/p"],
        },
        "language": "en",
    }

    assert parse(resource) == parse(ours())


@pytest.mark.parametrize(
    ("end", "until"),
    [
        ("2026", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2026-12", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2027-02", datetime(2027, 3, 1, tzinfo=UTC)),
        ("2028-02-29", datetime(2028, 3, 1, tzinfo=UTC)),
        ("2026-12-31T23:30:00-05:00", datetime(2027, 1, 1, 4, 30, tzinfo=UTC)),
    ],
)
def test_an_end_includes_the_whole_of_what_it_names(end: str, until: datetime) -> None:
    assert parse(changed("provision.period.end", end)).valid_until == until


def test_an_operation_outcome_tells_all_that_is_wrong() -> None:
    with pytest.raises(UnmappableError) as caught:
        parse(example("Out"))
    outcome = operation_outcome(caught.value.issues)

    assert outcome["resourceType"] == "OperationOutcome"
    assert len(outcome["issue"]) == len(caught.value.issues) > 3
    assert all(issue["severity"] == "error" and issue["expression"] for issue in outcome["issue"])


def test_what_is_wrong_is_looked_for_a_hundred_times_and_no_more() -> None:
    # Red team 4: 83,000 empty purposes in 249 KB made as many issues, in 0.57 s, each time again.
    for path, value in (
        ("provision.purpose", [{}] * 83_000),
        ("category", [{"coding": [{"code": "x"}]}] * 1000),
    ):
        with pytest.raises(UnmappableError) as refused:
            parse(changed(path, value))

        assert len(refused.value.issues) == ISSUES_MAX


def test_no_issue_repeats_what_the_resource_says() -> None:
    resource = changed(
        "provision.actor.0.reference", {"reference": "Jane Roe, born 1970", "display": "Jane Roe"}
    )
    with pytest.raises(UnmappableError) as caught:
        parse(resource)

    assert "Jane" not in json.dumps(operation_outcome(caught.value.issues))


def of_a_role() -> dict[str, Any]:
    consent = Consent("c", HOSPITAL, ("read",), ("TREAT",), NOW, NOW + timedelta(days=1), role="clinician")
    return render(consent, patient=PATIENT)


@pytest.mark.parametrize("role", get_args(RecipientRole))
def test_a_role_at_a_member_reads_back_as_it_was_written(role: RecipientRole) -> None:
    consent = Consent("c", HOSPITAL, ("read",), ("TREAT",), NOW, NOW + timedelta(days=1), role=role)
    prohibition = Prohibition("p", NOW, HOSPITAL, role=role)
    resource = render(consent, patient=PATIENT)
    terms = parse(json.loads(json.dumps(resource)))
    denial = parse(json.loads(json.dumps(render_prohibition(prohibition, patient=PATIENT))))

    assert isinstance(terms, Terms)
    assert isinstance(denial, Denial)
    assert (terms.grantee, terms.role) == (denial.party, denial.role) == (HOSPITAL, role)
    # Of what others send: the type of the reference need not be said, nor the organisation's.
    del (
        resource["provision"]["actor"][0]["reference"]["type"],
        resource["contained"][0]["organization"]["type"],
    )
    assert parse(resource) == terms


# Each would widen what was meant, from some people to a whole member or to everybody, or narrow it unseen.
@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("contained", None, "Consent.provision.actor[0].reference"),
        ("contained", [], "Consent.contained"),
        ("contained", [{"resourceType": "Group", "id": "recipient"}], "Consent.contained[0]"),
        ("contained.0.id", "other", "Consent.contained"),
        ("contained.0.id", None, "Consent.contained"),
        ("contained.0.code", None, "Consent.contained[0].code"),
        ("contained.0.code", [{"text": "clinician"}], "Consent.contained[0].code[0]"),
        ("contained.0.code.0.coding.0.code", "patient", "Consent.contained[0].code[0]"),
        ("contained.0.code.0.coding.0.system", "urn:x", "Consent.contained[0].code[0].coding[0]"),
        ("contained.0.organization", None, "Consent.contained[0].organization"),
        ("contained.0.organization.type", "Practitioner", "Consent.contained[0].organization.type"),
        ("contained.0.practitioner", {"reference": CLINICIAN}, "Consent.contained[0].practitioner"),
        ("contained.0.specialty", [{"text": "x"}], "Consent.contained[0].specialty"),
        ("contained.0.active", False, "Consent.contained[0].active"),
        ("contained.0.modifierExtension", [{"url": "x"}], "Consent.contained[0].modifierExtension"),
        ("provision.actor.0.reference.type", "Organization", "Consent.provision.actor[0].reference.type"),
        (
            "provision.actor.0.reference.identifier",
            {"system": URI, "value": CLINICIAN},
            "Consent.provision.actor[0].reference.identifier",
        ),
        ("provision.actor.0.reference", {"reference": CLINICIAN}, "Consent.contained"),
    ],
)
def test_what_is_no_role_at_one_member_is_refused_with_its_path(path: str, value: Any, expected: str) -> None:
    assert expected in paths(changed(path, value, of_a_role()))


def test_a_role_without_an_id_is_referred_to_by_nobody() -> None:
    """Case R12-3: a reference to `#None` was one to it."""
    resource = changed("provision.actor.0.reference.reference", "#None", of_a_role())

    assert "Consent.contained" in paths(changed("contained.0.id", None, resource))


def test_a_role_that_no_actor_refers_to_forbids_nobody() -> None:
    resource = render_prohibition(Prohibition("p", NOW, HOSPITAL, role="clinician"), patient=PATIENT)
    del resource["provision"]["actor"]
    two = of_a_role()
    two["contained"] *= 2
    two["contained"][1] = {**two["contained"][1], "id": "other"}

    assert paths(resource) == paths(two) == {"Consent.contained"}


def test_a_revoked_consent_is_inactive_and_is_not_granted_again() -> None:
    consent = Consent("c", CLINICIAN, ("read",), ("TREAT",), NOW, NOW + timedelta(days=1), revoked_epoch=3)

    assert paths(render(consent, patient=PATIENT)) == {"Consent.status"}


_actions = st.lists(st.sampled_from(get_args(Action)), min_size=1, unique=True).map(
    lambda a: tuple(sorted(a))
)
_purposes = st.lists(st.sampled_from(get_args(Purpose)), min_size=1, unique=True).map(
    lambda p: tuple(sorted(p))
)
_moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # bounds are naive by the API


@given(_actions, _purposes, _moments, _moments)
def test_a_consent_reads_back_as_it_was_written(
    actions: tuple[Action, ...], purposes: tuple[Purpose, ...], start: datetime, end: datetime
) -> None:
    consent = Consent("c", CLINICIAN, actions, purposes, start, end)
    terms = parse(json.loads(json.dumps(render(consent, patient=PATIENT))))

    assert isinstance(terms, Terms)
    assert (terms.patient, terms.grantee) == (PATIENT, CLINICIAN)
    assert (terms.actions, terms.purposes) == (actions, purposes)
    assert (terms.valid_from, terms.valid_until) == (start, end)


@given(
    st.none() | st.just(CLINICIAN),
    st.just(()) | _actions,
    st.just(()) | _purposes,
    _moments,
    st.none() | _moments,
)
def test_a_prohibition_reads_back_as_it_was_written(
    party: str | None,
    actions: tuple[Action, ...],
    purposes: tuple[Purpose, ...],
    start: datetime,
    end: datetime | None,
) -> None:
    prohibition = Prohibition("p", start, party, actions, purposes, end)
    denial = parse(json.loads(json.dumps(render_prohibition(prohibition, patient=PATIENT))))

    assert denial == Denial(PATIENT, party, actions, purposes, start, end)


def test_a_prohibition_may_name_nobody_and_nothing_and_then_is_about_all() -> None:
    resource = render_prohibition(Prohibition("p", NOW), patient=PATIENT)
    del resource["provision"]["period"]

    assert parse(resource) == Denial(PATIENT, None, (), (), None, None)


def test_hl7_s_refusal_of_an_organisation_is_kept_once_it_is_an_opt_out_and_says_who() -> None:
    resource = example("notOrg")
    resource["patient"] = {"reference": PATIENT}
    resource["policyRule"]["coding"][0]["code"] = "OPTOUT"
    resource["provision"]["actor"][0]["reference"] = {"reference": CLINICIAN}
    denial = parse(resource)

    assert isinstance(denial, Denial)
    assert (denial.party, denial.actions, denial.purposes) == (CLINICIAN, ("read", "write"), ())


def test_of_two_actors_a_prohibition_is_not_about_one() -> None:
    resource = render_prohibition(Prohibition("p", NOW, CLINICIAN), patient=PATIENT)
    resource["provision"]["actor"] *= 2

    assert paths(resource) == {"Consent.provision.actor"}


def test_a_lifted_prohibition_is_inactive_and_is_not_stated_again() -> None:
    resource = render_prohibition(Prohibition("p", NOW, lifted=True), patient=PATIENT)

    assert paths(resource) == {"Consent.status"}


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_places = st.sampled_from(
    [
        "status",
        "scope",
        "scope.coding",
        "category",
        "patient",
        "patient.identifier",
        "policyRule",
        "provision",
        "provision.type",
        "provision.period",
        "provision.period.end",
        "provision.actor",
        "provision.actor.0",
        "provision.actor.0.reference",
        "provision.action",
        "provision.action.0",
        "provision.purpose",
        "provision.purpose.0",
    ]
)


@given(_places, _json)
def test_any_json_is_refused_or_understood_but_never_a_crash(place: str, value: Any) -> None:
    resource = changed(place, value) if value is not None else ours()
    try:
        terms = parse(resource)
    except UnmappableError:
        return

    assert isinstance(terms, Terms)
    assert terms.grantee == CLINICIAN
    assert terms.patient == PATIENT


CODED = {"system": "http://terminology.hl7.org/CodeSystem/consentaction"}
UNKNOWN = {"extension": [{"url": ABSENT, "valueCode": "unknown"}]}


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        # formats 2: codings of one concept are synonyms.
        (
            "provision.action",
            [{"coding": [{**CODED, "code": "access"}, {**CODED, "code": "correct"}]}],
            "Consent.provision.action[0]",
        ),
        (
            "policyRule.coding",
            [{"system": RULES, "code": "OPTIN"}, {"system": RULES, "code": "OPTINR"}],
            "Consent.policyRule",
        ),
        (
            "provision.actor.0.role.coding",
            [{"system": ROLES, "code": "PRCP"}, {"system": ROLES, "code": "IRCP"}],
            "Consent.provision.actor[0].role",
        ),
        (
            "scope.coding",
            [{"system": SCOPES, "code": "research"}, {"system": SCOPES, "code": "patient-privacy"}],
            "Consent.scope",
        ),
        # formats 3: a scope that is not the purposes'.
        ("scope.coding.0.code", "research", "Consent.scope"),
        ("provision.purpose.0.code", "HRESCH", "Consent.scope"),
        # formats 4: below the datatypes.
        (
            "provision.action.0.modifierExtension",
            [{"url": "x:y"}],
            "Consent.provision.action[0].modifierExtension",
        ),
        ("provision.action.0.extension", [{"url": "x:y"}], "Consent.provision.action[0].extension"),
        ("provision.action.0.coding.0.foo", 1, "Consent.provision.action[0].coding[0].foo"),
        ("provision.purpose.0.foo", 1, "Consent.provision.purpose[0].foo"),
        ("provision.purpose.0.extension", [{"url": "x:y"}], "Consent.provision.purpose[0].extension"),
        ("patient.identifier.period", {"end": "2001-01-01"}, "Consent.patient.identifier.period"),
        ("patient.identifier.use", "old", "Consent.patient.identifier.use"),
        ("patient.identifier.use", "temp", "Consent.patient.identifier.use"),
        ("patient.identifier.type", {"text": "MRN"}, "Consent.patient.identifier.type"),
        ("patient.type", "Practitioner", "Consent.patient.type"),
        ("provision.actor.0.reference.type", "Group", "Consent.provision.actor[0].reference.type"),
        ("provision.period.foo", "x", "Consent.provision.period.foo"),
        ("_provision", {"extension": [{"url": "x:y"}]}, "Consent._provision"),
        ("performer", [{"display": "x", "modifierExtension": []}], "Consent.performer[0].modifierExtension"),
        ("extension", [{"url": "x:y", "extension": [{"modifierExtension": [1]}]}], "Consent.extension[0]"),
        ("identifier", [{"system": "urn:oid:1.2", "value": "a", "use": "old"}], "Consent.identifier[0].use"),
        ("identifier", [{"value": "a"}], "Consent.identifier[0]"),
        ("identifier", [{"system": "a:b", "value": "a"}] * 2, "Consent.identifier"),
        # formats 5, X8: tests, parts, and what is said to be unknown.
        ("meta", {"tag": [{"code": "SUBSETTED"}]}, "Consent.meta.tag"),
        ("meta", {"tag": [{"code": "HTEST"}]}, "Consent.meta.tag"),
        ("meta", {"security": [{"code": "HTEST"}]}, "Consent.meta.security"),
        ("provision._type", UNKNOWN, "Consent.provision._type"),
        ("_status", UNKNOWN, "Consent._status"),
        ("_status", {"extension": [{"url": "x:y", "valueCode": "z"}]}, "Consent._status"),
        ("provision._type", {"extension": [{"url": "x:y", "valueCode": "z"}]}, "Consent.provision._type"),
        ("_patient", {"id": "a"}, "Consent._patient"),
        ("_dateTime", {"foo": 1}, "Consent._dateTime"),
        ("provision.period._end", UNKNOWN, "Consent.provision.period._end"),
        ("provision.period._start", UNKNOWN, "Consent.provision.period._start"),
        ("provision.action.0.coding.0._code", UNKNOWN, "Consent.provision.action[0].coding[0]._code"),
        ("provision.action.0.coding.0._system", UNKNOWN, "Consent.provision.action[0].coding[0]._system"),
        ("patient.identifier._value", UNKNOWN, "Consent.patient.identifier._value"),
        ("_dateTime", UNKNOWN, "Consent._dateTime"),
        ("extension", [{"url": ABSENT, "valueCode": "unknown"}], "Consent.extension[0]"),
        # formats 6: not FHIR.
        ("id", "\x00", "Consent.id"),
        ("dateTime", {"a": 1}, "Consent.dateTime"),
        ("dateTime", "yesterday", "Consent.dateTime"),
        ("language", None, "Consent.language"),
        ("performer", {}, "Consent.performer"),
        ("text", {}, "Consent.text"),
        # A9, siblings: what narrows the grant in words, or by another's type.
        ("text", {"status": "additional", "div": "<div/>"}, "Consent.text.status"),
        ("patient.type", "Group", "Consent.patient.type"),
        ("provision.actor.0.reference.type", "CareTeam", "Consent.provision.actor[0].reference.type"),
        (
            "provision.actor.0.reference.type",
            "http://hl7.org/fhir/StructureDefinition/Practitioner",
            "Consent.provision.actor[0].reference.type",
        ),
        (
            "provision.actor.0.reference.reference",
            f"Practitioner/{CLINICIAN}",
            "Consent.provision.actor[0].reference",
        ),
        (
            "provision.actor.0.reference.reference",
            f"https://h.example/Practitioner/{CLINICIAN}",
            "Consent.provision.actor[0].reference",
        ),
        (
            "provision.actor.0.reference.identifier.type",
            {"coding": [{"code": "PRN"}]},
            "Consent.provision.actor[0].reference.identifier.type",
        ),
        ("sourceAttachment", {"size": True}, "Consent.sourceAttachment.size"),
        ("provision.type", [], "Consent.provision.type"),
        ("a b", 1, "Consent.?"),
    ],
)
def test_nothing_that_is_not_understood_is_passed_over(path: str, value: Any, expected: str) -> None:
    *parents, last = path.split(".")
    resource: Any = ours()
    place = resource
    for name in parents:
        place = place[int(name)] if name.isdigit() else place[name]
    place[last] = value

    assert expected in paths(resource)


def test_the_same_code_twice_is_one_and_a_research_scope_is_kept() -> None:
    resource = changed("provision.purpose.0.code", "HRESCH")
    resource["scope"]["coding"][0]["code"] = "research"
    resource["provision"]["action"][0]["coding"] *= 2
    terms = parse(resource)

    assert (terms.actions, terms.purposes) == (("read",), ("HRESCH",))


def test_an_identifier_is_read_and_goes_nowhere_by_itself() -> None:
    said = {"use": "official", "system": "urn:oid:2.25.1", "value": "paper-form-17"}

    assert parse({**ours(), "identifier": [said]}).identifier == Identifier("urn:oid:2.25.1", "paper-form-17")


# What the schema at hand has and R4 has not.
MEDPLUM = frozenset({"resource", "project", "account", "accounts", "compartment", "author"})


def test_the_table_has_every_element_of_r4() -> None:
    definitions = (
        Path(__file__).parents[2] / "data" / "fhir" / "definitions" / "fhir.schema.r4.medplum.json.gz"
    )
    schema = json.loads(gzip.decompress(definitions.read_bytes()))["definitions"]
    names = {"Provision": "Consent_Provision", "Actor": "Consent_Actor"}
    aliases = {"DocumentedReference": "Reference", "DocumentedIdentifier": "Identifier"}
    for kind, table in STRUCTURES.items():
        name = names.get(kind, aliases.get(kind, kind))
        known = {one for one in schema[name]["properties"] if not one.startswith("_")} - MEDPLUM

        # What is not in a table is refused as unknown to R4: that must be true.
        assert known == set(table), kind


def test_every_element_is_in_the_documentation() -> None:
    page = (Path(__file__).parents[3] / "docs" / "fhir.md").read_text()
    fates = {
        fate: {
            f"`{name}`" for table in STRUCTURES.values() for name, one in table.items() if one.fate is fate
        }
        for fate in Fate
    }

    for names in fates.values():
        assert not {name for name in names if name not in page}


def test_the_example_of_the_documentation_is_kept() -> None:
    page = (Path(__file__).parents[3] / "docs" / "fhir.md").read_text()
    example = page.split("```json\n")[1].split("```")[0]
    terms = parse(json.loads(example))

    assert isinstance(terms, Terms)
    assert (terms.grantee, terms.purposes) == ("did:web:hospital.example", ("TREAT",))


def test_what_we_answer_is_r4() -> None:
    definitions = (
        Path(__file__).parents[2] / "data" / "fhir" / "definitions" / "fhir.schema.r4.medplum.json.gz"
    )
    schema = json.loads(gzip.decompress(definitions.read_bytes()))
    answers = [
        ours(),
        of_a_role(),
        render_prohibition(Prohibition("p", NOW), patient=PATIENT),
        render_prohibition(Prohibition("p", NOW, CLINICIAN, ("read",), ("TREAT",), NOW), patient=PATIENT),
        capability_statement(version="1"),
        searchset([ours()]),
        searchset([]),
        all_ok("granted"),
        json.loads(bytes(answered(Answer(409, "conflict", "another was first")).body)),
    ]
    for answer in answers:
        definition = {"$ref": f"#/definitions/{answer['resourceType']}"}
        jsonschema.Draft6Validator({**definition, "definitions": schema["definitions"]}).validate(answer)
