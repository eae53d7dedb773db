"""Every decision that was made as consent makes them follows again from the ledger; no other one does."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.asking import UNASKED
from tests.effort import tries
from tests.unit.archive.decided_ledger import RELEASED, DecidedLedger, begun, policies
from tests.unit.archive.served_ledger import DOCTOR, HERSELF, HOSPITAL, OFFICER, PATIENT, THIEF, identifier

from salus.access.policy_files import contents_of
from salus.archive.replayed_decision import Replayed
from salus.events.contexts import consent, identity
from salus.events.errors import RejectedError
from salus.events.state_positions import state_positions

OPEN = '@id("open") permit (principal, action, resource);'
CLINICIANS_NEVER = """
@id("no-clinician") forbid (principal, action, resource) when { principal.roles.contains("clinician") };
"""


def outcomes(found: list[Replayed]) -> list[str]:
    return [each.outcome for each in found]


def fields(found: Replayed) -> list[str]:
    return [difference.field for difference in found.differences]


async def test_each_kind_of_decision_follows_again() -> None:
    ledger = begun()
    ledger.ask(DOCTOR)
    ledger.grant(OFFICER, DOCTOR)
    ledger.ask(DOCTOR)
    ledger.link(OFFICER)
    ledger.ask(HERSELF, purpose="PATRQT")
    ledger.ask(THIEF)
    ledger.ask(DOCTOR, action="write")
    ledger.ask(THIEF, purpose="ETREAT", emergency="other")
    ledger.revoke(HERSELF)
    ledger.ask(DOCTOR)
    found = await ledger.replayed(blocks=3)

    assert outcomes(found) == ["same"] * 7
    assert [each.allowed for each in found] == [False, True, True, False, True, True, False]
    assert not any(each.differences or each.why for each in found)


async def test_what_was_forbidden_follows_again_and_is_not_left_out() -> None:
    ledger = begun()
    ledger.grant(OFFICER, DOCTOR)
    ledger.ask(DOCTOR)
    ledger.forbid(OFFICER, DOCTOR)
    ledger.ask(DOCTOR)
    ledger.ask(DOCTOR, allowed=True, reasons=("consented-clinician-reads",))
    ledger.lift(OFFICER, DOCTOR)
    ledger.ask(DOCTOR)
    before, forbidden, forged, after = await ledger.replayed(blocks=2)

    assert [each.outcome for each in (before, forbidden, after)] == ["same"] * 3
    assert [each.reasons for each in (forbidden, forged)] == [
        ("patient-forbids",),
        ("consented-clinician-reads",),
    ]
    assert fields(forged) == ["allowed", "reasons"]


# issue 14, Consent and access 1; who got or lost a role in between: tests/integration/consent/test_replay.py.
async def test_what_is_allowed_or_forbidden_to_a_role_follows_again() -> None:
    ledger = begun()
    for role in ("clinician", "researcher"):
        ledger.ring.apply(identity.RoleGranted(did=OFFICER.did, role=role, request=UNASKED))
    ledger.grant(HERSELF, HOSPITAL, role="clinician")
    for who in (DOCTOR, OFFICER, HOSPITAL):
        ledger.ask(who)
    ledger.forbid(HERSELF, HOSPITAL, role="researcher")
    for who in (DOCTOR, OFFICER):
        ledger.ask(who)
    ledger.ask(OFFICER, allowed=True, reasons=("consented-clinician-reads",))
    *found, forged = await ledger.replayed(blocks=2)

    assert outcomes(found) == ["same"] * 5
    assert [each.allowed for each in found] == [True, True, False, True, False]
    assert fields(forged) == ["allowed", "reasons"]


async def test_who_is_suspended_asks_in_the_roles_that_are_kept() -> None:
    """Case redA8 4: a nurse who is a patient too, while her hospital is suspended."""
    ledger = begun()
    ledger.link(OFFICER)
    ledger.ask(DOCTOR)
    for role in ("clinician", "patient"):
        ledger.ring.apply(identity.RoleGranted(did=HERSELF.did, role=role, request=UNASKED))
    ledger.ring.apply(identity.MemberSuspended(did=HOSPITAL.did, reason="security-incident", request=UNASKED))
    for purpose in ("PATRQT", "ETREAT"):
        ledger.ask(HERSELF, purpose=purpose, emergency="other" if purpose == "ETREAT" else None)
    stated_for_the_suspended, *hers = await ledger.replayed()

    assert fields(stated_for_the_suspended) == ["principal"]
    assert stated_for_the_suspended.differences[0].follows == "its member was suspended"
    assert [(each.outcome, each.allowed) for each in hers] == [("same", True), ("same", False)]


@pytest.mark.parametrize(
    ("forged", "named"),
    [
        ({"allowed": True, "reasons": ("consented-clinician-reads",)}, ["allowed", "reasons"]),
        ({"reasons": ("no-such-policy",)}, ["reasons"]),
        ({"inputs": "0" * 64}, ["inputs"]),
        ({"policy_set": "0" * 64}, ["policy_set"]),
        ({"epoch": 7}, ["epoch"]),
        ({"obligations": ("nothing",)}, ["obligations"]),
        ({"consents": ("c",)}, ["consents"]),
        ({"object": "o-2"}, ["inputs"]),
    ],
)
async def test_a_decision_that_does_not_follow_is_found(
    forged: dict[str, Any], named: list[str] | None
) -> None:
    """Case threat model: the thief of consent's key allows himself an access."""
    ledger = begun()
    ledger.ask(DOCTOR)
    ledger.ask(THIEF, **forged)
    honest, found = await ledger.replayed()

    assert (honest.outcome, found.outcome) == ("same", "differs")
    assert named is None or fields(found) == named
    assert f"row {found.row} (salus.consent.events 0 {found.offset}, event consent-2)" in found.place


