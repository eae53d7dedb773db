"""What is kept of patients between questions is never older than the topics."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.asking import UNASKED

from salus.consent.adapters.folded import PATIENTS, SUBJECTS, FoldedFacts
from salus.contracts.testing.memory import MemoryTopics
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import ConsentGranted, ConsentRevoked, PatientLinked
from salus.events.contexts.storage import SubjectErased
from salus.events.event_types import EventData
from salus.events.recipients import Recipient

NOW = datetime(2026, 11, 30, 3, tzinfo=UTC)
PSEUDONYMS = [f"urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6{n}" for n in range(4)]
SHE, OTHER = PSEUDONYMS[:2]
CLINICIAN = "did:web:h.example:c"


class Counted:
    """A replica that counts how often the whole state of a patient is read."""

    def __init__(self, replica: Any) -> None:
        self._replica = replica
        self.read = self.looks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._replica, name)

    async def rows_at(self, aggregates: Sequence[tuple[str, str]]) -> Any:
        self.looks += 1
        self.read += sum(kind == PATIENTS.kind for kind, _ in aggregates)
        return await self._replica.rows_at(aggregates)


def granted(patient: str, number: int) -> EventData:
    return ConsentGranted(
        consent=f"c{number}",
        patient=patient,
        grantee=CLINICIAN,
        actions=("read",),
        purposes=("TREAT",),
        valid_from=NOW,
        valid_until=NOW + timedelta(hours=1),
        epoch=0,
        request=UNASKED,
    )


async def test_a_patient_is_read_once_and_again_when_she_has_changed() -> None:
    topics = MemoryTopics([PATIENTS, SUBJECTS], catalogue=CATALOGUE)
    store = Counted(topics.replica())
    facts = FoldedFacts(store, store, service="did:web:c.example")
    assert (await facts.facts(SHE)).state == topics.state(PATIENTS, SHE)
    seen = [store.read]
    for event in (
        granted(SHE, 1),
        granted(OTHER, 2),
        PatientLinked(patient=SHE, did=CLINICIAN, request=UNASKED),
        ConsentRevoked(consent="c1", patient=SHE, epoch=1, request=UNASKED),
    ):
        topics.append(event, subject=OTHER if event == granted(OTHER, 2) else SHE)
        for _ in range(3):
            known = await facts.facts(SHE)

            assert known.state == topics.state(PATIENTS, SHE)
            assert bool(
                known.grants.covering([Recipient(CLINICIAN)], action="read", purpose="TREAT", at=NOW).ids
            ) == any(consent.is_active(NOW) for consent in known.state.consents)
        seen.append(store.read)

    assert [more - before for before, more in itertools.pairwise(seen)] == [1, 0, 1, 1]


async def test_who_changes_a_patient_reads_her_whole_at_once_and_as_of_her_version() -> None:
    topics = MemoryTopics([PATIENTS, SUBJECTS], catalogue=CATALOGUE)
    store = Counted(topics.replica())
    facts = FoldedFacts(store, store, service="did:web:c.example")
    for number in range(3):
        before, looks = await facts.facts_to_change(SHE), store.looks

        assert (before.state, before.version) == (topics.state(PATIENTS, SHE), number)
        assert [consent.id for consent in before.state.consents] == [f"c{n}" for n in range(number)]
        assert looks == number + 1
        topics.append(granted(SHE, number), subject=SHE)
    assert (await facts.facts(SHE)).state == topics.state(PATIENTS, SHE)


async def test_what_is_kept_has_an_end_and_an_erasure_is_seen_at_once() -> None:
    topics = MemoryTopics([PATIENTS, SUBJECTS], catalogue=CATALOGUE)
    for number, patient in enumerate(PSEUDONYMS * 5):
        topics.append(granted(patient, number), subject=patient)
    store = Counted(topics.replica())
    facts = FoldedFacts(store, store, service="did:web:c.example", kept_max=13)
    for patient in PSEUDONYMS:
        await facts.facts(patient)
    assert store.read == 4
    await facts.facts(PSEUDONYMS[3])
    await facts.facts(PSEUDONYMS[2])
    assert store.read == 4
    await facts.facts(SHE)
    assert store.read == 5

    erased = SubjectErased(
        patient=SHE,
        key=f"{SHE}#0",
        requested_by=CLINICIAN,
        basis="patient-request",
        objects=0,
        request=UNASKED,
    )
    topics.append(erased, subject=SHE)
    assert (await facts.facts(SHE)).subject.erased is True
    assert store.read == 5


async def test_many_patients_are_of_the_same_positions() -> None:
    topics = MemoryTopics([PATIENTS, SUBJECTS], catalogue=CATALOGUE)
    topics.append(granted(SHE, 1), subject=SHE)
    facts = FoldedFacts(replica := topics.replica(), replica, service="did:web:c.example")
    await facts.facts(SHE)
    topics.append(granted(OTHER, 2), subject=OTHER)
    found = await facts.facts_of([SHE, OTHER, SHE])

    assert found.keys() == {SHE, OTHER}
    assert found[SHE].positions == found[OTHER].positions
    assert [len(found[patient].state.consents) for patient in (SHE, OTHER)] == [1, 1]
