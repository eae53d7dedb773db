"""What tests/unit/identity promises of the list of parties, on real PostgreSQL."""

from __future__ import annotations

import pytest
from tests.databases import Databases
from tests.integration.postgres import PostgresDatabases, Server
from tests.unit.identity import test_party_list


@pytest.fixture
async def databases(postgres_server: Server) -> Databases:
    """Databases of one test; with SQLite these tests run where they are."""
    return PostgresDatabases(postgres_server)


globals().update({name: value for name, value in vars(test_party_list).items() if name.startswith("test_")})
