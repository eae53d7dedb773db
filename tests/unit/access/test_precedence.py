"""Each cell of docs/precedence.md: law before policies, policies within consents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.asking import UNASKED

from salus.access.actors import Asking
from salus.access.cases import Case as CaseState
from salus.access.cedar import CedarPolicies
from salus.access.decisions import Answer, Question, Verdict, inputs_of
from salus.access.law import EMERGENCY_OBLIGATIONS, answer_of
from salus.access.parsed_policies import PolicySetError
from salus.access.policy_check import usable
from salus.access.policy_files import read_policies
from salus.access.prohibitions import Prohibition
from salus.access.state import Consent, PatientState, SubjectState

DOCUMENT = Path(__file__).parents[3] / "docs" / "precedence.md"
NOW = datetime(2026, 11, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
PATIENT, HOSPITAL, CLINIC = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a", "did:web:h", "did:web:c"
HERSELF = Asking("did:web:she", "person", frozenset({"patient"}), None, request=UNASKED)
CLINICIAN = Asking("did:web:c:doctor", "person", frozenset({"clinician"}), CLINIC, request=UNASKED)
KEEPER = Asking("did:web:h:doctor", "person", frozenset({"clinician"}), HOSPITAL, request=UNASKED)
RESEARCHER = Asking("did:web:c:r", "person", frozenset({"researcher"}), CLINIC, request=UNASKED)
OPERATOR = Asking("did:web:c:o", "person", frozenset({"operator", "clinician"}), CLINIC, request=UNASKED)
SCHEMA = {n: d for n, d in read_policies(files("salus.access").joinpath("policies")).items() if "schema" in n}


def policies(text: str) -> Any:
    return usable({"own.cedar": text.encode(), **SCHEMA})


NEVER = '@id("never") permit (principal, action, resource) when { principal.did == "nobody" };'
OPEN = '@id("open") permit (principal, action, resource) unless { context has break_glass };'
# As short as it can be written: what the law wants of an emergency is not in it.
GLASS = """
@id("glass") @break_glass("yes") @valid_seconds("900")
permit (principal, action, resource) when { context has break_glass };
"""
LEFT = '@id("left") @review("human") permit (principal, action, resource) unless { context has break_glass };'
SHUT = '@id("shut") forbid (principal, action, resource);'
SETS: Mapping[str, Any] = {
    "no policy permits": policies(NEVER),
    "a policy permits": policies(OPEN + GLASS),
    "a policy leaves it to a person": policies(OPEN + LEFT + GLASS),
    "a policy forbids": policies(OPEN + SHUT),
}


@dataclass(frozen=True)
class Case:
    who: Asking = CLINICIAN
    action: Any = "read"
    purpose: Any = "TREAT"
    emergency: Any = None
    state: PatientState = PatientState()  # noqa: RUF009  # frozen
    subject: SubjectState = SubjectState(HOSPITAL)  # noqa: RUF009  # frozen


def consented(to: Asking = CLINICIAN, **changes: Any) -> PatientState:
    begin, end = NOW - HOUR, NOW + HOUR
    consent = Consent("c", to.did, ("read",), ("TREAT",), begin, end)
    consent = replace(consent, **changes)
    return PatientState(consents=(consent,))


def approved(state: PatientState | None = None, **changes: Any) -> PatientState:
    """Return a patient about whom a person approved the clinician's reading."""
    case = CaseState("k", CLINICIAN.did, "read", "o", "TREAT", NOW, NOW, HOSPITAL, outcome="approved")
    case = replace(case, **{"valid_until": NOW + HOUR, **changes})
    return replace(consented() if state is None else state, cases=(case,))


def forbidden(state: PatientState = PatientState(), **about: Any) -> PatientState:  # noqa: B008  # frozen
    return replace(state, prohibitions=(Prohibition("p", NOW - HOUR, **about),))


