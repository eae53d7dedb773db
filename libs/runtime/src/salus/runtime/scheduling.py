"""How the operating system takes turns with the threads of a process."""

from __future__ import annotations

import os
from contextlib import suppress


def wait_for_a_turn() -> None:
    """Let this thread, and those it starts, not interrupt who is at work when they wake up (SCHED_BATCH).

    They get as much of the processor as before, in fewer and longer pieces: for processes that work on much
    at once, next to the programs that feed them. Where the operating system has no such thing, or forbids
    it, nothing changes.
    """
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
