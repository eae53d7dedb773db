"""What a process asks of interpreter and operating system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from salus.runtime.scheduling import wait_for_a_turn

STARTS_A_THREAD = """
import os, threading
from salus.runtime.scheduling import wait_for_a_turn
wait_for_a_turn()
found = [os.sched_getscheduler(0)]
thread = threading.Thread(target=lambda: found.append(os.sched_getscheduler(0)))
thread.start()
thread.join()
assert found == [os.SCHED_BATCH] * 2, found
"""
COLLECTS = """
import gc
from salus.runtime.garbage import NEW_OBJECTS, collect_rarely
before = gc.get_freeze_count()
collect_rarely()
assert gc.get_freeze_count() > before + 1000
assert gc.get_threshold()[0] == NEW_OBJECTS
assert gc.isenabled()
"""


def run(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has SCHED_BATCH")
def test_all_threads_wait_for_their_turn() -> None:
    run(STARTS_A_THREAD)


@pytest.mark.parametrize("error", [PermissionError, AttributeError])
def test_a_system_that_forbids_it_is_left_as_it_is(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("os.sched_setscheduler", refuse)

    wait_for_a_turn()


def test_what_was_imported_is_never_looked_at_again_and_the_rest_rarely() -> None:
    run(COLLECTS)
