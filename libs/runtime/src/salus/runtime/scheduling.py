"""How the operating system takes turns with the threads of a process."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

SWITCH_S = 0.0005


def switch_quickly() -> None:
    """Let a thread that asks for the interpreter lock have it after half a millisecond.

    After 5 ms, as set by default, it asks in vain for longer than most of what it waits for takes: a piece of
    an answer of the broker's, a statement of SQLite's, a batch of signatures.
    """
    sys.setswitchinterval(SWITCH_S)


def wait_for_a_turn() -> None:
    """Let this thread, and those it starts, not interrupt who is at work when they wake up (SCHED_BATCH).

    They get as much of the processor as before, in fewer and longer pieces: for processes that work on much
    at once, next to the programs that feed them. Where the operating system has no such thing, or forbids
    it, nothing changes.
    """
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
