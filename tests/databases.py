"""Databases for tests of what is kept in one: by name, and put back to how they were, as from a backup."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol


class Databases(Protocol):
    """Databases of one test; the fixture `databases` of the tests' folder says of which kind."""

    async def url(self, name: str) -> str:
        """Return the URL of a database, which is empty when it is named first."""

    async def save(self, name: str) -> None:
        """Keep a copy of a database that nobody is connected to."""

    async def put_back(self, name: str) -> None:
        """Put the copy in the place of the database; nobody is connected to it."""


class SqliteDatabases:
    """Each is a file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def url(self, name: str) -> str:
        """Return the URL of a database."""
        return f"sqlite+aiosqlite:///{self._folder / name}.db"

    async def save(self, name: str) -> None:
        """Copy the file."""
        shutil.copy(self._folder / f"{name}.db", self._folder / f"{name}.saved")

    async def put_back(self, name: str) -> None:
        """Copy it back."""
        shutil.copy(self._folder / f"{name}.saved", self._folder / f"{name}.db")