WRITES = PatientState(consents=(Consent("c", CLINIC, ("write",), ("TREAT",), NOW - HOUR, NOW + HOUR),))
EMERGENCY: Mapping[str, Any] = {"purpose": "ETREAT", "emergency": "other"}
CASES = {
    "the patient reads her own": Case(HERSELF, purpose="PATRQT", state=PatientState(dids=(HERSELF.did,))),
    "anybody, the patient was erased": Case(state=consented(), subject=SubjectState(HOSPITAL, erased=True)),
    "anybody, no organisation keeps her record": Case(state=consented(), subject=SubjectState()),
    "an operator, with her consent": Case(OPERATOR, state=consented(OPERATOR)),
    "the patient reads her own, which she forbade everybody": Case(
        HERSELF, purpose="PATRQT", state=forbidden(PatientState(dids=(HERSELF.did,)))
    ),
    "an operator, whom she forbade it": Case(OPERATOR, state=forbidden(party=OPERATOR.did)),
    "a clinician reads, with her consent, whom she forbade it": Case(
        state=forbidden(consented(), party=CLINICIAN.did, actions=("read",), purposes=("TREAT",))
    ),
    "a clinician reads, with her consent, whose organisation she forbade it": Case(
        state=forbidden(consented(), party=CLINIC)
    ),
    "a clinician reads, with her consent, whose role there she forbade it": Case(
        state=forbidden(consented(), party=CLINIC, role="clinician")
    ),
    "a clinician reads, with her consent, another role there she forbade it": Case(
        state=forbidden(consented(), party=CLINIC, role="researcher")
    ),
    "a clinician reads, with her consent, and she forbade everybody": Case(state=forbidden(consented())),
    "a clinician reads, with her consent, she forbade another purpose": Case(
        state=forbidden(consented(), purposes=("HRESCH",))
    ),
    "a clinician reads, with her consent, the prohibition was lifted": Case(
        state=forbidden(consented(), party=CLINICIAN.did, lifted=True)
    ),
    "another organisation writes, with her consent, whom she forbade it": Case(
        action="write", state=forbidden(WRITES, party=CLINIC)
    ),
    "who keeps her record writes, whom she forbade it": Case(
        KEEPER, action="write", state=forbidden(party=HOSPITAL)
    ),
    "who keeps her record reads, with her consent, whom she forbade it": Case(
        KEEPER, state=forbidden(consented(KEEPER), party=HOSPITAL)
    ),
    "a clinician in an emergency, whom she forbade every purpose": Case(
        **EMERGENCY, state=forbidden(party=CLINIC)
    ),
    "a clinician in an emergency, whom she forbade emergency treatment": Case(
        **EMERGENCY, state=forbidden(party=CLINIC, purposes=("ETREAT",))
    ),
    "a clinician in an emergency, with her consent, whom she forbade every purpose": Case(
        **EMERGENCY, state=forbidden(consented(purposes=("ETREAT",)), party=CLINIC)
    ),
    "a clinician reads, with her consent": Case(state=consented()),
    "a clinician reads, with her consent to that role at the organisation": Case(
        state=consented(grantee=CLINIC, role="clinician")
    ),
    "a clinician reads, with her consent to another role there": Case(
        state=consented(grantee=CLINIC, role="researcher")
    ),
    "a clinician reads, without": Case(),
    "a clinician reads, her consent was revoked": Case(state=consented(revoked_epoch=1)),
    "a clinician reads, with her consent, and a person approved": Case(state=approved()),
    "a clinician reads, without, and a person approved": Case(state=approved(PatientState())),
    "a clinician reads, a person approved another object": Case(state=approved(object="other")),
    "a clinician reads, a person's approval has ended": Case(state=approved(valid_until=NOW)),
    "who keeps her record writes": Case(KEEPER, action="write"),
    "another organisation writes, without consent": Case(action="write"),
    "a clinician in an emergency, a policy breaks the glass": Case(purpose="ETREAT", emergency="other"),
    "a researcher in an emergency": Case(RESEARCHER, purpose="ETREAT", emergency="other"),
}


def ask(case: Case, by: Any) -> Answer:
    question = Question(case.who, case.action, "o", PATIENT, case.purpose, case.emergency)
    known: dict[str, Any] = {"state": case.state, "subject": case.subject, "at": NOW}
    known["patients"] = {HERSELF.did}
    return answer_of(question, by.evaluate(inputs_of(question, **known)), **known)


def cells() -> Iterator[tuple[str, str, str]]:
    lines = (line for line in DOCUMENT.read_text().splitlines() if line.startswith("| "))
    rows = [line.strip("| ").split(" | ") for line in lines]
    for question, *answers, _ in rows[1:]:
        yield from ((question, column, answer) for column, answer in zip(rows[0][1:5], answers, strict=True))


CELLS = list(cells())


def test_each_row_and_column_of_the_table_is_tried() -> None:
    assert {(question, column) for question, column, _ in CELLS} == {(q, c) for q in CASES for c in SETS}


@pytest.mark.parametrize(("question", "column", "said"), CELLS)
def test_the_table_says_what_is_decided(question: str, column: str, said: str) -> None:
    answer = ask(CASES[question], SETS[column])
    word = "allowed" if answer.allowed else "waits" if answer.pending else "denied"

    assert f"{word} `{', '.join(answer.reasons)}`" == said


def test_an_emergency_is_short_and_reviewed_whatever_the_policy_says() -> None:
    answer = ask(CASES["a clinician in an emergency, a policy breaks the glass"], SETS["a policy permits"])

    assert answer.break_glass
    assert answer.obligations == EMERGENCY_OBLIGATIONS
    assert answer.valid_until == NOW + timedelta(seconds=300)


