"""A SQLite database that nobody else sees and that is gone with the process: on disk, beyond its cache."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from tempfile import NamedTemporaryFile

CACHE_KIB_MAX = 64 * 1024
_PRAGMAS = ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE", f"cache_size=-{CACHE_KIB_MAX}")


def scratch_database(tables: str, *, folder: Path | None = None) -> sqlite3.Connection:
    """Return an empty database with these tables, in a file of that folder, or where temporary files are."""
    with NamedTemporaryFile(prefix="salus-", dir=folder) as file:
        db = sqlite3.connect(file.name if folder is not None else "", isolation_level=None)
        for pragma in _PRAGMAS:
            db.execute(f"PRAGMA {pragma}")
        db.executescript(tables)
    # One transaction without an end: nobody else reads, and nothing is to outlive the process.
    db.execute("BEGIN")
    return db
