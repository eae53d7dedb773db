"""Each cell of the table of permits, tried on the contract; docs/rights.md shows the same table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from tests.unit.consent.permits import (
    ACTORS,
    NOW,
    OFFICER,
    OPERATOR,
    OWNER,
    PARTY,
    RESEARCHER,
    REVIEWER,
    STRANGER,
    UNIVERSITY,
    a_proposal,
    asked,
    granted,
    proposed,
)

from salus.access.actors import Asking
from salus.access.permits import Permit, relation_of
from salus.consent.domain.permits import Approve, Withdraw, approve, is_shown, propose, use, withdraw
from salus.events.contexts.consent_permits import PermitUseDenied
from salus.events.permit_rights import RIGHTS, Act, Relation
from salus.runtime.refusal import Refusal


def changed(name: str, /, **changes: object) -> Asking:
    return replace(ACTORS[name], **changes)  # type: ignore[arg-type]  # fields of an actor


PERSON = changed(REVIEWER, did="did:web:p.example", roles=frozenset())
WHO: Mapping[Relation, tuple[Asking, ...]] = {
    Relation.RECIPIENT: (ACTORS[RESEARCHER],),
    Relation.PROPOSER: (ACTORS[UNIVERSITY],),
    Relation.REVIEWER: (
        ACTORS[REVIEWER],
        changed(REVIEWER, roles=frozenset({"ethics-reviewer", "operator"})),
    ),
    Relation.OWNER: (ACTORS[OWNER], ACTORS[OFFICER]),
    Relation.OPERATOR: (
        ACTORS[OPERATOR],
        # What a member gave her is no right of hers here: she governs, and that is all.
        changed(OPERATOR, member=OWNER, roles=frozenset({"operator", "ethics-reviewer"})),
    ),
    Relation.OTHER: (
        PERSON,
        ACTORS[STRANGER],
        # The recipient, without the role or of another member by now.
        changed(RESEARCHER, roles=frozenset()),
        changed(RESEARCHER, member=OWNER),
        changed(RESEARCHER, member=None),
        # Her colleague.
        changed(RESEARCHER, did="did:web:u.example:r2"),
        # Members make no reviewers: neither the one that proposes, nor the owner, nor another.
        *(changed(REVIEWER, member=member) for member in (UNIVERSITY, OWNER, "did:web:x.example")),
        changed(REVIEWER, kind="service"),
        changed(OFFICER, member=UNIVERSITY),
        changed(OFFICER, roles=frozenset({"clinician"})),
        changed(UNIVERSITY, did="did:web:x.example"),
    ),
}
CELLS = [(act, relation, actor) for act, relation in RIGHTS for actor in WHO[relation]]


def attempt(act: Act, actor: Asking) -> None:
    """Do it, or raise Refusal; a use that is denied raises the first of its reasons."""
    terms = proposed().terms
    assert terms is not None
    match act:
        case Act.PROPOSE:
            recipient = replace(PARTY[RESEARCHER], member=UNIVERSITY)
            propose(Permit(), a_proposal(recipient_party=recipient), actor=actor, at=NOW)
        case Act.APPROVE:
            approve(proposed(), Approve(proposed().id, terms.digest), actor=actor, at=NOW)
        case Act.WITHDRAW:
            withdraw(granted(), Withdraw(granted().id, "other"), actor=actor)
        case Act.USE:
            question = asked()
            question = replace(question, question=replace(question.question, principal=actor))
            event = use(granted(), question, actor=actor, at=NOW)
            if isinstance(event, PermitUseDenied):
                raise Refusal(event.reasons[0], "denied")
        case Act.SEE:
            if not is_shown(granted(), actor):
                raise Refusal("unknown-permit", "not shown")


@pytest.mark.parametrize(("act", "relation", "actor"), CELLS)
def test_a_cell_of_the_table_is_what_the_contract_does(act: Act, relation: Relation, actor: Asking) -> None:
    assert relation_of(granted(), actor) is relation
    if RIGHTS[act, relation]:
        attempt(act, actor)
        return
    with pytest.raises(Refusal) as refused:
        attempt(act, actor)

    # A member that has no such researcher proposes nothing; whoever is no member may not propose at all.
    expected = {
        Act.PROPOSE: "unknown-recipient" if actor.kind == "member" else "not-permitted",
        Act.USE: "not-recipient",
        Act.SEE: "unknown-permit",
    }
    otherwise = "not-permitted" if RIGHTS[Act.SEE, relation] else "unknown-permit"
    assert refused.value.code == expected.get(act, otherwise)
