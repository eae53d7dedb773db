"""What one comparison derives of the rows beside the entries, and what stood there at its start: on disk.

The file has no name, so that nobody else sees it, and is gone with the process. A network states millions of
requests: only a cache of their rows is in memory.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TypeVar

import msgspec

from salus.audit.adapters.tables import CLAIMS, CONSENTS, IDENTITY, PATIENTS, SERVED, VERSIONS, version_text
from salus.audit.domain.comparison import Key, TableRow
from salus.audit.domain.directory import Directory, KnownConsent, Needs
from salus.audit.domain.effects import Effects
from salus.audit.domain.identity_history import IdentityHistory
from salus.audit.ports import OutOfReachError

CACHE_KIB_MAX = 32 * 1024
DIFFERING_AT_ONCE_MAX = 1000
_PRAGMAS = ("journal_mode=OFF", "synchronous=OFF", "locking_mode=EXCLUSIVE")
# The key of each table is one or two columns. `value` and its `digest` are as derived from the ledger, `seen`
# is the digest of what stood in the trail's database. A table that is nothing but its key has empty digests.
_TABLE = """
CREATE TABLE rows (
    name TEXT, first TEXT, second TEXT, value BLOB, digest BLOB, seen BLOB,
    PRIMARY KEY (name, first, second)) WITHOUT ROWID
"""
_SEE = """
INSERT INTO rows (name, first, second, seen) VALUES (?, ?, ?, ?)
ON CONFLICT DO UPDATE SET seen = excluded.seen
"""
_KEEP = """
INSERT INTO rows (name, first, second, value, digest) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET value = excluded.value, digest = excluded.digest
"""
_FORGET = "UPDATE rows SET value = NULL, digest = NULL WHERE name = ? AND first = ? AND second = ?"
_FIND = """
SELECT value FROM rows WHERE name = ? AND first = ? AND second = ? AND digest IS NOT NULL
"""
_DIFFERING = """
SELECT name, first, second, value, digest IS NOT NULL, seen FROM rows
WHERE digest IS NOT seen AND (name, first, second) > (?, ?, ?) ORDER BY name, first, second LIMIT ?
"""

_Row = tuple[str, str, str, bytes | None, bytes]
_T = TypeVar("_T")


class DerivedTables:
    """The rows beside the entries, as `salus.audit.ports.DerivedTables`."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        # One thread has the file: whoever is cancelled leaves it at work.
        self._thread = ThreadPoolExecutor(1, "derived-tables")
        self._db: sqlite3.Connection

    async def open(self) -> None:
        """Begin with nothing."""
        try:
            self._db = await self._do(lambda: _new_file(self._folder))
        except BaseException:
            self._thread.shutdown(wait=False)
            raise

    async def see(self, rows: Iterable[tuple[str, str, str, bytes]]) -> None:
        """Take rows that stand in the trail's database: table, key and digest."""
        await self._do(lambda: _write(self._db, _SEE, rows))

    async def directory(self, needs: Needs, identity: IdentityHistory) -> Directory:
        """Return what is needed, as of the blocks that were kept, with who is who by `identity`."""
        return await self._do(lambda: _directory(self._db, needs, identity))

    async def keep(self, directory: Directory) -> None:
        """Keep what a block changed."""
        await self._do(lambda: _keep(self._db, directory))

    async def keep_identity(self, digests: Mapping[int, bytes]) -> None:
        """Keep the SHA-256 of identity events, by offset."""
        rows = ((IDENTITY.name, str(offset), "", None, digest) for offset, digest in digests.items())
        await self._do(lambda: _write(self._db, _KEEP, rows))

    async def differing(self) -> AsyncIterator[list[TableRow]]:
        """Yield the rows that differ, some at a time, by table and key."""
        last: Key = ("", "", "")
        while rows := await self._do(lambda: _differing(self._db, last)):  # noqa: B023  # it is called at once
            yield rows
            last = rows[-1].key

    async def close(self) -> None:
        """Forget everything."""
        try:
            await self._do(self._db.close)
        finally:
            self._thread.shutdown(wait=False)

    async def _do(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except OSError as error:
            # Its own text has the path, and /readyz shows this.
            raise OutOfReachError(f"the file of the comparison: {error.strerror}") from error
        except sqlite3.Error as error:
            raise OutOfReachError(f"the file of the comparison: {error}") from error


@asynccontextmanager
async def open_derived_tables(folder: Path | None) -> AsyncIterator[DerivedTables]:
    """Yield tables that are empty, in a file of that folder, or where temporary files are."""
    tables = DerivedTables(folder)
    await tables.open()
    try:
        yield tables
    finally:
        await tables.close()


def digest_of(value: object) -> bytes:
    """Return the digest of what a row holds beside its key.

    SQLite keeps any type in any column, if another hand puts it there: what is no bytes is never as derived.
    """
    if value is None:
        return b""
    return sha256(value).digest() if isinstance(value, bytes) else b"another type"


def _new_file(folder: Path | None) -> sqlite3.Connection:
    with NamedTemporaryFile(prefix="comparison-", dir=folder) as file:
        db = sqlite3.connect(file.name, isolation_level=None)
        for pragma in (*_PRAGMAS, f"cache_size=-{CACHE_KIB_MAX}"):
            db.execute(f"PRAGMA {pragma}")
        db.execute(_TABLE)
    # One transaction without an end: nobody else reads, and nothing is to outlive the process.
    db.execute("BEGIN")
    return db


def _write(db: sqlite3.Connection, statement: str, rows: Iterable[tuple[object, ...]]) -> None:
    db.executemany(statement, rows)


def _differing(db: sqlite3.Connection, after: Key) -> list[TableRow]:
    rows = db.execute(_DIFFERING, (*after, DIFFERING_AT_ONCE_MAX)).fetchall()
    return [TableRow((*key,), bool(there), value, seen) for *key, value, there, seen in rows]


def _directory(db: sqlite3.Connection, needs: Needs, identity: IdentityHistory) -> Directory:
    consents = [
        msgspec.json.decode(value, type=KnownConsent)
        for _, value in _found(db, CONSENTS.name, needs.consents)
    ]
    versions = {at: int(value) for at, value in _found(db, VERSIONS.name, needs.subjects)}
    claims = [name for name, _ in _found(db, CLAIMS.name, needs.names)]
    return Directory(identity, consents, Effects(versions, claims))


def _found(
    db: sqlite3.Connection, table: str, keys: Iterable[tuple[str, str]]
) -> Iterator[tuple[tuple[str, str], bytes]]:
    for key in keys:
        if (row := db.execute(_FIND, (table, *key)).fetchone()) is not None:
            yield key, row[0]


def _keep(db: sqlite3.Connection, directory: Directory) -> None:
    gone = directory.unlinked - directory.linked
    db.executemany(_FORGET, ((PATIENTS.name, *link) for link in gone))
    db.executemany(_KEEP, _rows_of(directory))


def _rows_of(directory: Directory) -> Iterator[_Row]:
    for link in directory.linked:
        yield PATIENTS.name, *link, None, b""
    for place, consent in directory.changed_consents.items():
        value = msgspec.json.encode(consent)
        yield CONSENTS.name, *place, value, digest_of(value)
    for at, version in directory.effects.changed.items():
        value = version_text(version)
        yield VERSIONS.name, *at, value, digest_of(value)
    for key, run in directory.runs.items():
        yield SERVED.name, *key, run, digest_of(run)
    for name in directory.effects.claimed:
        yield CLAIMS.name, *name, None, b""
