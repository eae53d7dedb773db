"""Which accepted record has a source and an id: an index on disk, made from the archive's bodies.

It is a projection that nothing depends on: a receipt that is found by it proves itself. It can be deleted at
any time and is made anew.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import structlog

from salus.crypto.private_files import FILE_MODE
from salus.ledger.hashing import hash_each
from salus.runtime.supervisor import LastingError

# The pair is kept as so many bytes of its SHA-256: to find another pair with the same takes 2^60 tries, and a
# given one's 2^120.
PRINT_BYTES = 15
_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    print BLOB NOT NULL, entry INTEGER NOT NULL, row INTEGER NOT NULL, time INTEGER NOT NULL,
    PRIMARY KEY (print, entry, row)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS progress (
    id INTEGER PRIMARY KEY CHECK (id = 1), log TEXT NOT NULL, entries INTEGER NOT NULL, last BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS gaps (entry INTEGER PRIMARY KEY);
"""

Row = tuple[bytes, int, int]
"""What is kept of an accepted event: print of its name, row in its block, time."""

_log = structlog.get_logger()


class EventIndexError(Exception):
    """The file cannot be read or written."""

    def __init__(self, error: sqlite3.Error | OSError) -> None:
        # The text of an OSError has the path, and /readyz shows this.
        why = error.strerror if isinstance(error, OSError) else error
        super().__init__(f"the event index: {type(error).__name__}: {why}")


class FullIndexError(EventIndexError, LastingError):
    """There is no room for the file, so that a new one would be no better."""


@dataclass(frozen=True, slots=True)
class IndexedEvent:
    """Where an accepted event is: the log entry of its block, and its row there.

    `time` is the event's own, in microseconds since 1970 UTC.
    """

    entry: int
    row: int
    time: int


def prints_of(pairs: Sequence[tuple[str, str]]) -> list[bytes]:
    """Return what stands for each pair of source and id, parted by a line feed, which no DID can hold."""
    hashes = hash_each(b"", [f"{source}\n{id_}".encode() for source, id_ in pairs])
    return [digest[:PRINT_BYTES] for digest in hashes]


class EventIndex:
    """The index of one log in one file, of about 45 bytes an accepted event; its methods block.

    `size` is how many entries of the log it covers, and `last` names the last of them, by which the builder
    recognises that the file is of another log. `gaps` are those below it that could not be read. Memory:
    SQLite's page cache, 2 MiB.

    Every method but `close` raises EventIndexError if the file cannot be used. A page that is damaged is
    found when it is read; `clear` makes the file anew.
    """

    def __init__(self, file: Path, *, log: str) -> None:
        """Open the file, or make it; one that is damaged or of another log is made anew.

        If that cannot be done, the index is empty, and each of its methods tries to open the file again.
        """
        self._file = file
        self._log = log
        self._lock = Lock()
        self._opened: sqlite3.Connection | None = None
        self.gaps: tuple[int, ...] = ()
        self._forget()
        try:
            self._open()
        except EventIndexError as error:
            _log.warning("the event index is made anew", why=str(error))
            with suppress(EventIndexError):
                self.clear()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._forget()

    def add(self, entry: int, last: bytes, rows: Sequence[Row] | None) -> None:
        """Add the next entry: its accepted events, None if they cannot be read, and what names the entry."""
        with self._lock, _translated(), self._database as database:
            if rows is None:
                database.execute("INSERT OR IGNORE INTO gaps VALUES (?)", (entry,))
            self._insert(entry, rows or ())
            database.execute("UPDATE progress SET entries = ?, last = ?", (entry + 1, last))
        self.size, self.last = entry + 1, last
        if rows is None:
            self.gaps = (*self.gaps, entry)

    def fill(self, gap: int, rows: Sequence[Row]) -> None:
        """Add what an entry has that could not be read before."""
        with self._lock, _translated(), self._database as database:
            self._insert(gap, rows)
            database.execute("DELETE FROM gaps WHERE entry = ?", (gap,))
        self.gaps = tuple(entry for entry in self.gaps if entry != gap)

    def _insert(self, entry: int, rows: Sequence[Row]) -> None:
        self._database.executemany(
            "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?)",
            ((pair, entry, row, time) for pair, row, time in sorted(rows)),
        )

    def find(
        self, source: str, id_: str, *, counts: Callable[[int], bool] = lambda _: True
    ) -> IndexedEvent | None:
        """Return the first accepted event of that source and id in the order of the log, of what `counts`."""
        (wanted,) = prints_of([(source, id_)])
        query = "SELECT entry, row, time FROM events WHERE print = ? ORDER BY entry, row"
        with self._lock, _translated(), closing(self._database.execute(query, (wanted,))) as found:
            return next((IndexedEvent(*row) for row in found if counts(row[0])), None)

    def clear(self) -> None:
        """Forget everything."""
        # Who asks meanwhile waits: there is no database between two of these lines.
        with self._lock, _translated():
            self._forget()
            for suffix in ("", "-wal", "-shm"):
                self._file.with_name(self._file.name + suffix).unlink(missing_ok=True)
            self._open()

    @property
    def _database(self) -> sqlite3.Connection:
        """The open file; one that could not be opened before is tried again."""
        return self._opened or self._open()

    def _open(self) -> sqlite3.Connection:
        with _translated():
            self._file.touch(mode=FILE_MODE)
            database = self._opened = sqlite3.connect(self._file, check_same_thread=False)
            try:
                self._read(database)
            except sqlite3.Error:
                self._forget()
                raise
        return database

    def _read(self, database: sqlite3.Connection) -> None:
        # What a crash of the machine loses is indexed again.
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        with database:
            database.executescript(_SCHEMA)
            database.execute("INSERT OR IGNORE INTO progress VALUES (1, ?, 0, x'')", (self._log,))
        log, size, last = database.execute("SELECT log, entries, last FROM progress").fetchone()
        if log != self._log:
            raise sqlite3.DatabaseError("it is of another log")
        gaps = database.execute("SELECT entry FROM gaps ORDER BY entry").fetchall()
        self.size, self.last, self.gaps = size, last, tuple(entry for (entry,) in gaps)

    def _forget(self) -> None:
        """Close the file and know nothing."""
        database, self._opened = self._opened, None
        if database is not None:
            with suppress(sqlite3.Error):
                database.close()
        self.size, self.last, self.gaps = 0, b"", ()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        kind = FullIndexError if _is_full(error) else EventIndexError
        raise kind(error) from error


def _is_full(error: sqlite3.Error | OSError) -> bool:
    if isinstance(error, OSError):
        return error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
