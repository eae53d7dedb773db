"""Checks that no event was accepted twice: a pair of source and id within the window of duplicates.

The window is the sequencer's own, and takes the same memory. Blocks come in the order of each chain, one
chain after the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from salus.archive.accepted_pairs import accepted_pairs
from salus.archive.blocks import BlockArchive
from salus.archive.check_blocks import Checked
from salus.archive.check_body import Blamed
from salus.archive.columns import columns_of_body
from salus.archive.duplicates import FINGERPRINT_BYTES, WindowSize
from salus.archive.errors import ArchiveError, MissingError
from salus.archive.report import Finding, about_header
from salus.ledger.block import Header, header_key, open_header
from salus.ledger.errors import LedgerError
from salus.ledger.key_periods import Keys

# Blocks read at once where a run goes on whose beginning another run checked.
BLOCKS_AT_ONCE = 16
ROWS_NAMED_MAX = 20


class DuplicateChecker:
    """Follows each chain with a window of its accepted pairs."""

    def __init__(self, archive: BlockArchive, verifiers: Mapping[int, Keys], size: WindowSize) -> None:
        self._archive = archive
        self._verifiers = verifiers
        self._size = size
        # The shard that is being followed and the height it has come to; None: its window is not known.
        self._reached: tuple[int, int] | None = None
        self._window = size.new()
        # Blocks that are damaged, and found so: nobody knows what they accepted.
        self._unknown: set[tuple[int, int]] = set()

    async def take(self, checked: Checked) -> list[Finding]:
        """Return which accepted rows of a stretch were accepted before; raises ObjectsError.

        The bodies of a spared stretch are not read for this before a later stretch needs their pairs.
        """
        if checked.spared:
            self._reached = None
            return []
        found: list[Finding] = []
        if self._reached != (checked.shard, checked.start):
            self._window = self._size.new()
            found += await self._fill(checked.shard, checked.start)
        self._reached = checked.shard, checked.stop
        for height in range(checked.start, checked.stop):
            pairs = checked.pairs.get(height)
            if pairs is None:
                self._unknown.add((checked.shard, height))
            else:
                fresh = self._window.admit(pairs.prints)
                repeated = [pairs.row(number) for number, it in enumerate(fresh) if not it]
                found += await self._named(checked.shard, height, repeated) if repeated else ()
            self._window.end_block()
        return found

    async def _named(self, shard: int, height: int, rows: Sequence[int]) -> list[Finding]:
        detail = "its source and id were accepted before"
        try:
            header = await self._header(shard, height)
            body = await self._archive.body(shard, header)
            columns = columns_of_body(body, names=["topic", "partition", "offset", "id"])
        except (ArchiveError, LedgerError):
            return [about_header(shard, height, "accepted-twice", f"rows {rows[:ROWS_NAMED_MAX]}: {detail}")]
        blamed = Blamed(shard, header)
        found = [
            blamed.finding("accepted-twice", detail, row=row, columns=columns)
            for row in rows[:ROWS_NAMED_MAX]
        ]
        if len(rows) > ROWS_NAMED_MAX:
            found.append(blamed.finding("accepted-twice", f"and {len(rows) - ROWS_NAMED_MAX} more rows"))
        return found

    async def _fill(self, shard: int, height: int) -> list[Finding]:
        """Read the pairs before a height back, as far as the window reaches; return what cannot be read."""
        blocks: list[bytes] = []
        found: list[Finding] = []
        missing = self._size.pairs
        # The block that comes next counts as well.
        while height > 0 and missing > 0 and (wanted := self._size.blocks - 1 - len(blocks)) > 0:
            some = range(height - 1, max(height - 1 - min(BLOCKS_AT_ONCE, wanted), -1), -1)
            for prints, finding in await asyncio.gather(*(self._prints(shard, at) for at in some)):
                blocks += [prints] if prints else ()
                missing -= len(prints) // FINGERPRINT_BYTES
                found += [finding] if finding else ()
            height = some[-1]
        for prints in reversed(blocks):
            self._window.admit(prints)
            self._window.end_block()
        return found

    async def _prints(self, shard: int, height: int) -> tuple[bytes, Finding | None]:
        if (shard, height) in self._unknown:
            return b"", None
        try:
            header = await self._header(shard, height)
        except (ArchiveError, LedgerError) as error:
            detail = f"it was whole when it was checked: {error}"
            return b"", about_header(shard, height, "header-unreadable", detail)
        if not header.accepted:
            return b"", None
        try:
            return accepted_pairs(await self._archive.body(shard, header)).prints, None
        except ArchiveError as error:
            code = "body-missing" if isinstance(error, MissingError) else "body-hash"
            detail = f"it was whole when it was checked: {error}"
            return b"", Blamed(shard, header).finding(code, detail)

    async def _header(self, shard: int, height: int) -> Header:
        note = await self._archive.header(shard, height)
        if note is None:
            raise MissingError(header_key(shard, height), "the header is missing")
        return open_header(note, self._verifiers[shard])
