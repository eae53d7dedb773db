"""The witness's memory: one SQLite file, each change one transaction that is on the disk when it returns."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from threading import Lock

from salus.crypto.private_files import open_private
from salus.witness.domain import Cosigned
from salus.witness.ports import ChangedMeanwhileError, ForgetfulError

# A log that lies does not fill the disk: the first pairs are proof enough.
EVIDENCE_KEPT_MAX = 100
# Anybody can send these, so they have a place of their own, in which a new one displaces the oldest.
UNPROVEN_KEPT_MAX = 20
BUSY_S_MAX = 5.0
_TABLES = """
CREATE TABLE cosigned (origin TEXT PRIMARY KEY, size INTEGER NOT NULL, root BLOB NOT NULL,
    note BLOB NOT NULL);
CREATE TABLE evidence (origin TEXT NOT NULL, cosigned BLOB NOT NULL, refused BLOB NOT NULL,
    UNIQUE (origin, refused));
"""
_UNPROVEN = """
CREATE TABLE IF NOT EXISTS unproven (origin TEXT NOT NULL, cosigned BLOB NOT NULL, refused BLOB NOT NULL,
    UNIQUE (origin, refused));
"""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A connection, and the device and inode of the file that it is to."""

    file: tuple[int, int]
    connection: sqlite3.Connection


class NoMemoryError(Exception):
    """There is no state file. A witness that forgot what it cosigned might cosign another history."""


class SqliteMemory:
    """Remembers in a file; several processes may share it, on one machine. Whoever opened it closes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # One thing at a time, on a connection that is kept.
        self._lock = Lock()
        self._kept: _Kept | None = None

    @classmethod
    def open(cls, path: Path, *, create: bool) -> SqliteMemory:
        """Return the memory in the file, made first if `create` and there is none.

        Raises:
            NoMemoryError: there is no such file and it is not to be made, or it is not a witness's.
        """
        if not path.exists():
            if not create:
                raise NoMemoryError(f"there is no {path}")
            _make(path)
        _require_ours(path)
        return cls(path)

    async def last(self, origin: str) -> Cosigned | None:
        """Return the last checkpoint cosigned."""
        return await asyncio.to_thread(self._last, origin)

    async def replace(self, origin: str, before: Cosigned | None, after: Callable[[], Cosigned]) -> Cosigned:
        """Remember what `after` makes in place of `before`, atomically and durably."""
        # A caller that goes away does not stop the thread: what it wrote stays, and the log is told its size.
        return await asyncio.to_thread(self._replace, origin, before, after)

    async def keep_evidence(self, origin: str, *, cosigned: bytes, refused: bytes) -> None:
        """Keep two checkpoints that one log signed."""
        await asyncio.to_thread(self._keep, origin, cosigned, refused)

    async def keep_unproven(self, origin: str, *, cosigned: bytes, refused: bytes) -> None:
        """Keep two checkpoints, and forget the oldest pair that is kept so if there are many."""
        await asyncio.to_thread(self._keep_unproven, origin, cosigned, refused)

    def close(self) -> None:
        """Disconnect, once what is being written has been."""
        with self._lock:
            self._drop()

    def _last(self, origin: str) -> Cosigned | None:
        with self._connected() as connection:
            return _last(connection, origin)

    def _replace(self, origin: str, before: Cosigned | None, after: Callable[[], Cosigned]) -> Cosigned:
        made = after()
        with self._connected() as connection:
            if _last(connection, origin) != before:
                raise ChangedMeanwhileError
            connection.execute(
                "INSERT OR REPLACE INTO cosigned VALUES (?, ?, ?, ?)",
                (origin, made.size, made.root, made.note),
            )
        return made

    def _keep(self, origin: str, cosigned: bytes, refused: bytes) -> None:
        with self._connected() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO evidence SELECT ?, ?, ? WHERE"
                " (SELECT count(*) FROM evidence WHERE origin = ?) < ?",
                (origin, cosigned, refused, origin, EVIDENCE_KEPT_MAX),
            )

    def _keep_unproven(self, origin: str, cosigned: bytes, refused: bytes) -> None:
        with self._connected() as connection:
            # Files made by earlier versions lack it.
            connection.execute(_UNPROVEN)
            connection.execute("INSERT OR IGNORE INTO unproven VALUES (?, ?, ?)", (origin, cosigned, refused))
            connection.execute(
                "DELETE FROM unproven WHERE origin = ? AND rowid NOT IN"
                " (SELECT rowid FROM unproven WHERE origin = ? ORDER BY rowid DESC LIMIT ?)",
                (origin, origin, UNPROVEN_KEPT_MAX),
            )

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Run one transaction that excludes every other, and is synced to the disk when it has ended."""
        with self._lock:
            try:
                connection = self._connection()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                connection.execute("COMMIT")
            except (OSError, sqlite3.Error) as error:
                # What became of it is seen by whoever connects anew.
                self._drop()
                raise ForgetfulError(f"{self._path}: {type(error).__name__}: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        """Return a connection to the file that has the name now, and not to one that had it before."""
        found = self._path.stat()
        file = (found.st_dev, found.st_ino)
        if self._kept is None or self._kept.file != file:
            self._drop()
            self._kept = _Kept(file, _connect(self._path))
        return self._kept.connection

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.connection.close()
        self._kept = None


def _make(path: Path) -> None:
    """Make a state file, unless another process has made one meanwhile: that may have been cosigned by."""
    fresh = path.with_name(f"{path.name}.{token_hex(8)}.fresh")
    # SQLite gives its journals the mode of the file.
    open_private(fresh, os.O_EXCL).close()
    try:
        with closing(sqlite3.connect(fresh)) as connection:
            connection.executescript(_TABLES)
        with suppress(FileExistsError):
            # Unlike a new name, a second one never takes the place of what is there.
            path.hardlink_to(fresh)
    finally:
        fresh.unlink()


def _require_ours(path: Path) -> None:
    """Raise NoMemoryError if the file is damaged or another one; it is left as it is."""
    try:
        with closing(_connect(path)) as connection:
            for table in ("cosigned", "evidence"):
                connection.execute(f"SELECT * FROM {table} LIMIT 0")  # noqa: S608  # two names of ours
            if (found := connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
                raise sqlite3.DatabaseError(found)
    except sqlite3.Error as error:
        # Another process has it just now.
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
            return
        raise NoMemoryError(
            f"{path} is not a witness's state file, or is damaged ({error}); it was left as it is. An older "
            "copy would forget what was cosigned since: if this one is lost, the witness needs a new key"
        ) from error


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: a file that vanished is not silently made anew.
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_S_MAX,
        isolation_level=None,
        # Whoever has the lock uses it, in whichever thread.
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA synchronous = EXTRA")
        # The journal is overwritten and synced, not removed, which changes no folder. What
        # was committed is in the file itself, as it would not be with a write-ahead log.
        connection.execute("PRAGMA journal_mode = PERSIST")
    except BaseException:
        connection.close()
        raise
    return connection


def _last(connection: sqlite3.Connection, origin: str) -> Cosigned | None:
    row = connection.execute("SELECT size, root, note FROM cosigned WHERE origin = ?", (origin,)).fetchone()
    return Cosigned(*row) if row else None
