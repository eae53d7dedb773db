"""What a contract service could not be faster than: Kafka and SQL alone, with what it writes."""

from __future__ import annotations

import sqlite3
import tempfile
import time
from pathlib import Path

from salus.messaging import Bootstrap, Producer

TABLES = ("fold_aggregates", "fold_claims", "fold_outcomes")
BATCH = 500
# About as large as a grant with the request that it rests on.
VALUE = bytes(1800)
TOPIC = "salus.clinical.events"


async def produce_alone(bootstrap: Bootstrap, count: int) -> int:
    """Return how many records a second Kafka takes from one producer that waits for all replicas."""
    async with Producer(bootstrap, client_id="salus-bench-alone") as producer:
        began = time.perf_counter()
        for number in range(count):
            await producer.enqueue(TOPIC, key=b"%d" % number, value=VALUE, headers=[], partition=0)
        await producer.flush()
        return round(count / (time.perf_counter() - began))


def insert_alone(folded: Path) -> int:
    """Return at how many folded events a second SQLite alone writes the rows that they came to.

    The rows of a folded database go into an empty one, BATCH events in a transaction, a statement a table.
    """
    with tempfile.TemporaryDirectory(prefix="salus-bench-") as folder:
        source = sqlite3.connect(f"file:{folded}?mode=ro", uri=True)
        target = sqlite3.connect(Path(folder) / "alone.db", isolation_level=None)
        schemas = source.execute("SELECT sql FROM sqlite_master WHERE name LIKE 'fold_%' AND sql IS NOT NULL")
        for (schema,) in schemas.fetchall():
            target.execute(schema)
        rows = {table: source.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}  # noqa: S608  # names of ours
        events: int
        (events,) = source.execute("SELECT sum(next_offset) FROM fold_positions").fetchone()
        source.close()
        batches = max(1, events // BATCH)
        began = time.perf_counter()
        for batch in range(batches):
            target.execute("BEGIN")
            for table, all_ in rows.items():
                part = all_[len(all_) * batch // batches : len(all_) * (batch + 1) // batches]
                if part:
                    marks = ", ".join("?" * len(part[0]))
                    target.executemany(f"INSERT INTO {table} VALUES ({marks})", part)  # noqa: S608  # as above
            target.execute("COMMIT")
        seconds = time.perf_counter() - began
        target.close()
    return round(events / seconds)
