"""How services use a SQLite file: readers and a writer do not wait for each other, and statements end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, event

# In a write-ahead log a reader sees the state of its start, and holds up no writer. A connection that leaves
# last takes the log into the file; a copy of a file that is in use needs the `-wal` beside it.
_PRAGMAS = ("journal_mode=WAL", f"journal_size_limit={64 * 2**20}")
# A commit of what can be rebuilt does not wait for the disk; only taking the log into the file does. Names of
# requests are random, so the pages that they go to are kept in memory, this many KiB of them. They come into
# the file after so many pages of the log: a batch changes thousands, and the next one many of them again.
# What a statement of many rows would put back if it failed is in memory, too: it took a file each time.
_REBUILT_PRAGMAS = (
    "synchronous=NORMAL",
    f"cache_size=-{16 * 1024}",
    "wal_autocheckpoint=12288",
    "temp_store=MEMORY",
)
# So often a statement looks at the clock, in steps of SQLite's machine: about once in a millisecond.
STEPS_PER_LOOK = 20_000
UNLIMITED = {"salus_without_limit": True}
"""Execution options of a connection whose statements may take as long as they need."""

_DEADLINE = "salus_deadline"


class _Deadline:
    """When the present statement of a connection is ended; between statements it is never."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.at = math.inf
        self._clock = clock

    def begin(self, seconds: float) -> None:
        self.at = self._clock() + seconds

    def end(self) -> None:
        self.at = math.inf

    def is_over(self) -> bool:
        return self._clock() > self.at


def set_up(
    engine: Engine,
    *,
    statement_s_max: float,
    is_rebuilt: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Have each connection of an engine keep a write-ahead log, and end a statement after so long."""
    pragmas = (*_PRAGMAS, *(_REBUILT_PRAGMAS if is_rebuilt else ()))

    def opened(connection: Any, record: Any) -> None:
        record.info[_DEADLINE] = deadline = _Deadline(clock)
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()
        connection.run_async(partial(_look, deadline))

    def begun(connection: Connection, *_: Any) -> None:
        # The one before may have failed, and not come to its end.
        is_unlimited = connection.get_execution_options().get("salus_without_limit")
        _deadline_of(connection).begin(math.inf if is_unlimited else statement_s_max)

    def ended(connection: Connection, *_: Any) -> None:
        _deadline_of(connection).end()

    event.listen(engine, "connect", opened)
    event.listen(engine, "before_cursor_execute", begun)
    event.listen(engine, "after_cursor_execute", ended)


async def _look(deadline: _Deadline, connection: Any) -> None:
    await connection.set_progress_handler(deadline.is_over, STEPS_PER_LOOK)


def _deadline_of(connection: Connection) -> _Deadline:
    found: _Deadline = connection.connection.info[_DEADLINE]
    return found
