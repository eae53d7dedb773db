"""Tables that contracts declare: made when they are new, made anew when they change, and never half."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from sqlalchemy import Column, Connection, MetaData, Table, inspect, select
from tests.databases import Databases
from tests.unit.contracts.test_fold_batches import HELD, HOLDERS, Holder, emptied, event_of, fold
from tests.unit.contracts.test_fold_batches import Step as A
from tests.unit.contracts.test_versions import TOPIC

from salus.contracts.fold_store import FoldStore, open_fold_store
from salus.contracts.table_projection import TableProjection, text_column

AT = (TOPIC, 0)
CODE = b"1" * 32
GRANTED = A(patient=1, consent=1, token=1, ahead=0, revokes=False, again=False)
NARROW = Table("held", MetaData(), Column("holder", text_column(256), primary_key=True))


async def tables_in(store: FoldStore) -> dict[str, list[str]]:
    def found(connection: Connection) -> dict[str, list[str]]:
        seen = inspect(connection)
        return {name: [c["name"] for c in seen.get_columns(name)] for name in seen.get_table_names()}

    async with store.engine.connect() as connection:
        return await connection.run_sync(found)


async def test_a_table_that_is_defined_otherwise_is_made_and_folded_anew(databases: Databases) -> None:
    async with open_fold_store(await databases.url("a")) as store:
        await store.begin([AT], code=CODE, tables=HOLDERS.tables)
        await fold(store, [event_of(GRANTED, 0)])
        async with store.engine.begin() as connection:
            await store.set_positions(connection, {AT: 1}, marks={})
        await store.begin([AT], code=CODE, tables=HOLDERS.tables)
        before = await tables_in(store), await store.positions()
        kept = await store.load(HOLDERS.kind, event_of(GRANTED, 0).envelope.subject)

        narrow = TableProjection[Holder](NARROW, lambda state: [{}] if state.name else [])
        await store.begin([AT], code=CODE, tables=[narrow])
        after = await tables_in(store), await store.positions()
        gone = await store.load(HOLDERS.kind, event_of(GRANTED, 0).envelope.subject)
        await store.begin([AT], code=CODE)
        none = await tables_in(store)

    assert (before[0]["held"], before[1]) == (["holder", "consent", "place", "held_by"], {AT: 1})
    assert kept is not None
    assert (after[0]["held"], after[1]) == (["holder"], {AT: 0})
    assert gone is None
    assert "held" not in none


async def test_an_index_is_part_of_the_definition(databases: Databases) -> None:
    fewer = Table(
        "held",
        MetaData(),
        *(Column(c.name, c.type, primary_key=c.primary_key, nullable=c.nullable) for c in HELD.columns),
    )
    async with open_fold_store(await databases.url("a")) as store:
        await store.begin([AT], code=CODE, tables=[TableProjection(fewer, HOLDERS.tables[0].rows)])
        async with store.engine.connect() as connection:
            without = await connection.run_sync(lambda c: inspect(c).get_indexes("held"))
        await store.begin([AT], code=CODE, tables=HOLDERS.tables)
        async with store.engine.connect() as connection:
            indices = await connection.run_sync(lambda c: inspect(c).get_indexes("held"))

    assert without == []
    assert [index["column_names"] for index in indices] == [["consent", "holder"]]


async def test_rows_and_states_are_written_together_or_not_at_all(databases: Databases) -> None:
    async with open_fold_store(await databases.url("a")) as store:
        await emptied(store)
        broken = replace(HOLDERS, tables=(TableProjection(HELD, lambda _: [{"consent": "c"}]),))
        event = event_of(GRANTED, 0)
        with pytest.raises(ValueError, match="a row of held is not one of its own"):
            await fold(store, [event], contracts=[broken])

        assert await store.load(HOLDERS.kind, event.envelope.subject) is None


async def test_rows_follow_their_state(databases: Databases) -> None:
    steps = [GRANTED, GRANTED._replace(consent=2, token=2), GRANTED._replace(token=3, revokes=True)]
    async with open_fold_store(await databases.url("a")) as store:
        await emptied(store)
        for version, step in enumerate(steps):
            await fold(store, [event_of(step, version)])
        patient = event_of(GRANTED, 0).envelope.subject
        async with store.engine.connect() as connection:
            rows = (await connection.execute(select(HELD).where(HELD.c.holder == patient))).all()

    # The first row is gone, and the second moved up.
    assert [(row.consent[-1], row.place) for row in rows] == [("2", 0)]


def test_a_row_that_is_there_twice_is_refused() -> None:
    twice = TableProjection[Holder](HELD, lambda state: [*HOLDERS.tables[0].rows(state)] * 2)
    holder = msgspec.structs.replace(HOLDERS.before("h"), consents=("c",))

    with pytest.raises(ValueError, match="or is there twice"):
        twice.rows_of("h", holder)
