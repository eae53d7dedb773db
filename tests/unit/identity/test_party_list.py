"""The list of parties costs the page that is shown, whatever it is narrowed by, among 20,000 parties.

The list with `?member=` without a match went through all parties. tests/integration/identity runs this on
PostgreSQL.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any, get_args

import pytest
from sqlalchemy import text
from tests.databases import Databases, SqliteDatabases

from salus.contracts.fold_store import FoldStore, open_fold_store
from salus.contracts.fold_tables import write_rows
from salus.events.contexts.identity import PartyKind
from salus.identity.domain import PartyState
from salus.identity.folded import PARTIES, query_of
from salus.identity.ports import PartyFilter

PARTIES_THERE = 20_000
KINDS = get_args(PartyKind)
MEMBERS = (None, *(f"did:web:member-{number}.example" for number in range(12)))
ROLES: tuple[tuple[str, ...], ...] = ((), ("clinician",), ("clinician", "researcher"), ("operator",))
NOBODY = "did:web:nobody.example"


@pytest.fixture
def databases(tmp_path: Path) -> Databases:
    return SqliteDatabases(tmp_path)


def party(number: int) -> PartyState:
    # Numbers that have no divisor in common, so that all combinations are there.
    return PartyState(
        did=f"did:web:{number * 7919 % PARTIES_THERE:05d}.example",
        kind=KINDS[number % len(KINDS)],
        member=MEMBERS[number % len(MEMBERS)],
        roles=ROLES[number // 7 % len(ROLES)],
    )


async def filled(store: FoldStore) -> list[PartyState]:
    """Have the tables as the fold leaves them for so many parties."""
    await store.begin([], code=b"1" * 32, tables=PARTIES.tables)
    parties = [party(number) for number in range(PARTIES_THERE)]
    async with store.engine.begin() as connection:
        for projection in PARTIES.tables:
            rows = [row for each in parties for row in projection.rows_of(each.did, each).values()]
            await write_rows(connection, projection.table, rows)
    # Of its own accord PostgreSQL does it when many rows have come.
    said = "ANALYZE" if store.engine.dialect.name == "sqlite" else "VACUUM ANALYZE"
    async with store.engine.connect() as connection:
        await (await connection.execution_options(isolation_level="AUTOCOMMIT")).execute(text(said))
    return parties


def expected(parties: list[PartyState], wanted: PartyFilter) -> list[str]:
    return sorted(
        each.did
        for each in parties
        if wanted.kind in (None, each.kind)
        and wanted.member in (None, each.member)
        and (wanted.role is None or wanted.role in each.roles)
    )


async def listed(store: FoldStore, wanted: PartyFilter) -> tuple[list[str], str | None]:
    """Return all that is listed, and the cursor of the second page."""
    found: list[str] = []
    cursor = second = None
    while True:
        page = await store.read_page(query_of(wanted), after=cursor, limit=500)
        found += [row["did"] for row in page.rows]
        cursor, second = page.next, second or page.next
        if cursor is None:
            return found, second


async def plan_of(store: FoldStore, wanted: PartyFilter, after: str | None) -> str:
    """Return how the database reads a page; PostgreSQL reads it, and tells what it read in vain."""
    statement: Any = query_of(wanted).statement(after=after, limit=100)
    compiled = statement.compile(store.engine, compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN QUERY PLAN" if store.engine.dialect.name == "sqlite" else "EXPLAIN (ANALYZE)"
    async with store.engine.connect() as connection:
        rows = await connection.exec_driver_sql(f"{explain} {compiled}")
        return "\n".join(str(row[-1]) for row in rows)


def require_bounded(plan: str, wanted: PartyFilter, *, is_first: bool) -> None:
    """Fail unless an index leads to the first row of the page, and on from there."""
    assert not any(word in plan for word in ("Seq Scan", "Sort", "Rows Removed", "TEMP B-TREE")), plan
    narrowed = any((wanted.kind, wanted.role, wanted.member)) or not is_first
    words = ("SEARCH", "Index Cond") if narrowed else ("COVERING INDEX", "Index Only Scan")
    assert any(word in plan for word in words), plan


async def test_a_page_is_read_from_an_index_whatever_the_list_is_narrowed_by(databases: Databases) -> None:
    async with open_fold_store(await databases.url("a")) as store:
        parties = await filled(store)
        kinds: tuple[PartyKind | None, ...] = (None, "member", "person")
        for kind, role, member in product(kinds, (None, "clinician", "operator"), (None, MEMBERS[3], NOBODY)):
            wanted = PartyFilter(kind=kind, role=role, member=member)
            found, second = await listed(store, wanted)
            assert found == expected(parties, wanted)
            for after in {None, second}:
                require_bounded(await plan_of(store, wanted, after), wanted, is_first=after is None)
