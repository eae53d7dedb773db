"""A folded database is compared with what the topics come to, and the first row that differs is named."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Boolean, Column, DateTime, MetaData, Table, delete, insert, update
from tests.databases import Databases
from tests.unit.contracts.test_fold_batches import HELD, HOLDERS, Step, emptied, event_of, fold

from salus.contracts import __main__ as command
from salus.contracts.comparison import Comparison, Difference, first_difference, one_view
from salus.contracts.fold_store import FoldStore, open_fold_store, rebuild
from salus.contracts.fold_tables import AGGREGATES, CLAIMS, OBLIGATIONS
from salus.contracts.table_projection import TableProjection, text_column
from salus.runtime.network import Network

TABLES = (AGGREGATES, CLAIMS, HELD, OBLIGATIONS)
EVENTS = [
    event_of(Step(patient=n % 3, consent=n, token=n, ahead=0, revokes=False, again=False), n // 3)
    for n in range(9)
]


async def compared(live: FoldStore, anew: FoldStore) -> tuple[int, Difference | None]:
    async with one_view(live.engine) as here, one_view(anew.engine) as there:
        return await first_difference(here, there, TABLES)


async def test_databases_that_were_folded_from_the_same_topics_are_alike(databases: Databases) -> None:
    async with (
        open_fold_store(await databases.url("live")) as live,
        open_fold_store(await databases.url("anew")) as anew,
    ):
        await fold(await emptied(live), EVENTS)
        # In other batches.
        await emptied(anew)
        for event in EVENTS:
            await fold(anew, [event])
        rows, difference = await compared(live, anew)

    assert difference is None
    assert rows > 3 * len(EVENTS)


FIRST = HELD.c.consent == EVENTS[0].data.consent  # type: ignore[attr-defined]  # all of them are grants
STRANGE = {"holder": "é", "consent": "x", "place": 0, "held_by": "x"}


@pytest.mark.parametrize(
    ("fault", "table", "sentence"),
    [
        (update(HELD).where(FIRST).values(place=7), "held", "the topics come to another place"),
        (delete(HELD).where(FIRST), "held", "the row is missing"),
        (insert(HELD).values(**STRANGE), "held", "the topics do not come to this row"),
        (insert(HELD).values(**{**STRANGE, "holder": "A"}), "held", "the topics do not come to this row"),
        (update(AGGREGATES).values(state=b"{}"), "fold_aggregates", "the topics come to another state"),
        (delete(CLAIMS), "fold_claims", "the row is missing"),
        (delete(OBLIGATIONS), "fold_obligations", "the row is missing"),
        (update(OBLIGATIONS).values(since_ms=0), "fold_obligations", "the topics come to another since_ms"),
    ],
)
async def test_the_first_row_that_differs_is_named(
    databases: Databases, fault: Any, table: str, sentence: str
) -> None:
    async with (
        open_fold_store(await databases.url("live")) as live,
        open_fold_store(await databases.url("anew")) as anew,
    ):
        for store in (live, anew):
            await fold(await emptied(store), EVENTS)
        async with live.engine.begin() as connection:
            await connection.execute(fault)
        _, difference = await compared(live, anew)

    assert difference is not None
    assert difference.table == table
    assert difference.sentence.endswith(sentence)
    if sentence == "the topics do not come to this row":
        assert difference.key[0] in {"A", "é"}


async def test_when_an_obligation_is_tried_is_nothing_that_topics_say(databases: Databases) -> None:
    async with (
        open_fold_store(await databases.url("live")) as live,
        open_fold_store(await databases.url("anew")) as anew,
    ):
        for store in (live, anew):
            await fold(await emptied(store), EVENTS)
        async with live.engine.begin() as connection:
            await connection.execute(update(OBLIGATIONS).values(due_ms=7, attempts=3))
        _, difference = await compared(live, anew)

    assert difference is None


async def test_a_view_stays_as_it_was_while_others_fold_on(databases: Databases) -> None:
    async with (
        open_fold_store(await databases.url("live")) as live,
        open_fold_store(await databases.url("anew")) as anew,
    ):
        for store in (live, anew):
            await fold(await emptied(store), EVENTS[:4])
        async with one_view(live.engine) as here, one_view(anew.engine) as there:
            await live.positions_in(here)
            await fold(live, EVENTS[4:])
            _, difference = await first_difference(here, there, TABLES)
        _, later = await compared(live, anew)

    assert difference is None
    assert later is not None


async def test_a_database_is_emptied_to_be_folded_anew(databases: Databases) -> None:
    url = await databases.url("a")
    async with open_fold_store(url) as store:
        await store.begin([("salus.consent.events", 0)], code=b"1" * 32, tables=HOLDERS.tables)
        await fold(store, EVENTS)
        async with store.engine.begin() as connection:
            await store.set_positions(connection, {("salus.consent.events", 0): 9}, marks={})
        await rebuild(url)
        positions = await store.positions()
        page = await store.load(HOLDERS.kind, EVENTS[0].envelope.subject)
        async with store.engine.connect() as connection:
            rows = (await connection.execute(HELD.select())).all()

    assert positions == {("salus.consent.events", 0): 0}
    assert (page, rows) == (None, [])


def test_a_column_that_two_databases_give_back_otherwise_is_refused() -> None:
    key = Column("name", text_column(16), primary_key=True)
    TableProjection[Any](Table("a", MetaData(), key, Column("is_open", Boolean)), lambda _: ())
    with pytest.raises(ValueError, match="a column of b has none of the types"):
        TableProjection[Any](
            Table("b", MetaData(), Column("name", text_column(16), primary_key=True), Column("at", DateTime)),
            lambda _: (),
        )


def test_a_comparison_says_nothing_of_what_is_in_the_rows() -> None:
    difference = Difference("held", ("p", "c"), {"place": 1, "held_by": "x"}, {"place": 2, "held_by": "x"})
    found = Comparison({("t", 0): 1}, 5, difference)

    assert found.difference is not None
    assert found.difference.sentence == "held ('p', 'c'): the topics come to another place"


async def test_a_service_is_compared_by_all_that_it_folds(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, Any] = {}

    async def compared(url: str, **what: Any) -> Comparison:
        given.update(what, url=url)
        return Comparison({}, 0, None)

    service: Any = SimpleNamespace(folds=(), all_folds=(HOLDERS,), reactors=())
    settings: Any = SimpleNamespace(database_url="u", network_file="n", kafka="k")
    monkeypatch.setattr(command, "compare_with_topics", compared)
    monkeypatch.setattr(Network, "read", lambda _: None)

    assert await command.compare(service, settings) == command.SAME
    assert given["contracts"] == (HOLDERS,), "which rules are in force is folded, too"