def test_an_emergency_is_not_denied_because_a_policy_permits_too_much() -> None:
    """What permits without a consent counts as if it did not; the glass can still be broken."""
    wide = policies('@id("wide") permit (principal, action, resource);' + GLASS)
    answer = ask(CASES["a clinician in an emergency, a policy breaks the glass"], wide)

    assert (answer.allowed, answer.break_glass, answer.reasons) == (True, True, ("glass",))


def test_an_engine_that_fails_denies_and_takes_nothing_from_the_patient() -> None:
    class Failing:
        def evaluate(self, _: object) -> Verdict:
            return Verdict(allowed=False, errors=("it failed",))

    assert ask(CASES["the patient reads her own"], Failing()).reasons == ("patient-reads-own",)
    assert ask(CASES["a clinician reads, with her consent"], Failing()).reasons == ("policy-error",)


def test_what_was_approved_is_named_and_ends_with_the_approval() -> None:
    name = "a clinician reads, with her consent, and a person approved"
    answer = ask(CASES[name], SETS["a policy leaves it to a person"])
    short = ask(Case(state=approved(valid_until=NOW + HOUR / 600)), SETS["a policy leaves it to a person"])

    assert (answer.case, answer.valid_until) == ("k", NOW + timedelta(seconds=60))
    assert short.valid_until == NOW + HOUR / 600


def test_what_waits_already_is_named() -> None:
    waiting = approved(outcome=None, valid_until=None)
    answer = ask(Case(state=waiting), SETS["a policy leaves it to a person"])

    assert (answer.pending, answer.case, answer.allowed) == (True, "k", False)


def test_an_emergency_does_not_wait_for_a_person() -> None:
    """Where the policies break the glass for what they leave to a person otherwise."""
    both = policies('@id("all") @review("human") permit (principal, action, resource);' + GLASS)
    consent = Consent("c", CLINICIAN.did, ("read",), ("ETREAT",), NOW - HOUR, NOW + HOUR)
    answer = ask(Case(purpose="ETREAT", emergency="other", state=PatientState(consents=(consent,))), both)

    assert (answer.allowed, answer.break_glass, answer.reasons) == (True, True, ("glass",))


def test_what_is_no_emergency_waits_though_a_policy_would_break_the_glass() -> None:
    careless = '@id("glass") @break_glass("yes") permit (principal, action, resource);'
    answer = ask(Case(state=consented()), policies(LEFT + careless))

    assert (answer.pending, answer.reasons) == (True, ("awaits-person", "left"))


@pytest.mark.parametrize(
    "text",
    [
        '@id("a") @review("later") permit (principal, action, resource);',
        '@id("a") @review("human") forbid (principal, action, resource);',
        '@id("a") @review("human") @break_glass("yes") permit (principal, action, resource);',
    ],
)
def test_a_review_that_nobody_could_make_is_refused(text: str) -> None:
    with pytest.raises(PolicySetError, match="@review"):
        policies(text)


def test_a_set_in_force_that_says_another_review_goes_on_deciding() -> None:
    """Before there were reviews by a person nothing read it, and such a set could be activated."""
    text = '@id("open") @review("2026-01") permit (principal, action, resource);'
    in_force = CedarPolicies({"own.cedar": text.encode(), **SCHEMA})

    assert ask(Case(state=consented()), in_force).allowed


def test_an_emergency_rule_does_not_stand_in_for_a_consent_that_is_forbidden() -> None:
    """Nobody said that it is an emergency, so what is forbidden stays so."""
    case = Case(state=forbidden(consented(), party=CLINIC))

    assert ask(case, policies(GLASS + OPEN)).reasons == ("patient-forbids",)


def test_no_policy_may_call_itself_a_prohibition() -> None:
    with pytest.raises(PolicySetError, match="patient-forbids"):
        policies('@id("patient-forbids") permit (principal, action, resource);')


@pytest.mark.parametrize(("begins", "purposes"), [(HOUR / 120, ()), (HOUR / 120, ("ETREAT",))])
def test_an_answer_does_not_last_into_a_prohibition(begins: timedelta, purposes: tuple[Any, ...]) -> None:
    at_once = consented(purposes=("ETREAT",))
    later = Prohibition("p", NOW + begins, CLINIC, purposes=purposes)
    state = replace(at_once, prohibitions=(later, replace(later, id="q", valid_from=NOW + HOUR)))
    ordinary = ask(Case(purpose="ETREAT", state=state), SETS["a policy permits"])
    emergency = ask(Case(**EMERGENCY, state=state), SETS["a policy permits"])

    assert (ordinary.reasons, ordinary.valid_until) == (("open",), NOW + begins)
    assert emergency.reasons == ("glass",)
    # An emergency access ends as a prohibition begins that is about emergencies.
    assert emergency.valid_until == NOW + (begins if purposes else timedelta(seconds=300))
