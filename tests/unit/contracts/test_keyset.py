"""Pages of a table: bounded by an index, and each row that stays is on exactly one of them."""

from __future__ import annotations

from base64 import urlsafe_b64encode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Column, Index, MetaData, Table
from tests.databases import Databases

from salus.contracts.fold_store import FoldStore, open_fold_store
from salus.contracts.fold_tables import delete_rows, write_rows
from salus.contracts.keyset import CursorError, KeysetQuery
from salus.contracts.table_projection import TableProjection, text_column

SEEN = Table(
    "seen",
    MetaData(),
    Column("name", text_column(64), primary_key=True),
    Column("kind", text_column(16), nullable=False),
    Column("number", BigInteger, nullable=False),
    Index("ix_seen_kind", "kind", "number", "name"),
)
BY_NUMBER = KeysetQuery(SEEN, order=("number", "name"), where={"kind": "a"})
NAMES = ["", "A", "a", "b", "é", "z\U0001f600", "%", "'"]
Rows = dict[str, tuple[str, int]]
ROWS = st.dictionaries(
    st.sampled_from(NAMES),
    st.tuples(st.sampled_from("ab"), st.integers(-2, 2)),
    max_size=8,
)


async def put(store: FoldStore, rows: Rows) -> None:
    async with store.engine.begin() as connection:
        given_rows = [{"name": name, "kind": kind, "number": n} for name, (kind, n) in rows.items()]
        await write_rows(connection, SEEN, given_rows)


async def opened(store: FoldStore) -> FoldStore:
    await store.begin([], code=b"1" * 32, tables=[TableProjection(SEEN, lambda _: ())])
    async with store.engine.begin() as connection:
        await delete_rows(connection, SEEN, [(name,) for name in NAMES])
    return store


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(staying=ROWS, coming=st.lists(ROWS, max_size=6), limit=st.integers(1, 3))
async def test_what_is_there_all_the_while_is_on_exactly_one_page(
    databases: Databases,
    staying: dict[str, tuple[str, int]],
    coming: list[dict[str, tuple[str, int]]],
    limit: int,
) -> None:
    async with open_fold_store(await databases.url("a")) as store:
        await put(await opened(store), staying)
        found: list[tuple[int, str]] = []
        cursor: str | None = None
        while True:
            page = await store.read_page(BY_NUMBER, after=cursor, limit=limit)
            found += [(row["number"], row["name"]) for row in page.rows]
            assert len(page.rows) <= limit
            assert len(found) <= len(NAMES), "a page comes again"
            if (cursor := page.next) is None:
                break
            await put(store, {k: v for k, v in (coming.pop() if coming else {}).items() if k not in staying})

    assert found == sorted(set(found)), "each once, in the order of numbers, then code points"
    assert {(n, name) for name, (kind, n) in staying.items() if kind == "a"} <= set(found)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, limit=st.integers(1, 3))
async def test_rows_in_memory_are_read_as_the_database_reads_them(
    databases: Databases, rows: Rows, limit: int
) -> None:
    in_memory = [{"name": name, "kind": kind, "number": number} for name, (kind, number) in rows.items()]
    async with open_fold_store(await databases.url("a")) as store:
        await put(await opened(store), rows)
        cursor: str | None = None
        while True:
            page = await store.read_page(BY_NUMBER, after=cursor, limit=limit)
            assert BY_NUMBER.page(BY_NUMBER.among(in_memory, after=cursor), limit=limit) == page
            if (cursor := page.next) is None:
                break


def test_a_query_that_no_index_serves_is_none() -> None:
    for order, where in (
        (("number", "name"), {}),
        (("name", "number"), {"kind": "a"}),
        (("name",), {"kind": "a"}),
        (("name",), {"number": 1}),
    ):
        with pytest.raises(ValueError, match="no index of seen"):
            KeysetQuery(SEEN, order=order, where=where)
    with pytest.raises(ValueError, match="leaves out columns of its primary key"):
        KeysetQuery(SEEN, order=("number",), where={"kind": "a"})
    KeysetQuery(SEEN, order=("name",))
    KeysetQuery(SEEN, order=("name",), where={"number": 1, "kind": "a"})


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"[]",
        b"[1]",
        b'["1","a"]',
        b'[1,"a","b"]',
        b"[1,2]",
        b'[true,"a"]',
        b'[1.5,"a"]',
        b'[1,"\\u0000"]',
        b'{"number":1}',
        b'[99999999999999999999,"a"]',
        b"\xff",
    ],
)
def test_a_cursor_that_no_page_gave_is_refused(said: bytes) -> None:
    for cursor in (urlsafe_b64encode(said).decode().rstrip("="), "é", "a"):
        with pytest.raises(CursorError):
            BY_NUMBER.statement(after=cursor, limit=1)
