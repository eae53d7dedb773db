"""Many rows are written by few statements, and come to what one statement for each comes to."""

from __future__ import annotations

import pytest
from sqlalchemy import event, select
from tests.databases import Databases

from salus.contracts import fold_tables
from salus.contracts.fold_store import open_fold_store
from salus.contracts.fold_tables import AGGREGATES, CLAIMS, write_claims, write_rows


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 100])
async def test_rows_are_written_however_many_there_are(
    count: int, databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are there are written over, or left if that is asked for."""
    monkeypatch.setattr(fold_tables, "SQLITE_PARAMETERS_MAX", 32)
    monkeypatch.setattr(fold_tables, "SQLITE_FEW_ROWS_MAX", 2)
    # In another order than the table's columns.
    rows = [{"state": b"new", "version": n, "kind": "k", "id": f"{n:03}"} for n in range(count)]
    async with open_fold_store(await databases.url("a")) as store, store.engine.begin() as connection:
        await write_rows(connection, AGGREGATES, [{**rows[0], "state": b"old"}])
        await write_rows(connection, AGGREGATES, rows, over=False)
        kept = (await connection.execute(select(AGGREGATES.c.state).where(AGGREGATES.c.id == "000"))).scalar()
        await write_rows(connection, AGGREGATES, rows)
        found = (await connection.execute(select(AGGREGATES).order_by(AGGREGATES.c.id))).all()

    assert kept == b"old"
    assert [row._asdict() for row in found] == [{name: row[name] for name in row_names()} for row in rows]


def row_names() -> list[str]:
    return [column.name for column in AGGREGATES.columns]


async def test_a_name_is_claimed_once_however_often_it_is_written(databases: Databases) -> None:
    async with open_fold_store(await databases.url("a")) as store, store.engine.begin() as connection:
        for _ in range(2):
            await write_claims(connection, "a", ["y", "x", "y"])
            await write_claims(connection, "b", ["x"])
            await write_claims(connection, "c", [])
        found = (await connection.execute(select(CLAIMS))).all()

    assert sorted(map(tuple, found)) == [("a", "x"), ("a", "y"), ("b", "x")]


async def test_many_rows_are_few_statements(databases: Databases) -> None:
    """SQLite's are handed to a thread and back while others compute; those of few lengths are parsed once."""
    written: list[str] = []
    rows = [{"kind": "k", "id": f"{n}", "version": n, "state": b""} for n in range(2_000)]
    async with open_fold_store(await databases.url("a")) as store:
        event.listen(store.engine.sync_engine, "before_cursor_execute", lambda *told: written.append(told[2]))
        async with store.engine.begin() as connection:
            await write_rows(connection, AGGREGATES, rows)
            await write_rows(connection, AGGREGATES, rows[:1_000])
            await write_rows(connection, AGGREGATES, rows[:37])

    assert len(written) == {"sqlite": 4, "postgresql": 3}[store.engine.dialect.name]
    assert len({*written}) == {"sqlite": 2, "postgresql": 1}[store.engine.dialect.name]
