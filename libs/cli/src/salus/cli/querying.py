"""SQL over the archive's Parquet bodies, with DuckDB.

DuckDB would have to fetch an extension to read from S3, so bodies are copied next to the platform's state
first. A body is named by its root, so a copy never goes stale and the next query copies what is new.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from salus.cli.exits import CommandError, Exit
from salus.ledger.block import Header, body_key
from salus.objects import ObjectsError, ObjectStore

COPIES_AT_ONCE = 8
_BODY = re.compile(r"shard/(\d+)/(\d{12})/body-[0-9a-f]{64}\.parquet")
_HEADER = re.compile(r"shard/(\d+)/(\d{12})/header")
_VIEW = """
CREATE VIEW leaves AS
SELECT regexp_extract(filename, 'shard/([0-9]+)/([0-9]+)/', 1)::INTEGER AS shard,
       regexp_extract(filename, 'shard/([0-9]+)/([0-9]+)/', 2)::BIGINT AS height,
       * EXCLUDE (filename)
FROM read_parquet($files, filename = true)
"""

OpenHeader = Callable[[int, bytes], Header]


async def committed_bodies(store: ObjectStore, open_header: OpenHeader) -> list[str]:
    """Return the keys of the bodies that a header names; one that lost a race has none and is left out."""
    headers: set[tuple[int, int]] = set()
    bodies: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
    async for entry in store.list("shard"):
        if found := _BODY.fullmatch(entry.key):
            bodies[int(found[1]), int(found[2])].append(entry.key)
        elif found := _HEADER.fullmatch(entry.key):
            headers.add((int(found[1]), int(found[2])))
    keys = []
    for shard, height in sorted(headers):
        candidates = bodies[shard, height]
        if len(candidates) > 1:
            note = await store.get(f"shard/{shard}/{height:012d}/header")
            candidates = [body_key(shard, height, open_header(shard, note).root)]
        keys += candidates
    return keys


async def copy_bodies(store: ObjectStore, keys: list[str], folder: Path) -> list[Path]:
    """Return local copies of these bodies, copying those that are not there yet."""
    places = asyncio.Semaphore(COPIES_AT_ONCE)

    async def copied(key: str) -> Path:
        path = folder / key
        if not path.exists():
            async with places:
                data = await store.get(key)
            path.parent.mkdir(parents=True, exist_ok=True)
            fresh = path.with_suffix(".part")
            fresh.write_bytes(data)
            fresh.replace(path)
        return path

    return list(await asyncio.gather(*map(copied, keys)))


def ask(sql: str, files: list[Path]) -> tuple[list[str], list[tuple[Any, ...]]]:
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


async def copy_archive(store: ObjectStore, open_header: OpenHeader, folder: Path) -> list[Path]:
    """Return local copies of every committed body.

    Raises:
        CommandError: the object store does not serve.
    """
    try:
        return await copy_bodies(store, await committed_bodies(store, open_header), folder)
    except ObjectsError as error:
        raise CommandError(Exit.NOT_RUNNING, f"the object store does not serve: {error}") from None
