"""Which policy set is in force follows from the events alone."""

from __future__ import annotations

from typing import Any

from tests.asking import UNASKED

from salus.access.policy_files import contents_of, digest_of
from salus.access.state import (
    EARLIER_MAX,
    PROPOSED_OF_OPERATOR_MAX,
    PolicyState,
    PolicyText,
    evolve_policies,
    evolve_text,
)
from salus.events.contexts.consent import PolicyFile, PolicySetActivated, PolicySetAdopted, PolicySetProposed
from salus.events.requests import Request


def files(name: str) -> tuple[PolicyFile, ...]:
    return (PolicyFile(f"{name}.cedar", "text"),)


def digest(name: str) -> str:
    return digest_of(contents_of(files(name)))


def adopted(name: str, *, contract: str = "c") -> PolicySetAdopted:
    return PolicySetAdopted(policy_set=digest(name), contract=contract, files=files(name), request=UNASKED)


def proposed(name: str, by: str = "did:web:one") -> PolicySetProposed:
    request = Request.of_service(by)
    return PolicySetProposed(policy_set=digest(name), files=files(name), request=request)


def activated(name: str, replaces: str, version: int) -> PolicySetActivated:
    return PolicySetActivated(
        policy_set=digest(name), replaces=digest(replaces), version=version, engine="e", request=UNASKED
    )


def after(*events: Any) -> PolicyState:
    state = PolicyState()
    for event in events:
        state = evolve_policies(state, event)
    return state


def test_the_first_set_is_adopted_and_no_other_one_is() -> None:
    state = after(adopted("a"), adopted("b", contract="other"))

    assert (state.policy_set, state.version, state.contract) == (digest("a"), 1, "other")


def test_what_was_proposed_is_activated_and_can_be_taken_back() -> None:
    forth = after(adopted("a"), proposed("b"), activated("b", "a", 2))
    back = evolve_policies(forth, activated("a", "b", 3))

    assert (forth.policy_set, forth.version) == (digest("b"), 2)
    assert (forth.proposed, forth.earlier) == ((), (digest("a"),))
    assert (back.policy_set, back.version, back.earlier) == (digest("a"), 3, (digest("b"),))


def test_an_activation_that_was_not_of_what_is_in_force_changes_nothing() -> None:
    before = (adopted("a"), proposed("b"), proposed("c"))
    for name, replaces, version in (("b", "c", 2), ("b", "a", 3), ("d", "a", 2), ("a", "a", 2)):
        wrong = activated(name, replaces, version)

        assert after(*before, wrong).policy_set == digest("a")


def test_a_proposal_under_the_digest_of_other_files_is_none() -> None:
    wrong = PolicySetProposed(policy_set=digest("b"), files=files("c"), request=UNASKED)
    twice = PolicySetProposed(policy_set=digest("b"), files=files("b") * 2, request=UNASKED)

    assert after(adopted("a"), wrong, twice).proposed == ()
    for event in (wrong, twice):
        assert evolve_text(PolicyText(digest("b")), event) == PolicyText(digest("b"))
    assert evolve_text(PolicyText(digest("b")), proposed("b")).files == files("b")


def test_an_operator_displaces_proposals_of_his_own_alone() -> None:
    names = [f"m{number}" for number in range(PROPOSED_OF_OPERATOR_MAX + 2)]
    state = after(adopted("a"), proposed("other", by="did:web:two"), *map(proposed, names))

    assert [each.policy_set for each in state.proposed] == [digest("other"), *map(digest, names[2:])]


def test_what_is_listed_has_a_maximum() -> None:
    events: list[Any] = [adopted("s0")]
    for number in range(1, EARLIER_MAX + 5):
        events += [proposed(f"s{number}"), activated(f"s{number}", f"s{number - 1}", number + 1)]
    state = after(*events)

    assert (len(state.earlier), state.version) == (EARLIER_MAX, EARLIER_MAX + 5)
