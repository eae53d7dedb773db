"""What tests/unit/contracts promises of a fold, on real PostgreSQL."""

from __future__ import annotations

import pytest
from tests.databases import Databases
from tests.integration.postgres import PostgresDatabases, Server
from tests.unit.contracts import (
    test_comparison,
    test_declared_tables,
    test_fold_batches,
    test_fold_tables,
    test_keyset,
    test_rebuilt_state,
    test_shared_reads,
    test_versions,
)


@pytest.fixture
async def databases(postgres_server: Server) -> Databases:
    """Databases of one test; with SQLite these tests run where they are."""
    return PostgresDatabases(postgres_server)


for promises in (
    test_comparison,
    test_declared_tables,
    test_fold_batches,
    test_fold_tables,
    test_keyset,
    test_rebuilt_state,
    test_shared_reads,
    test_versions,
):
    globals().update({name: value for name, value in vars(promises).items() if name.startswith("test_")})
