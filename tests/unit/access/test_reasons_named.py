"""However many policies decide, an event can say what was decided."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.asking import UNASKED

from salus.access.actors import Asking
from salus.access.decisions import REASONS_NAMED_MAX, Question, Rule, Verdict, conclude
from salus.access.state import PatientState

NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
DOCTOR = Asking("did:key:z6Mk", "person", frozenset({"clinician"}), None, request=UNASKED)
QUESTION = Question(DOCTOR, "read", "o-1", "urn:uuid:00000000-0000-4000-8000-000000000000", "TREAT")


def test_of_very_many_rules_the_first_are_named() -> None:
    """Case redA8 3: of a thousand organisations each forbids the same, and the event had no room for them."""
    rules = tuple(Rule(f"own-{number:04}") for number in range(1000))
    for allowed in (True, False):
        answer = conclude(QUESTION, Verdict(allowed, rules), state=PatientState(), at=NOON)

        assert answer.reasons == tuple(f"own-{number:04}" for number in range(REASONS_NAMED_MAX))
