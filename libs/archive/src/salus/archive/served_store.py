"""Keeps what a deep fsck judges rights by until it has seen all of it: on disk, beyond its cache."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from salus.archive.scratch_database import scratch_database
from salus.archive.served_requests import AnyServed, ServedRun

_TABLES = """
CREATE TABLE runs (
    topic TEXT, part INTEGER, first INTEGER, next INTEGER,
    shard INTEGER, height INTEGER, key TEXT, served BLOB,
    PRIMARY KEY (topic, part, first)) WITHOUT ROWID;
CREATE TABLE claims (topic TEXT, name BLOB, PRIMARY KEY (topic, name)) WITHOUT ROWID;
"""


Stated = tuple[ServedRun, AnyServed]
"""What was stated, and the run that it is in."""


class ServedStore:
    """The runs of all blocks in the order of their partitions, and the names claimed."""

    def __init__(self) -> None:
        self._db = scratch_database(_TABLES)

    def close(self) -> None:
        """Forget everything."""
        self._db.close()

    def add(self, runs: Iterable[ServedRun]) -> None:
        """Keep the runs of some blocks, in any order."""
        rows = [(r.topic, r.partition, r.first, r.next, r.shard, r.height, r.key, r.served) for r in runs]
        # Of an offset that two blocks cover, which is a finding of its own, the first that was read counts.
        self._db.executemany("INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def runs(self, topic: str) -> Iterator[ServedRun]:
        """Yield the runs of a topic, each partition's in the order of offsets."""
        query = "SELECT * FROM runs WHERE topic = ? ORDER BY part, first"
        for row in self._db.cursor().execute(query, (topic,)):
            yield ServedRun(*row)

    def served(self, topic: str) -> Iterator[Stated]:
        """Yield what is stated on a topic, with the run that it is in."""
        return ((run, served) for run in self.runs(topic) for served in run.decoded())

    def torn(self) -> ServedRun | None:
        """Return a run that does not begin where the one before it on its partition ends."""
        query = """
            SELECT topic, part, first, next, shard, height, key, served FROM (
                SELECT *, lag(next) OVER (PARTITION BY topic, part ORDER BY first) AS before FROM runs)
            WHERE before <> first LIMIT 1"""
        found = self._db.execute(query).fetchone()
        return None if found is None else ServedRun(*found)

    def is_claimed(self, topic: str, name: bytes) -> bool:
        """Tell whether a name was claimed on a topic."""
        query = "SELECT 1 FROM claims WHERE topic = ? AND name = ?"
        return self._db.execute(query, (topic, name)).fetchone() is not None

    def claim(self, topic: str, names: Iterable[bytes]) -> None:
        """Claim names on a topic."""
        self._db.executemany("INSERT INTO claims VALUES (?, ?)", [(topic, name) for name in names])
