"""Tables that contracts declare: Alembic's operations make them from their definition when it has changed.

They hold nothing that the topics do not, so none is ever altered: it is dropped, made, and folded anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.operations.ops import CreateIndexOp, CreateTableOp
from sqlalchemy import Connection, select
from sqlalchemy.ext.asyncio import AsyncConnection

from salus.contracts.fold_tables import DECLARED, write_rows
from salus.contracts.table_projection import TableProjection


async def are_made(connection: AsyncConnection, projections: Iterable[TableProjection[Any]]) -> bool:
    """Tell whether the declared tables that are there are these, and no others."""
    rows = (await connection.execute(select(DECLARED))).all()
    return {row.name: row.definition for row in rows} == _definitions(projections)


async def make_tables(connection: AsyncConnection, projections: Iterable[TableProjection[Any]]) -> None:
    """Drop the declared tables that are there, and make these, empty, in the caller's transaction."""
    declared = [*projections]
    old = [row.name for row in (await connection.execute(select(DECLARED))).all()]
    await connection.run_sync(_remake, old, declared)
    await connection.execute(DECLARED.delete())
    rows = [{"name": name, "definition": digest} for name, digest in _definitions(declared).items()]
    await write_rows(connection, DECLARED, rows)


def _remake(connection: Connection, old: list[str], declared: list[TableProjection[Any]]) -> None:
    operations = Operations(MigrationContext.configure(connection))
    for name in old:
        operations.drop_table(name)
    for projection in declared:
        operations.invoke(CreateTableOp.from_table(projection.table))
        for index in projection.table.indexes:
            operations.invoke(CreateIndexOp.from_index(index))


def _definitions(projections: Iterable[TableProjection[Any]]) -> dict[str, bytes]:
    return {each.table.name: sha256(each.definition.encode()).digest() for each in projections}
