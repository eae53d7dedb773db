"""Tests without servers keep what they fold in SQLite; tests/integration/contracts does so in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.databases import Databases, SqliteDatabases


@pytest.fixture
def databases(tmp_path: Path) -> Databases:
    return SqliteDatabases(tmp_path)
