"""Readers who wait share one statement, and each gets what was there after it asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.databases import Databases

from salus.contracts.fold_store import FoldStore, open_fold_store
from salus.contracts.fold_tables import AGGREGATES, Loaded, write_rows

KIND = "patient"
READERS = 40


async def put(store: FoldStore, version: int) -> None:
    rows = [{"kind": KIND, "id": str(n), "version": version, "state": b"%d" % n} for n in range(READERS)]
    async with store.engine.begin() as connection:
        await write_rows(connection, AGGREGATES, rows)


async def test_those_who_read_meanwhile_share_the_next_statement(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements = 0
    execute = AsyncConnection.execute

    async def counted(connection: AsyncConnection, *statement: Any) -> Any:
        nonlocal statements
        statements += 1
        return await execute(connection, *statement)

    async with open_fold_store(await databases.url("a")) as store:
        await put(store, 1)
        monkeypatch.setattr(AsyncConnection, "execute", counted)
        first = asyncio.create_task(store.load(KIND, "0"))
        await asyncio.sleep(0)
        others = [asyncio.create_task(store.load(KIND, str(n))) for n in range(1, READERS)]
        loaded = await asyncio.gather(first, *others)
        shared = statements
        monkeypatch.undo()
        await put(store, 2)
        after = await store.load(KIND, "0")

    assert loaded == [Loaded(1, b"%d" % n) for n in range(READERS)]
    assert shared == 2
    assert after == Loaded(2, b"0")


async def test_a_reader_who_gives_up_takes_nobodys_answer_along(databases: Databases) -> None:
    async with open_fold_store(await databases.url("a")) as store:
        await put(store, 1)
        first, second = (asyncio.create_task(store.load(KIND, str(n))) for n in range(2))
        await asyncio.sleep(0)
        first.cancel()

        assert await second == Loaded(1, b"1")
        assert await store.load(KIND, "0") == Loaded(1, b"0")
