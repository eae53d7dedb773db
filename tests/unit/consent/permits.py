"""Who has to do with permits in tests, and a permit of theirs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.asking import UNASKED

from salus.access.actors import Asking
from salus.access.permits import Permit, UseQuestion, evolve_permit
from salus.consent.domain.permits import Approve, Ask, Propose, approve, propose
from salus.events.parties import Party

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
DAY = timedelta(days=1)
PERMIT = f"permit-{'0' * 20}"
OWNER, UNIVERSITY = "did:web:h.example", "did:web:u.example"
RESEARCHER, OFFICER = "did:web:u.example:r", "did:web:h.example:o"
REVIEWER, OPERATOR, STRANGER = "did:web:ethics.example", "did:web:op.example", "did:web:x.example:r"
RIVAL = "did:web:x.example"
PARTIES = (
    Party(OWNER, "member", frozenset(), None),
    Party(UNIVERSITY, "member", frozenset(), None),
    Party(RIVAL, "member", frozenset(), None),
    Party(RESEARCHER, "person", frozenset({"researcher"}), UNIVERSITY),
    Party(OFFICER, "person", frozenset({"privacy-officer"}), OWNER),
    Party(REVIEWER, "person", frozenset({"ethics-reviewer"}), None),
    Party(OPERATOR, "person", frozenset({"operator"}), None),
    Party(STRANGER, "person", frozenset({"researcher"}), RIVAL),
)
ACTORS = {party.did: Asking.of(party, UNASKED) for party in PARTIES}
PARTY = {party.did: party for party in PARTIES}


def a_proposal(**changes: Any) -> Propose:
    """Return the command of the university for its researcher: for a day, three times."""
    given: dict[str, Any] = {
        "permit": PERMIT,
        "owner": OWNER,
        "data_set": "cohort-1",
        "recipient": RESEARCHER,
        "purpose": "HRESCH",
        "valid_until": NOW + DAY,
        "uses_max": 3,
        "recipient_party": PARTY[RESEARCHER],
        "owner_party": PARTY[OWNER],
    }
    return Propose(**given | changes)


def proposed(**changes: Any) -> Permit:
    """Return a permit that was proposed."""
    return evolve_permit(Permit(), propose(Permit(), a_proposal(**changes), actor=ACTORS[UNIVERSITY], at=NOW))


def granted(**changes: Any) -> Permit:
    """Return a permit that holds."""
    permit = proposed(**changes)
    assert permit.terms is not None
    command = Approve(permit.id, permit.terms.digest)
    return evolve_permit(permit, approve(permit, command, actor=ACTORS[REVIEWER], at=NOW))


def asked(number: int = 1, *, by: str = RESEARCHER, **changes: Any) -> Ask:
    """Return a question for one use."""
    given: dict[str, Any] = {
        "principal": ACTORS[by],
        "owner": OWNER,
        "data_set": "cohort-1",
        "purpose": "HRESCH",
    }
    return Ask(PERMIT, f"{number:020x}", UseQuestion(**given | changes))
