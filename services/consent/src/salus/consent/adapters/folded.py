"""Patients' facts from the fold store, together with the position that they belong to."""

from __future__ import annotations

from salus.access.state import (
    PatientState,
    PolicyState,
    SubjectState,
    evolve,
    evolve_policies,
    evolve_subject,
)
from salus.consent.ports import Facts
from salus.contracts.contract import Contract
from salus.contracts.ports import Fold, States
from salus.events.contexts.consent import PolicySetAdopted
from salus.events.event_types import EventData

CONSENT_TOPIC = "salus.consent.events"
STORAGE_TOPIC = "salus.storage.events"


def _policies_of(subject: str, event: EventData) -> str | None:
    return subject if isinstance(event, PolicySetAdopted) else None


def _patient_of(subject: str, event: EventData) -> str | None:
    return None if isinstance(event, PolicySetAdopted) else subject


PATIENTS = Contract(
    kind="patient", topic=CONSENT_TOPIC, state=PatientState, evolve=evolve, aggregate=_patient_of
)
POLICIES = Contract(
    kind="policies", topic=CONSENT_TOPIC, state=PolicyState, evolve=evolve_policies, aggregate=_policies_of
)
SUBJECTS = Contract(kind="subject", topic=STORAGE_TOPIC, state=SubjectState, evolve=evolve_subject)


class FoldedFacts:
    """Reads after a barrier, and in one statement, so that position and state belong together."""

    def __init__(self, follower: Fold, store: States) -> None:
        self._follower = follower
        self._store = store

    async def facts(self, patient: str) -> Facts:
        """Return what is known of the patient now; raises MessagingError when Kafka is away."""
        await self._follower.catch_up()
        ends, states = await self._store.load_at([(PATIENTS.kind, patient), (SUBJECTS.kind, patient)])
        state, subject = states.get((PATIENTS.kind, patient)), states.get((SUBJECTS.kind, patient))
        return Facts(
            state=PATIENTS.decode(state) if state else PatientState(),
            subject=SUBJECTS.decode(subject) if subject else SubjectState(),
            positions=ends,
        )