@pytest.mark.parametrize("superseded", ["policies", "consent"])
async def test_a_decision_by_a_state_of_long_ago_is_found(superseded: str) -> None:
    """Cases redA8 6, redB8 6: the thief of consent's key chooses what was in force before."""
    ledger = begun()
    ledger.grant(OFFICER, DOCTOR)
    before = ledger.state_now()
    ledger.now += timedelta(minutes=30)
    if superseded == "policies":
        ledger.change_policies(policies(CLINICIANS_NEVER))
    else:
        ledger.revoke(HERSELF)
    ledger.now += timedelta(minutes=30)
    ledger.ask(DOCTOR)
    now = ledger.state_now()
    ledger.be_in(before)
    ledger.ask(DOCTOR, state_positions=state_positions(before.positions))
    ledger.be_in(now)
    honest, found = await ledger.replayed(blocks=6)

    assert (honest.outcome, honest.allowed) == ("same", False)
    assert (found.outcome, found.allowed) == ("differs", True)
    assert fields(found) == ["state_positions"]


async def test_a_decision_that_is_dated_back_is_found() -> None:
    ledger = begun()
    ledger.grant(OFFICER, DOCTOR)
    ledger.now += timedelta(days=30)
    ledger.ask(DOCTOR)
    # A clock that is wrong by minutes is no theft.
    ledger.ask(DOCTOR, decided_at=ledger.now - timedelta(minutes=4))
    ledger.ask(DOCTOR, decided_at=ledger.now - timedelta(days=30))
    honest, late, found = await ledger.replayed(blocks=2)

    assert (honest.outcome, found.outcome) == ("same", "differs")
    assert "decided_at" not in fields(late)
    assert "decided_at" in fields(found)


async def test_a_longer_validity_than_follows_is_found() -> None:
    ledger = begun()
    ledger.grant(OFFICER, DOCTOR)
    ledger.ask(DOCTOR, valid_until=ledger.now + timedelta(days=1))
    (found,) = await ledger.replayed()

    assert fields(found) == ["valid_until"]


async def test_a_decision_by_a_state_that_is_not_here_is_never_shown_as_the_same() -> None:
    ledger = begun()
    ledger.ask(DOCTOR)
    ahead = {**ledger.positions, ("salus.storage.events", 0): 99}
    ledger.ask(DOCTOR, state_positions=state_positions(ahead))
    found = await ledger.replayed()

    assert outcomes(found) == ["same", "not-replayed"]
    assert "salus.storage.events 0 that are in no block here" in (found[1].why or "")


async def test_a_policy_set_without_a_text_is_never_shown_as_the_same() -> None:
    ledger = DecidedLedger()
    # As services stated it before texts were on the ledger.
    ledger.adopt(with_text=False)
    ledger.register()
    ledger.ask(DOCTOR)
    ledger.ask(DOCTOR, inputs="0" * 64)
    found = await ledger.replayed()
    known = await ledger.replayed(known_sets=(contents_of(RELEASED),))

    assert outcomes(found) == ["not-replayed", "differs"]
    assert "is not on the ledger" in (found[0].why or "")
    assert outcomes(known) == ["same", "differs"]


async def test_policies_are_those_in_force_at_the_decisions_position() -> None:
    ledger = begun()
    ledger.grant(OFFICER, DOCTOR)
    ledger.ask(DOCTOR)
    before = ledger.policies.policy_set
    ledger.change_policies(policies(CLINICIANS_NEVER))
    ledger.ask(DOCTOR)
    ledger.ask(DOCTOR, policy_set=before, allowed=True)
    found = await ledger.replayed(blocks=4)

    assert [(each.outcome, each.allowed) for each in found] == [
        ("same", True),
        ("same", False),
        ("differs", True),
    ]
    assert fields(found[2]) == ["policy_set", "allowed"]


