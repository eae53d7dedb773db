"""Decisions by the policies of the release: what is allowed, why, how long, and what never is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import UNASKED

from salus.access.actors import Asking
from salus.access.cedar import CedarPolicies
from salus.access.decisions import (
    Answer,
    Question,
    Rule,
    Verdict,
    conclude,
    glass_broken,
    inputs_digest,
    inputs_of,
)
from salus.access.law import answer_of
from salus.access.policy_files import read_policies
from salus.access.prohibitions import Prohibition
from salus.access.state import Consent, PatientState, SubjectState
from salus.events.contexts.consent import Action, EmergencyReason
from salus.events.fields import Purpose

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
HOSPITAL, HERSELF = "did:web:h.example", "did:web:p.example"
KNOWN = SubjectState(steward=HOSPITAL)
POLICIES = CedarPolicies(read_policies(files("salus.access").joinpath("policies")))
CLINICIAN = Asking("did:web:h.example:c", "person", frozenset({"clinician"}), HOSPITAL, request=UNASKED)
FOREIGN = Asking(
    "did:web:x.example:c", "person", frozenset({"clinician"}), "did:web:x.example", request=UNASKED
)
RESEARCHER = Asking(
    "did:web:u.example:r", "person", frozenset({"researcher"}), "did:web:u.example", request=UNASKED
)
OPERATOR = Asking(
    "did:web:s.example:o", "person", frozenset({"operator", "clinician"}), HOSPITAL, request=UNASKED
)
MEMBER = Asking(HOSPITAL, "member", frozenset(), None, request=UNASKED)
PATIENT_HERSELF = Asking(HERSELF, "person", frozenset({"patient"}), None, request=UNASKED)
SERVICE = Asking("did:web:s.example:audit", "service", frozenset({"audit"}), None, request=UNASKED)


def consent(grantee: str = CLINICIAN.did, **changes: Any) -> Consent:
    fields: dict[str, Any] = {
        "id": "c",
        "grantee": grantee,
        "actions": ("read",),
        "purposes": ("TREAT",),
        "valid_from": NOW - HOUR,
        "valid_until": NOW + HOUR,
    }
    return Consent(**{**fields, **changes})


def ask(
    principal: Asking = CLINICIAN,
    *,
    action: Action = "read",
    purpose: Purpose = "TREAT",
    break_glass: EmergencyReason | None = None,
    state: PatientState | None = None,
    subject: SubjectState = KNOWN,
) -> Answer:
    state = state or PatientState()
    question = Question(principal, action, "object-1", PATIENT, purpose, break_glass)
    inputs = inputs_of(question, state=state, patients={HERSELF}, subject=subject, at=NOW)
    return answer_of(
        question, POLICIES.evaluate(inputs), state=state, patients={HERSELF}, subject=subject, at=NOW
    )


def having(*consents: Consent) -> PatientState:
    return PatientState(consents=consents)


def test_a_consent_to_the_clinician_or_her_member_opens() -> None:
    for grantee in (CLINICIAN.did, HOSPITAL):
        answer = ask(state=having(consent(grantee)))

        assert (answer.allowed, answer.reasons) == (True, ("consented-clinician-reads",))
        assert (answer.valid_until, answer.obligations) == (NOW + timedelta(seconds=60), ())


# issue 14, Consent and access 1: the recipient is a role at a member.
def test_a_consent_to_a_role_is_to_whoever_holds_it_at_the_member_when_asking() -> None:
    state = having(consent(HOSPITAL, role="clinician"))
    colleague = replace(CLINICIAN, did=f"{HOSPITAL}:new")
    both = replace(CLINICIAN, roles=frozenset({"clinician", "researcher"}))
    others = [
        replace(CLINICIAN, roles=frozenset({"researcher"})),
        replace(CLINICIAN, member=None),
        replace(CLINICIAN, kind="device"),
        FOREIGN,
        MEMBER,
        replace(MEMBER, member=HOSPITAL, roles=frozenset({"clinician"})),
    ]

    for who in (CLINICIAN, colleague, both):
        answer = ask(who, state=state)
        assert (answer.allowed, answer.reasons) == (True, ("consented-clinician-reads",))
        assert answer.consents == ("c",)
    assert not any(ask(who, state=state).allowed for who in others)
    # The policies see one grant to the member, however many consents and roles it comes from.
    more = having(
        consent(HOSPITAL, role="clinician"),
        consent(HOSPITAL, id="d", role="researcher", valid_until=NOW + timedelta(seconds=9)),
        consent(HOSPITAL, id="e", purposes=("HRESCH",), role="clinician"),
    )
    question = Question(both, "read", "o", PATIENT, "TREAT")
    seen = inputs_of(question, state=more, patients=set(), subject=KNOWN, at=NOW)
    assert seen.entities[1]["attrs"]["grants"] == [
        {"grantee": HOSPITAL, "action": "read", "purpose": "TREAT"}
    ]
    assert ask(both, state=more).consents == ("c", "d")


def test_what_a_role_is_forbidden_no_consent_and_no_emergency_opens_to_who_holds_it() -> None:
    emergency: dict[str, Any] = {"purpose": "ETREAT", "break_glass": "life-threatening"}
    researcher = replace(CLINICIAN, roles=frozenset({"clinician", "researcher"}))
    given = (consent(), consent(HOSPITAL, id="d"))
    named: tuple[tuple[tuple[Purpose, ...], bool], ...] = (((), True), (("TREAT", "ETREAT"), False))
    for purposes, is_broken in named:
        forbidden = Prohibition("p", NOW - HOUR, HOSPITAL, purposes=purposes, role="researcher")
        state = PatientState(consents=given, prohibitions=(forbidden,))

        assert ask(researcher, state=state).reasons == ("patient-forbids",)
        assert ask(CLINICIAN, state=state).allowed
        assert ask(MEMBER, state=state).allowed
        assert ask(researcher, state=state, **emergency).break_glass is is_broken


@pytest.mark.parametrize(
    "given_consent",
    [
        consent(FOREIGN.did),
        consent(HOSPITAL, role="researcher"),
        consent(FOREIGN.did, role="clinician"),
        consent(purposes=("HOPERAT",)),
        consent(actions=("write",)),
        consent(revoked_epoch=1),
        consent(valid_until=NOW),
        consent(valid_from=NOW + HOUR),
    ],
)
def test_any_other_consent_does_not(given_consent: Consent) -> None:
    answer = ask(state=having(given_consent))

    assert (answer.allowed, answer.reasons) == (False, ("no-policy-permits",))
    assert answer.valid_until == NOW


def test_consents_to_others_are_no_part_of_a_question() -> None:
    # Red team 4: a thousand consents with 14 pairs each took 0.4 s of each question about their patient.
    others = [consent(f"did:web:x.example:{number}", actions=("read", "write")) for number in range(1000)]
    for principal in (CLINICIAN, FOREIGN, MEMBER, OPERATOR):
        own = consent(principal.did), consent(principal.member or principal.did, purposes=("HOPERAT",))
        few, many = having(*own), having(*others[:500], *own, *others[500:])
        question = Question(principal, "read", "o", PATIENT, "TREAT")
        seen = [inputs_of(question, state=s, patients=set(), subject=KNOWN, at=NOW) for s in (few, many)]

        assert seen[0].encoded == seen[1].encoded
        assert [grant["purpose"] for grant in seen[1].entities[1]["attrs"]["grants"]].count("TREAT") == 1


def test_a_token_does_not_outlive_the_consent() -> None:
    soon = NOW + timedelta(seconds=7)

    assert ask(state=having(consent(valid_until=soon))).valid_until == soon
    assert ask(state=having(consent(valid_until=soon), consent())).valid_until == NOW + timedelta(seconds=60)


def test_writing_needs_a_consent_to_write_or_stewardship() -> None:
    assert ask(FOREIGN, action="write").reasons == ("no-policy-permits",)
    assert ask(FOREIGN, action="write", state=having(consent(FOREIGN.did))).allowed is False
    to_write = having(consent(FOREIGN.did, actions=("write",)))
    assert ask(FOREIGN, action="write", state=to_write).reasons == ("consented-clinician-writes",)
    assert ask(CLINICIAN, action="write").reasons == ("steward-writes",)
    assert ask(MEMBER, action="write").reasons == ("steward-writes",)
    assert ask(MEMBER, action="write", purpose="HRESCH").allowed is False


def test_the_steward_itself_reads_with_a_consent_only() -> None:
    assert ask(MEMBER).allowed is False
    assert ask(MEMBER, state=having(consent(HOSPITAL))).reasons == ("consented-organisation-reads",)


def test_a_researcher_needs_a_permit_for_research() -> None:
    permit = having(consent(RESEARCHER.did, purposes=("HRESCH",)))

    assert ask(RESEARCHER, purpose="HRESCH", state=permit).reasons == ("research-permit",)
    assert ask(RESEARCHER, purpose="HRESCH").allowed is False
    assert ask(RESEARCHER, purpose="TREAT", state=having(consent(RESEARCHER.did))).allowed is False
    assert ask(CLINICIAN, purpose="HRESCH", state=having(consent(purposes=("HRESCH",)))).allowed is False


def test_a_patient_reads_her_own_record_at_her_own_request() -> None:
    her = PatientState(dids=(HERSELF,))

    assert ask(PATIENT_HERSELF, purpose="PATRQT", state=her).reasons == ("patient-reads-own",)
    assert ask(PATIENT_HERSELF, purpose="PATRQT").allowed is False
    assert ask(PATIENT_HERSELF, purpose="TREAT", state=her).allowed is False
    assert ask(PATIENT_HERSELF, purpose="PATRQT", action="write", state=her).allowed is False


def test_a_link_reads_nothing_without_the_role_patient() -> None:
    """Case security.md, medium: withdrawing the role patient stops neither reading nor granting."""
    question = Question(PATIENT_HERSELF, "read", "object-1", PATIENT, "PATRQT")
    her = PatientState(dids=(HERSELF,))
    answers = []
    for patients in ({HERSELF}, set[str]()):
        verdict = POLICIES.evaluate(inputs_of(question, state=her, patients=patients, subject=KNOWN, at=NOW))
        answer = answer_of(question, verdict, state=her, patients=patients, subject=KNOWN, at=NOW)
        answers.append(answer.allowed)

    assert answers == [True, False]


@pytest.mark.parametrize("reason", get_args(EmergencyReason))
def test_a_clinician_may_break_the_glass_and_must_answer_for_it(reason: EmergencyReason) -> None:
    answer = ask(FOREIGN, purpose="ETREAT", break_glass=reason)

    assert (answer.allowed, answer.break_glass, answer.reasons) == (True, True, ("break-glass",))
    assert answer.obligations == ("notify-patient", "notify-privacy-officer", "review-within-72h")
    assert answer.valid_until == NOW + timedelta(minutes=5)


def test_the_glass_is_not_broken_without_a_reason_for_another_purpose_or_by_others() -> None:
    assert ask(FOREIGN, purpose="ETREAT").allowed is False
    assert ask(FOREIGN, purpose="TREAT", break_glass="other").allowed is False
    assert ask(FOREIGN, purpose="ETREAT", action="write", break_glass="other").allowed is False
    for other in (RESEARCHER, MEMBER, PATIENT_HERSELF, SERVICE):
        assert ask(other, purpose="ETREAT", break_glass="other").allowed is False


def test_a_clinician_who_acts_for_no_organisation_breaks_no_glass() -> None:
    """Case threat model, second attack: one operator registers a clinician of no organisation, who reads."""
    alone = replace(FOREIGN, member=None)

    for reason in get_args(EmergencyReason):
        answer = ask(alone, purpose="ETREAT", break_glass=reason)
        assert (answer.allowed, answer.reasons) == (False, ("no-policy-permits",))


def test_nobody_breaks_a_glass_who_has_a_consent() -> None:
    state = having(consent(purposes=("ETREAT",)))
    answer = ask(purpose="ETREAT", break_glass="other", state=state)
    question = Question(CLINICIAN, "read", "o", PATIENT, "ETREAT", "other")

    assert (answer.break_glass, answer.reasons, answer.obligations) == (
        False,
        ("consented-clinician-reads",),
        (),
    )
    assert glass_broken(question, answer, decision="d", statement=None, steward=None, at=NOW) is None


def test_an_operator_reads_and_writes_nothing_whatever_was_consented() -> None:
    state = having(
        consent(OPERATOR.did, actions=("read", "write")), consent(HOSPITAL, actions=("read", "write"))
    )

    # Red team 4: the table said so of writing, and an operator who is a clinician wrote.
    for steward in (HOSPITAL, FOREIGN.did):
        answer = ask(OPERATOR, action="write", state=state, subject=SubjectState(steward))
        assert (answer.allowed, answer.reasons) == (False, ("operator-never-writes",))

    assert ask(OPERATOR, state=state).reasons == ("operator-never-reads",)
    assert ask(OPERATOR, purpose="ETREAT", break_glass="other").allowed is False


def test_an_erased_or_unknown_patient_is_read_by_nobody() -> None:
    state = having(consent())

    assert ask(state=state, subject=SubjectState(HOSPITAL, erased=True)).reasons == ("patient-erased",)
    assert ask(state=state, subject=SubjectState()).reasons == ("patient-unknown",)


def test_an_error_denies_whatever_else_was_said() -> None:
    question = Question(CLINICIAN, "read", "o", PATIENT, "TREAT")
    for verdict in (
        Verdict(allowed=True, rules=(Rule("open"),), errors=("failed",)),
        Verdict(allowed=True),
    ):
        answer = conclude(question, verdict, state=PatientState(), at=NOW)

        assert (answer.allowed, answer.reasons) == (False, ("policy-error",))


def test_an_object_id_of_any_text_is_no_error() -> None:
    for name in ('quote"', "back\\slash", "line\nbreak", "nul\0", "emoji \U0001f600", "Salus::Record"):
        question = Question(CLINICIAN, "read", name, PATIENT, "TREAT")
        state = having(consent())
        inputs = inputs_of(question, state=state, patients={HERSELF}, subject=KNOWN, at=NOW)

        assert POLICIES.evaluate(inputs).allowed


def test_the_digest_commits_to_every_input() -> None:
    question = Question(CLINICIAN, "read", "o", PATIENT, "TREAT")
    variants = [
        (question, having(consent()), KNOWN),
        (replace(question, object="p"), having(consent()), KNOWN),
        (replace(question, purpose="HRESCH"), having(consent()), KNOWN),
        (replace(question, break_glass="other"), having(consent()), KNOWN),
        (replace(question, principal=FOREIGN), having(consent()), KNOWN),
        (question, having(), KNOWN),
        (question, having(consent()), SubjectState()),
        (question, PatientState(consents=(consent(),), dids=(HERSELF,)), KNOWN),
    ]
    digests = {
        inputs_digest(inputs_of(q, state=state, patients={HERSELF}, subject=s, at=NOW))
        for q, state, s in variants
    }

    assert len(digests) == len(variants)


def test_the_canonical_inputs_do_not_depend_on_the_order_of_consents() -> None:
    question = Question(CLINICIAN, "read", "o", PATIENT, "TREAT")
    one, other = consent(), consent(HOSPITAL, id="d")
    forwards = inputs_of(question, state=having(one, other), patients={HERSELF}, subject=KNOWN, at=NOW)
    backwards = inputs_of(question, state=having(other, one, one), patients={HERSELF}, subject=KNOWN, at=NOW)

    assert forwards.encoded == backwards.encoded


_actors = st.sampled_from([CLINICIAN, FOREIGN, RESEARCHER, OPERATOR, MEMBER, PATIENT_HERSELF, SERVICE])
_purposes = st.sampled_from(get_args(Purpose))
_grantees = st.sampled_from([CLINICIAN.did, FOREIGN.did, RESEARCHER.did, OPERATOR.did, HOSPITAL, SERVICE.did])


@given(_actors, _purposes, st.lists(st.tuples(_grantees, _purposes), max_size=4))
def test_nobody_reads_without_a_consent_that_is_active_now(
    actor: Asking, purpose: Purpose, grants: list[tuple[str, Purpose]]
) -> None:
    over = [
        consent(grantee, purposes=(why,), **change)
        for grantee, why in grants
        for change in ({"revoked_epoch": 1}, {"valid_until": NOW}, {"valid_from": NOW + HOUR})
    ]

    assert ask(actor, purpose=purpose, state=having(*over)).allowed is False


@given(_actors, _purposes, st.lists(st.tuples(_grantees, _purposes), max_size=4))
def test_who_reads_was_granted_exactly_that(
    actor: Asking, purpose: Purpose, grants: list[tuple[str, Purpose]]
) -> None:
    state = having(*(consent(grantee, purposes=(why,)) for grantee, why in grants))
    answer = ask(actor, purpose=purpose, state=state)

    if answer.allowed:
        assert any(grantee in (actor.did, actor.member) and why == purpose for grantee, why in grants)
        assert "operator" not in actor.roles
        assert answer.valid_until <= NOW + timedelta(seconds=60)
