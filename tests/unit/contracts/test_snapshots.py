"""A snapshot says what the tables hold, whatever that is; SQLite's comes as one row."""

from __future__ import annotations

import msgspec
from sqlalchemy import event
from tests.databases import Databases

from salus.contracts.fold_store import open_fold_store
from salus.contracts.fold_tables import (
    AGGREGATES,
    CLAIMS,
    POSITIONS,
    Loaded,
    Snapshot,
    read_snapshot,
    write_rows,
)

STATES = {
    "none": b"",
    "plain": b'{"a":[1,2]}',
    "quoted": msgspec.json.encode('a "b" \\ c \x00 \x1f \u2028 \U0001f600 é'),
    "large": msgspec.json.encode(["x" * 100] * 1000),
}


async def test_a_snapshot_says_what_the_tables_hold(databases: Databases) -> None:
    rows = [{"kind": "k", "id": name, "version": n, "state": STATES[name]} for n, name in enumerate(STATES)]
    positions = [
        {"topic": "t", "partition": 0, "next_offset": 2**40, "folded_by": bytes(range(32))},
        {"topic": "t", "partition": 1, "next_offset": 0, "folded_by": None},
    ]
    claims = [{"topic": "t", "name": name} for name in ("n", "über: 'x' \"y\"")]
    async with open_fold_store(await databases.url("a")) as store, store.engine.begin() as connection:
        await write_rows(connection, AGGREGATES, rows)
        for row in positions:
            await write_rows(connection, POSITIONS, [row])
        await write_rows(connection, CLAIMS, claims, over=False)
        asked = [("k", name) for name in (*STATES, "unknown")]
        names = [("t", "n"), ("t", "über: 'x' \"y\""), ("t", "m")]
        found = await read_snapshot(connection, keys=asked, names=names)
        nothing = await read_snapshot(connection, keys=(), names=())

    there = {("t", 0): 2**40, ("t", 1): 0}
    assert found == Snapshot(
        positions=there,
        rows={("k", name): Loaded(n, state) for n, (name, state) in enumerate(STATES.items())},
        claims={("t", "n"), ("t", "über: 'x' \"y\"")},
        folded_by={bytes(range(32)), None},
    )
    assert nothing == Snapshot(positions=there, folded_by={bytes(range(32)), None})


async def test_a_snapshot_of_sqlite_is_one_row(databases: Databases) -> None:
    fetched: list[int] = []
    async with open_fold_store(await databases.url("a")) as store, store.engine.begin() as connection:
        rows = [{"kind": "k", "id": f"{n}", "version": n, "state": b"{}"} for n in range(100)]
        await write_rows(connection, AGGREGATES, rows)

        def executed(_: object, cursor: object, *__: object) -> None:
            fetched.append(len(cursor._rows))  # type: ignore[attr-defined]  # SQLAlchemy's, of this dialect

        event.listen(store.engine.sync_engine, "after_cursor_execute", executed)
        found = await read_snapshot(connection, keys=[("k", f"{n}") for n in range(100)], names=())

    assert (len(found.rows), fetched) == (100, [1])