async def test_with_consents_key_alone_nobody_changes_the_policies() -> None:
    """Its holder adopts others, or activates what nobody proposed: what is in force stays."""
    ledger = begun()
    before = ledger.policies
    ledger.adopt(policies(OPEN))
    assert ledger.policies.policy_set == before.policy_set
    digest = ledger._keep(policies(OPEN))
    activated = consent.PolicySetActivated(
        policy_set=digest, replaces=before.policy_set, version=2, engine="e", request=UNASKED
    )
    # One operator asked, the second did not.
    with pytest.raises(RejectedError, match="an operator of another organisation must approve it"):
        ledger.govern(activated, second=None)
    # Both asked for what nobody proposed.
    ledger.govern(activated)

    assert ledger.policies.policy_set == before.policy_set
    ledger.ask(THIEF, policy_set=digest, allowed=True, reasons=("open",))
    (found,) = await ledger.replayed()

    assert fields(found) == ["policy_set", "allowed", "reasons"]


async def test_another_policy_set_is_tried_on_what_was_decided() -> None:
    ledger = begun()
    ledger.grant(OFFICER, DOCTOR)
    ledger.ask(DOCTOR)
    ledger.ask(THIEF)
    narrower = await ledger.replayed(other=CLINICIANS_NEVER)
    wider = await ledger.replayed(other=OPEN)

    assert [each.outcome for each in (*narrower, *wider)] == ["same"] * 4
    assert [each.instead and (each.instead.allowed, each.instead.reasons) for each in narrower] == [
        (False, ("no-clinician",)),
        (False, ("no-clinician",)),
    ]
    # What permits all permits nothing without the patient's consent.
    assert [each.instead and (each.instead.allowed, each.instead.reasons) for each in wider] == [
        (True, ("open",)),
        (False, ("no-basis",)),
    ]


async def test_of_a_range_only_is_replayed_what_is_in_it() -> None:
    ledger = begun()
    ledger.ask(DOCTOR)
    middle = ledger.now
    ledger.ask(THIEF, allowed=True)
    later = await ledger.replayed(within=lambda _height, appended: appended > middle)
    earlier = await ledger.replayed(within=lambda _height, appended: appended <= middle)

    assert (outcomes(later), outcomes(earlier)) == (["differs"], ["same"])


QUESTIONS = ("ask-doctor", "ask-thief", "ask-herself", "write", "emergency")
acts = st.lists(
    st.sampled_from([*QUESTIONS, "grant", "revoke", "forbid", "lift", "link", "unlink", "policies", "adopt"]),
    max_size=25,
)


class History:
    """What happens on a ledger, act by act."""

    def __init__(self) -> None:
        self.ledger = begun()
        self.granted = 0

    def ask(self, act: str, **forged: Any) -> None:
        who, how = {
            "ask-doctor": (DOCTOR, {}),
            "ask-thief": (THIEF, {}),
            "ask-herself": (HERSELF, {"purpose": "PATRQT"}),
            "write": (HOSPITAL, {"action": "write"}),
            "emergency": (THIEF, {"purpose": "ETREAT", "emergency": "other"}),
        }[act]
        self.ledger.ask(who, **{**how, **forged})

    def change(self, act: str) -> None:
        ledger, epoch = self.ledger, self.ledger.patient.epoch + 1
        is_linked = bool(ledger.patient.dids)
        match act:
            case "grant":
                self.granted += 1
                ledger.grant(OFFICER, DOCTOR, number=self.granted)
            case "revoke" if self.granted:
                ledger.revoke(OFFICER, number=self.granted, epoch=epoch)
            case "forbid":
                ledger.forbid(OFFICER, (DOCTOR, None)[epoch % 2], number=100 + epoch, epoch=epoch)
            case "lift":
                for one in ledger.patient.prohibitions:
                    number = int(one.id.rpartition(".")[2], 16)
                    ledger.lift(OFFICER, DOCTOR if one.party else None, number=number)
            case "link" if not is_linked:
                ledger.link(OFFICER)
            case "unlink" if is_linked:
                ledger.unlink(OFFICER, epoch=epoch)
            case "policies":
                ledger.change_policies(policies(f"{CLINICIANS_NEVER}// {len(ledger.records)}"))
            case "adopt":
                ledger.adopt()


@given(acts=acts, blocks=st.integers(1, 5), mutated=st.none() | st.integers(0, 24))
@settings(max_examples=tries(20, long=1_000), deadline=None)
async def test_a_generated_history_has_no_difference_but_the_one_that_was_put_there(
    acts: list[str], blocks: int, mutated: int | None
) -> None:
    history, forged = History(), 0
    for place, act in enumerate(acts):
        if act not in QUESTIONS:
            history.change(act)
        elif place == mutated:
            history.ask(act, epoch=99)
            forged = history.ledger.answers
        else:
            history.ask(act)
    ledger = history.ledger
    found = await ledger.replayed(blocks=min(blocks, len(ledger.records)))
    differing = [each.decision for each in found if each.outcome != "same"]

    assert len(found) == ledger.answers
    assert differing == ([identifier(PATIENT, forged)] if forged else [])
