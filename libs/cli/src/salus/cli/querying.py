"""SQL over the archive's Parquet bodies, with DuckDB.

DuckDB would have to fetch an extension to read from S3, so bodies are copied next to the platform's state
first. Before each answer every header is verified and every copy is hashed: a name with a root in it says
what a body should be, not what it is. A copy that is not as signed is fetched anew.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import file_digest
from pathlib import Path
from typing import Any

import duckdb

from salus.archive.blocks import BlockArchive, parse_key
from salus.archive.errors import ArchiveError, DamagedError, MissingError
from salus.cli.exits import CommandError, Exit
from salus.cli.store_errors import store_error
from salus.crypto.private_files import write_private
from salus.ledger.block import Header, body_key, header_key
from salus.ledger.errors import LedgerError
from salus.ledger.key_periods import is_void
from salus.ledger.policy import Policy
from salus.objects import ObjectsError, ObjectStore

COPIES_AT_ONCE = 8
NAMED_MAX = 10
_VIEW = """
CREATE VIEW leaves AS
SELECT regexp_extract(filename, 'shard/([0-9]+)/([0-9]+)/', 1)::INTEGER AS shard,
       regexp_extract(filename, 'shard/([0-9]+)/([0-9]+)/', 2)::BIGINT AS height,
       * EXCLUDE (filename)
FROM read_parquet($files, filename = true)
"""


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens the headers of a network's shards: by its policy, and the origin of each shard."""

    policy: Policy
    origins: Mapping[int, str]

    def __call__(self, shard: int, note: bytes) -> Header:
        """Return the header; raises LedgerError if the shard did not sign it."""
        return self.policy.open_header(note, self.origins.get(shard, ""))

    def is_void(self, shard: int, height: int) -> bool:
        """Tell whether what lies there is behind the end of the shard's chain."""
        keys = self.policy.shards.get(self.origins.get(shard, ""))
        return keys is not None and is_void(keys, height)


@dataclass(slots=True)
class Listed:
    """The blocks that have a header, the roots in the names of bodies, and what is none of the ledger's."""

    headers: set[tuple[int, int]] = field(default_factory=set)
    roots: dict[tuple[int, int], list[bytes]] = field(default_factory=lambda: defaultdict(list))
    strays: list[str] = field(default_factory=list)


async def list_blocks(store: ObjectStore, opener: Opener) -> Listed:
    """Return what lies below `shard` and is not void; a stray object is named and disturbs nothing."""
    listed = Listed()
    async for entry in store.list("shard", on_stray=lambda stray: listed.strays.append(stray.shown)):
        parsed = parse_key(entry.key)
        if parsed is None:
            listed.strays.append(entry.key)
        elif opener.is_void(*parsed[:2]):
            continue
        elif parsed[2] is None:
            listed.headers.add(parsed[:2])
        else:
            listed.roots[parsed[:2]].append(parsed[2])
    return listed


async def committed_bodies(store: ObjectStore, open_header: Opener) -> list[str]:
    """Return the keys of the bodies that a header names; one that lost a race has none and is left out.

    No body is read: what lies under these keys is unchecked.
    """
    listed = await list_blocks(store, open_header)
    keys = []
    for shard, height in sorted(listed.headers):
        roots = listed.roots[shard, height]
        if len(roots) > 1:
            note = await _note(BlockArchive(store), shard, height)
            roots = [_opened(open_header, shard, height, note).root]
        keys += [body_key(shard, height, root) for root in roots]
    return keys


@dataclass(slots=True)
class Copies:
    """Local copies of the bodies of a bucket, each verified whenever it is asked for."""

    store: ObjectStore
    open_header: Opener
    folder: Path
    damaged: list[DamagedError] = field(default_factory=list)
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(COPIES_AT_ONCE))

    async def all(self) -> list[Path]:
        """Return a copy of each block's body that is as signed; what is not is in `damaged`."""
        listed = await list_blocks(self.store, self.open_header)
        found = await asyncio.gather(*(self._one(*block) for block in sorted(listed.headers)))
        return [path for path in found if path is not None]

    async def _one(self, shard: int, height: int) -> Path | None:
        archive = BlockArchive(self.store)
        async with self._places:
            try:
                header = await self._header(archive, shard, height)
                path = self.folder / body_key(shard, height, header.root)
                if not await asyncio.to_thread(_is_body, path, header):
                    data = await archive.body(shard, header)
                    await asyncio.to_thread(write_private, path, data, durable=False)
            except DamagedError as error:
                self.damaged.append(error)
                return None
        return path

    async def _header(self, archive: BlockArchive, shard: int, height: int) -> Header:
        """Return the header, out of a copy if the shard signed that."""
        path = self.folder / header_key(shard, height)
        with suppress(OSError, DamagedError):
            return _opened(self.open_header, shard, height, await asyncio.to_thread(path.read_bytes))
        note = await _note(archive, shard, height)
        header = _opened(self.open_header, shard, height, note)
        await asyncio.to_thread(write_private, path, note, durable=False)
        return header


async def _note(archive: BlockArchive, shard: int, height: int) -> bytes:
    note = await archive.header(shard, height)
    if note is None:
        raise MissingError(header_key(shard, height), "the header is missing")
    return note


def _opened(open_header: Opener, shard: int, height: int, note: bytes) -> Header:
    """Return the header of this block; raises DamagedError."""
    key = header_key(shard, height)
    try:
        header = open_header(shard, note)
    except LedgerError as error:
        raise DamagedError(key, str(error)) from None
    if header.height != height:
        raise DamagedError(key, f"it is the header of height {header.height}")
    return header


def _is_body(path: Path, header: Header) -> bool:
    """Tell whether a file is the body that the header commits to."""
    try:
        with path.open("rb") as file:
            return (
                path.stat().st_size == header.body_bytes
                and file_digest(file, "sha256").digest() == header.body_sha256
            )
    except OSError:
        return False


def ask(sql: str, files: Sequence[Path]) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Return column names and rows of a query over the view `leaves`.

    Raises:
        CommandError: there is nothing to query, or the query is wrong.
    """
    if not files:
        raise CommandError(Exit.NO, "the archive has no blocks yet")
    names = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    with duckdb.connect() as database:
        try:
            database.execute(_VIEW.replace("$files", f"[{names}]"))
            answer = database.execute(sql)
            columns = [column[0] for column in answer.description or ()]
            return columns, answer.fetchall()
        except duckdb.Error as error:
            raise CommandError(Exit.USAGE, str(error)) from None


async def copy_archive(store: ObjectStore, open_header: Opener, folder: Path) -> list[Path]:
    """Return local copies of every committed body, each as its header says.

    Raises:
        CommandError: a header or body is not as signed, or the object store does not serve.
    """
    copies = Copies(store, open_header, folder)
    try:
        files = await copies.all()
    except ObjectsError as error:
        raise store_error(error) from None
    except OSError as error:
        raise CommandError(Exit.CANNOT_START, f"{folder}: {error.strerror}") from None
    if copies.damaged:
        raise not_as_signed(sorted(copies.damaged, key=str))
    return files


def not_as_signed(damaged: Sequence[ArchiveError]) -> CommandError:
    """Return the error that names what is not as signed."""
    named = "; ".join(str(error) for error in damaged[:NAMED_MAX])
    more = f"; and {len(damaged) - NAMED_MAX} more" if len(damaged) > NAMED_MAX else ""
    return CommandError(
        Exit.NO, f"the archive is not as it was signed: {named}{more}; see `salus ledger fsck`"
    )
