"""A comparison of many requests in a process that may not take the memory for them; run by a test.

Prints the number of rows that differ; with a limit that is too small it ends with MemoryError.
"""

from __future__ import annotations

import asyncio
import resource
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.asking import NETWORK

from salus.audit.adapters import derived_tables
from salus.audit.adapters.sql import open_trail
from salus.audit.domain.directory import Directory
from salus.audit.domain.identity_history import IdentityHistory
from salus.events.contexts import CATALOGUE
from salus.events.keyring import KeyRing

REQUESTS = 150_000
ROOM_BYTES = 40 * 2**20
IN_A_BLOCK = 5_000

Claim = tuple[str, str]


def claims(first: int, end: int) -> Iterator[Claim]:
    return (("salus.consent.events", f"request:{number:064x}") for number in range(first, end))


async def compare(folder: Path) -> int:
    async with open_trail(f"sqlite+aiosqlite:///{folder}/a.db") as trail:
        with closing(sqlite3.connect(folder / "a.db")) as database, database:
            database.executemany("INSERT INTO audit_claims VALUES (?, ?)", claims(1, REQUESTS + 1))
        limit_memory()
        count = 0
        async with trail.stored.snapshot() as seen:
            for first in range(0, REQUESTS, IN_A_BLOCK):
                directory = Directory(IdentityHistory(KeyRing(CATALOGUE, NETWORK)))
                directory.effects.claimed = set(claims(first, first + IN_A_BLOCK))
                await seen.tables.keep(directory)
            async for rows in seen.tables.differing():
                count += len(rows)
        return count


def limit_memory() -> None:
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    data_kib = next(int(line.split()[1]) for line in status if line.startswith("VmData:"))
    limit = data_kib * 1024 + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    threading.stack_size(512 * 1024)
    derived_tables.CACHE_KIB_MAX = 2048
    sys.stdout.write(str(asyncio.run(compare(Path(sys.argv[1])))))
