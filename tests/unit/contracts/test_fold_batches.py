"""Folded many at once or one by one, records come to the same: outcomes, states, versions, names, tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Index, Integer, MetaData, Table, select
from tests.asking import UNASKED
from tests.databases import Databases
from tests.unit.contracts.test_versions import EPOCHS, GRANT, NOW, SERVICE, TOPIC

from salus.consent.adapters.folded import PATIENTS
from salus.contracts.contract import Contract
from salus.contracts.fold_batch import FoldBatch
from salus.contracts.fold_store import FoldStore, open_fold_store
from salus.contracts.fold_tables import AGGREGATES, CLAIMS, OBLIGATIONS, OUTCOMES, POSITIONS
from salus.contracts.reactors import Reactor
from salus.contracts.table_projection import Row, TableProjection, text_column
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import ConsentGranted, ConsentRevoked
from salus.events.effect import Applied, Effect
from salus.events.envelope import Event, decode_event, encode_event
from salus.events.event_types import EventData


class Holder(msgspec.Struct, frozen=True):
    """A party to consents, as whoever gives one or is given it."""

    name: str = ""
    consents: tuple[str, ...] = ()


def evolve_holder(state: Holder, data: EventData) -> Holder:
    match data:
        case ConsentGranted() if data.consent not in state.consents:
            return Holder(state.name, (*state.consents, data.consent))
        case ConsentRevoked():
            return Holder(state.name, tuple(each for each in state.consents if each != data.consent))
        case _:
            return state


def holders(subject: str, data: EventData) -> tuple[str, ...]:
    """One event changes many aggregates."""
    return (subject, data.grantee) if isinstance(data, ConsentGranted) else (subject,)


HELD = Table(
    "held",
    MetaData(),
    Column("holder", text_column(256), primary_key=True),
    Column("consent", text_column(256), primary_key=True),
    Column("place", Integer, nullable=False),
    Column("held_by", text_column(256), nullable=False),
    Index("ix_held_consent", "consent", "holder"),
)


def held_rows(state: Holder) -> Iterable[Row]:
    return (
        {"consent": consent, "place": place, "held_by": state.name}
        for place, consent in enumerate(state.consents)
    )


HOLDERS = Contract(
    "holder",
    TOPIC,
    Holder,
    evolve_holder,
    holders,
    initial=Holder,
    tables=(TableProjection(HELD, held_rows),),
)
CONTRACTS = (PATIENTS, EPOCHS, HOLDERS)


# As if a patient were to be told of each consent, until it is taken back.
NOTICES = Reactor(
    "notices", PATIENTS, lambda state: [c.id for c in state.consents if c.revoked_epoch is None], grace_s=2
)


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
    request = msgspec.structs.replace(UNASKED, proof=f"a.{step.token}.c")
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
        time=NOW + timedelta(seconds=step.token),
        expected_version=max(0, version + step.ahead),
    )
    return decode_event(value, CATALOGUE)


async def fold(
    store: FoldStore, events: Sequence[Event], *, contracts: Sequence[Contract[Any]] = CONTRACTS
) -> list[Effect]:
    """Fold in one batch."""
    batch = FoldBatch(contracts, [NOTICES])
    async with store.engine.begin() as connection:
        await batch.expect_all((TOPIC, event) for event in events)
        await batch.load(connection)
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
            for table in (AGGREGATES, CLAIMS, HELD, OBLIGATIONS)
        ]


async def emptied(store: FoldStore) -> FoldStore:
    await store.begin([], code=b"1" * 32, tables=HOLDERS.tables)
    async with store.engine.begin() as connection:
        for table in (AGGREGATES, CLAIMS, OUTCOMES, POSITIONS, HELD, OBLIGATIONS):
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
    # A table has the rows of the states, and no others.
    states = [(name, HOLDERS.decode(state)) for kind, name, _, state in folded[0] if kind == HOLDERS.kind]
    of_states = (HOLDERS.tables[0].rows_of(name, state).values() for name, state in states)
    assert folded[2] == sorted(tuple(row.values()) for rows in of_states for row in rows)
    assert all(name == state.name for name, state in states)
