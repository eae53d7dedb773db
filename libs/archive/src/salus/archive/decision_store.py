"""What decisions are replayed from, as the ledger has it: on disk, beyond what fits in a cache."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from salus.archive.scratch_database import scratch_database
from salus.events.state_positions import Partition

# As of names in `salus.archive.served_requests`.
CLAIM_BYTES = 16
_TABLES = """
CREATE TABLE changes (
    number INTEGER PRIMARY KEY, subject TEXT, topic TEXT, part INTEGER, offset INTEGER, value BLOB);
CREATE INDEX by_subject ON changes (subject, number);
CREATE TABLE versions (
    topic TEXT, subject TEXT, version INTEGER, PRIMARY KEY (topic, subject)) WITHOUT ROWID;
CREATE TABLE claims (topic TEXT, name BLOB, PRIMARY KEY (topic, name)) WITHOUT ROWID;
CREATE TABLE decisions (
    number INTEGER PRIMARY KEY, position INTEGER, shard INTEGER, height INTEGER, row INTEGER,
    topic TEXT, part INTEGER, offset INTEGER, appended REAL, value BLOB);
CREATE TABLE reached (
    topic TEXT, part INTEGER, newest REAL, next INTEGER, PRIMARY KEY (topic, part, newest)) WITHOUT ROWID;
CREATE TABLE texts (policy_set TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID;
CREATE INDEX by_position ON decisions (position, number);
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: in which row of which block, and on its topic."""

    shard: int
    height: int
    row: int
    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Change:
    """A change of a subject that took effect: its number in the order of the ledger, and where it stands."""

    number: int
    at: Partition
    offset: int


class DecisionStore:
    """Changes by their subjects, what they claimed, and the decisions to be replayed."""

    def __init__(self, folder: Path | None = None) -> None:
        self._db = scratch_database(_TABLES, folder=folder)

    def close(self) -> None:
        """Forget everything."""
        self._db.close()

    def version(self, topic: str, subject: str) -> int:
        """Return the version of a subject on a topic."""
        query = "SELECT version FROM versions WHERE topic = ? AND subject = ?"
        found = self._db.execute(query, (topic, subject)).fetchone()
        return 0 if found is None else int(found[0])

    def is_claimed(self, topic: str, name: str) -> bool:
        """Tell whether a name was claimed on a topic."""
        query = "SELECT 1 FROM claims WHERE topic = ? AND name = ?"
        return self._db.execute(query, (topic, _claim(name))).fetchone() is not None

    def applied(self, topic: str, subject: str, *, version: int | None, names: Iterable[str]) -> None:
        """Keep that an event took effect: the version after it, if it is a change, and what it claimed."""
        if version is not None:
            self._db.execute("INSERT OR REPLACE INTO versions VALUES (?, ?, ?)", (topic, subject, version))
        rows = [(topic, _claim(name)) for name in names]
        self._db.executemany("INSERT OR IGNORE INTO claims VALUES (?, ?)", rows)

    def add_change(self, subject: str, at: Partition, offset: int, value: bytes) -> None:
        """Keep a change that is part of the state by which is decided."""
        row = (subject, *at, offset, value)
        self._db.execute(
            "INSERT INTO changes (subject, topic, part, offset, value) VALUES (?, ?, ?, ?, ?)", row
        )

    def add_decision(self, place: Place, *, position: int, appended: float, value: bytes) -> None:
        """Keep a decision; `position` is that of the identity topic which it names."""
        row = (
            position,
            place.shard,
            place.height,
            place.row,
            place.topic,
            place.partition,
            place.offset,
            appended,
            value,
        )
        columns = "position, shard, height, row, topic, part, offset, appended, value"
        self._db.execute(f"INSERT INTO decisions ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)  # noqa: S608

    def add_text(self, policy_set: str, value: bytes) -> None:
        """Keep the first event that has the files of a policy set."""
        self._db.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", (policy_set, value))

    def text(self, policy_set: str) -> bytes | None:
        """Return the event that has the files of a policy set."""
        found = self._db.execute("SELECT value FROM texts WHERE policy_set = ?", (policy_set,)).fetchone()
        return None if found is None else bytes(found[0])

    def changes(self, subject: str) -> list[Change]:
        """Return where the changes of a subject stand, in the order of the ledger."""
        query = "SELECT number, topic, part, offset FROM changes WHERE subject = ? ORDER BY number"
        return [
            Change(n, (topic, part), offset) for n, topic, part, offset in self._db.execute(query, (subject,))
        ]

    def values(self, numbers: Collection[int]) -> Iterator[bytes]:
        """Yield the values of changes of these numbers, in that order."""
        for number in numbers:
            (value,) = self._db.execute("SELECT value FROM changes WHERE number = ?", (number,)).fetchone()
            yield value

    def decisions(self) -> Iterator[tuple[int, Place, float, bytes]]:
        """Yield position, place, time of appending and value of each decision, in the order of positions."""
        query = "SELECT position, shard, height, row, topic, part, offset, appended, value FROM decisions"
        for position, *place, at, value in self._db.cursor().execute(f"{query} ORDER BY position, number"):
            yield position, Place(*place), at, value

    def reach(self, at: Partition, *, next_: int, newest: float) -> None:
        """Keep that all before an offset, and nothing later, was appended until `newest`, in their order."""
        self._db.execute("INSERT OR REPLACE INTO reached VALUES (?, ?, ?, ?)", (*at, newest, next_))

    def reached(self, at: Partition, *, until: float) -> int:
        """Return the end of a partition before which everything was appended by then, as blocks tell it."""
        query = "SELECT next FROM reached WHERE topic = ? AND part = ? AND newest <= ? ORDER BY newest DESC"
        found = self._db.execute(f"{query} LIMIT 1", (*at, until)).fetchone()
        return 0 if found is None else int(found[0])

    def counted(self) -> int:
        """Return how many decisions there are."""
        return int(self._db.execute("SELECT count(*) FROM decisions").fetchone()[0])


def is_before(change: Change, ends: Mapping[Partition, int]) -> bool:
    """Tell whether a change stands before the ends of partitions."""
    return change.offset < ends.get(change.at, 0)


def _claim(name: str) -> bytes:
    return sha256(name.encode()).digest()[:CLAIM_BYTES]
