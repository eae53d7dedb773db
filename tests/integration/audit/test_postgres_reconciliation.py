"""Case SEC10 over PostgreSQL: every change that is found with SQLite is found here."""

from __future__ import annotations

import inspect

import pytest
from tests.unit.audit import test_reconciliation
from tests.unit.audit.test_reconciliation import world

__all__ = ["world"]


@pytest.fixture
def database(postgres: str) -> str:
    return postgres


# The unit tests that ask for a trail, once more with the database above.
globals().update(
    {
        name: test
        for name, test in vars(test_reconciliation).items()
        if name.startswith("test_") and "world" in inspect.signature(test).parameters
    }
)
