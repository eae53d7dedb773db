"""Folded many at once or one by one, records come to the same: outcomes, states, versions, names."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from tests.asking import UNASKED
from tests.databases import Databases
from tests.unit.contracts.test_versions import EPOCHS, GRANT, NOW, SERVICE, TOPIC

from salus.consent.adapters.folded import PATIENTS
from salus.contracts.fold_batch import FoldBatch
from salus.contracts.fold_store import FoldStore, open_fold_store
from salus.contracts.fold_tables import AGGREGATES, CLAIMS, OUTCOMES, POSITIONS
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import ConsentGranted, ConsentRevoked
from salus.events.effect import Applied, Effect
from salus.events.envelope import Event, decode_event, encode_event

CONTRACTS = (PATIENTS, EPOCHS)


class Step(NamedTuple):
    """What happens: to which of some patients, naming which consent, asked for by which token."""

    patient: int
    consent: int
    token: int
    ahead: int
    revokes: bool
    again: bool


STEPS = st.lists(
    st.builds(
        Step,
        patient=st.integers(0, 2),
        consent=st.integers(0, 5),
        token=st.integers(0, 20),
        # Most expect the version that there is.
        ahead=st.sampled_from([0, 0, 0, 0, 1, -1]),
        revokes=st.booleans(),
        again=st.sampled_from([False, False, False, True]),
    ),
    max_size=24,
)


def event_of(step: Step, version: int) -> Event:
    patient = f"urn:uuid:00000000-0000-4000-8000-{step.patient:012d}"
    consent = f"{patient.removeprefix('urn:uuid:')}.{step.consent:08x}"
    request = msgspec.structs.replace(UNASKED, proof=f"a.b.{step.token}")
    data: ConsentGranted | ConsentRevoked = msgspec.structs.replace(
        GRANT,
        consent=consent,
        patient=patient,
        request=request,
        valid_until=NOW + timedelta(days=1),
    )
    if step.revokes:
        data = ConsentRevoked(consent=consent, patient=patient, epoch=version + 1, request=request)
    value = encode_event(
        data,
        id="e",
        source=SERVICE.did,
        subject=patient,
        time=NOW,
        expected_version=max(0, version + step.ahead),
    )
    return decode_event(value, CATALOGUE)


async def fold(store: FoldStore, events: Sequence[Event]) -> list[Effect]:
    """Fold in one batch."""
    batch = FoldBatch(CONTRACTS)
    async with store.engine.begin() as connection:
        await batch.load(connection, [(TOPIC, event) for event in events])
        effects = [batch.fold(TOPIC, event) for event in events]
        await batch.write(connection)
    return effects


async def one_by_one(store: FoldStore, steps: Sequence[Step]) -> tuple[list[Event], list[Effect]]:
    versions: dict[int, int] = {}
    events: list[Event] = []
    effects: list[Effect] = []
    for step in steps:
        repeated = step.again and events
        events.append(events[-1] if repeated else event_of(step, versions.get(step.patient, 0)))
        effects += await fold(store, events[-1:])
        if not repeated and isinstance(effects[-1], Applied):
            versions[step.patient] = effects[-1].version
    return events, effects


async def rows(store: FoldStore) -> list[list[tuple[Any, ...]]]:
    async with store.engine.connect() as connection:
        return [
            sorted(tuple(row) for row in await connection.execute(select(table)))
            for table in (AGGREGATES, CLAIMS)
        ]


async def emptied(store: FoldStore) -> FoldStore:
    async with store.engine.begin() as connection:
        for table in (AGGREGATES, CLAIMS, OUTCOMES, POSITIONS):
            await connection.execute(table.delete())
    return store


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, cuts=st.sets(st.integers(1, 23)))
async def test_batches_come_to_what_single_records_come_to(
    databases: Databases, steps: list[Step], cuts: set[int]
) -> None:
    async with open_fold_store(await databases.url("a")) as store:
        events, effects = await one_by_one(await emptied(store), steps)
        expected = await rows(store)

        await emptied(store)
        found: list[Effect] = []
        ends = [0, *sorted(cut for cut in cuts if cut < len(events)), len(events)]
        for first, end in pairwise(ends):
            found += await fold(store, events[first:end])
        folded = await rows(store)

    assert found == effects
    assert folded == expected
