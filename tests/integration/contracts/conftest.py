"""What is kept in a database is tested with both kinds."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.databases import Databases, SqliteDatabases
from tests.integration.postgres import PostgresDatabases


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Databases:
    """Databases of one test."""
    if request.param == "sqlite":
        return SqliteDatabases(tmp_path)
    return PostgresDatabases(request.getfixturevalue("postgres_server"))
