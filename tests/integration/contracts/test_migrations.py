"""Two replicas on an empty PostgreSQL. Case deploy.md: one of them ended with UniqueViolation."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import asyncpg

from salus.devkit.waiting import until

REPLICAS = 3
WAIT_S_MAX = 60.0
MIGRATE = """
import asyncio, sys
from salus.contracts.fold import open_fold_store

async def main():
    async with open_fold_store(sys.argv[1]):
        pass

asyncio.run(main())
"""


async def test_replicas_that_start_at_once_on_an_empty_database_take_turns(
    postgres: str, tmp_path: Path
) -> None:
    held = await asyncpg.connect(postgres.replace("postgresql+asyncpg", "postgresql"))
    lock = held.transaction()
    await lock.start()
    await held.execute("SELECT pg_advisory_xact_lock(hashtextextended('fold_alembic_version', 0))")
    script = tmp_path / "migrate.py"
    script.write_text(MIGRATE)
    replicas = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            str(script),
            postgres,
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(REPLICAS)
    ]

    async def all_wait() -> bool:
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return bool(await held.fetchval(waiting) == REPLICAS)

    waited = await until(all_wait, deadline_s=WAIT_S_MAX)
    tables = await held.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
    await lock.commit()
    said = [(await replica.communicate())[1] for replica in replicas]
    versions = await held.fetchval("SELECT count(*) FROM fold_alembic_version")
    await held.close()

    assert waited, said
    assert tables == 0
    assert [replica.returncode for replica in replicas] == [0] * REPLICAS, said
    assert versions == 1
