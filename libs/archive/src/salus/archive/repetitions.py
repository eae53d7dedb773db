"""Finds every event that was accepted more than once, by whichever shards and however long ago.

A sequencer knows a window of its own shard's events. What is accepted again beyond it states nothing new: the
record that the broker appended first counts. The pairs of a whole ledger are many: they are on disk, beyond
what fits in a cache.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from itertools import groupby
from operator import itemgetter

import msgspec

from salus.archive.blocks import BlockArchive
from salus.archive.check_blocks import Checked
from salus.archive.check_body import Blamed
from salus.archive.columns import columns_of_body
from salus.archive.duplicates import FINGERPRINT_BYTES
from salus.archive.errors import ArchiveError
from salus.archive.report import Finding, note_of
from salus.ledger.block import header_key, open_header
from salus.ledger.errors import LedgerError
from salus.ledger.key_periods import Keys

CACHE_KIB_MAX = 64 * 1024
# So many rows are read again to say which is the first; the rest are counted.
ROWS_READ_MAX = 200
_NAMES = ("topic", "partition", "offset", "timestamp", "id")
_TABLES = """
CREATE TABLE pairs (print BLOB, shard INTEGER, height INTEGER, row INTEGER);
CREATE TABLE repeated (print BLOB PRIMARY KEY, copies INTEGER) WITHOUT ROWID;
"""
_REPEATED = "INSERT INTO repeated SELECT print, count(*) FROM pairs GROUP BY print HAVING count(*) > 1"
_COPIES = """
SELECT print, shard, height, row FROM pairs WHERE print IN (SELECT print FROM repeated)
ORDER BY print, shard, height, row LIMIT ?
"""

RowPlace = tuple[int, int, int]
"""A shard, a height and a row."""
Order = tuple[int, str, int, int]
"""When the broker appended a record, in milliseconds, its topic, partition and offset: the first counts."""
_UNREADABLE: Order = (1 << 62, "", 0, 0)


class PairStore:
    """The accepted pairs of all blocks that were read. The file has no name and is gone with the process."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB_MAX}"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_TABLES)
        # One transaction without an end: nobody else reads, and nothing is to outlive the process.
        self._db.execute("BEGIN")

    def close(self) -> None:
        """Forget everything."""
        self._db.close()

    def add(self, checked: Checked) -> None:
        """Keep the pairs of a stretch."""
        size = FINGERPRINT_BYTES
        for height, pairs in checked.pairs.items():
            starts = range(0, len(pairs.prints), size)
            self._db.executemany(
                "INSERT INTO pairs VALUES (?, ?, ?, ?)",
                (
                    (pairs.prints[start : start + size], checked.shard, height, pairs.row(number))
                    for number, start in enumerate(starts)
                ),
            )

    def copies(self) -> tuple[list[tuple[bytes, int, int, int]], int]:
        """Return rows whose pair another row has too, ROWS_READ_MAX at most: pair, shard, height and row.

        The number is of all rows whose pair another one had first.
        """
        self._db.execute(_REPEATED)
        rows = self._db.execute(_COPIES, (ROWS_READ_MAX,)).fetchall()
        (count,) = self._db.execute("SELECT coalesce(sum(copies - 1), 0) FROM repeated").fetchone()
        return rows, int(count)


class Repetitions:
    """Collects the pairs of a run of fsck, and then names what was accepted more than once.

    Bodies that an interrupted run found whole, and that are not read again, are not in it.
    """

    def __init__(self, archive: BlockArchive, verifiers: Mapping[int, Keys]) -> None:
        self._archive = archive
        self._verifiers = verifiers
        self._store = PairStore()

    def take(self, checked: Checked) -> None:
        """Keep what a stretch accepts."""
        self._store.add(checked)

    async def notes(self) -> list[Finding]:
        """Return an info about each repetition, the rest of many counted, and forget the pairs.

        What is `accepted-twice` is among them: which one counts is said here. Raises ObjectsError.
        """
        copies, count = self._store.copies()
        self._store.close()
        found: list[Finding] = []
        for _, rows in groupby(copies, key=itemgetter(0)):
            read = [await self._read((shard, height, row)) for _, shard, height, row in rows]
            (_, first), *later = sorted(read, key=itemgetter(0))
            found += [_repeated(finding, first) for _, finding in later]
        if found and count > len(found):
            last = found[-1]
            more = f"and {count - len(found)} more rows"
            found.append(note_of("repeated", last.key, more, shard=last.shard))
        return found

    async def _read(self, at: RowPlace) -> tuple[Order, Finding]:
        """Return where a row stands in the order of appending, and a finding that names it."""
        shard, height, row = at
        try:
            note = await self._archive.header(shard, height)
            header = open_header(note or b"", self._verifiers[shard])
            columns = columns_of_body(await self._archive.body(shard, header), names=list(_NAMES))
        except (ArchiveError, LedgerError):
            where = note_of("repeated", header_key(shard, height), f"row {row}: ", shard=shard)
            return _UNREADABLE, where
        topic, partition, offset, timestamp = (columns[name][row] for name in _NAMES[:4])
        finding = Blamed(shard, header).note("repeated", "", row=row, columns=columns)
        return (timestamp, topic, partition, offset), finding


def _repeated(finding: Finding, first: Finding) -> Finding:
    place = f"shard {first.shard}, {first.topic} {first.partition} {first.offset}"
    detail = (
        f"{finding.detail}its source and id were accepted before, at {place}, which is the one that counts"
    )
    return msgspec.structs.replace(finding, detail=detail)
