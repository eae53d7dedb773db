"""Tests without servers keep what they fold in SQLite; tests/integration/contracts does so in PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.databases import Databases, SqliteDatabases

from salus.contracts import record_judge


@pytest.fixture
def databases(tmp_path: Path) -> Databases:
    return SqliteDatabases(tmp_path)


@pytest.fixture(params=["few", "many"])
def backlog(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records are judged one by one, or by twos as those of a backlog are judged by hundreds."""
    if request.param == "many":
        monkeypatch.setattr(record_judge, "JUDGED_TOGETHER_MIN", 1)
        monkeypatch.setattr(record_judge, "JUDGED_AT_ONCE", 2)
        monkeypatch.setattr(record_judge, "JUDGED_IN_A_ROW", 1)
