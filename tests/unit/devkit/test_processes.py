from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from salus.devkit import processes
from salus.devkit.processes import Place, is_alive, send, spawn, start_time, stop, tail
from salus.devkit.waiting import until

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
IGNORE = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
STUBBORN = [sys.executable, "-c", IGNORE + "print('up', flush=True); time.sleep(600)"]
PARENT = """
import os, pathlib, sys, time
from salus.devkit.processes import Place, spawn
place = Place(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]), detached=sys.argv[2] == "detached")
child = "import time; print('up', flush=True); time.sleep(600)"
record = spawn("child", [sys.executable, "-c", child], place, env=os.environ)
while "up" not in record.log_tail():
    time.sleep(0.01)
print(record.pid, flush=True)
time.sleep(600)
"""


def begin(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "data", tmp_path / "logs", detached=False)


async def test_a_stopped_process_is_gone(place):
    record = spawn("sleeper", SLEEPER, place, env=os.environ)
    assert is_alive(record)

    await stop(record)

    assert not is_alive(record)
    assert start_time(record.pid) is None


async def test_a_process_that_ignores_sigterm_is_stopped_all_the_same(place):
    record = spawn("stubborn", STUBBORN, place, env=os.environ)
    assert await until(lambda: "up" in record.log_tail(), deadline_s=60)

    await stop(record, grace_s=0.2)

    assert not is_alive(record)


async def test_a_pid_that_went_to_another_program_is_left_alone():
    other = begin(SLEEPER)
    stranger = processes.ProcessRecord("kafka", other.pid, "an earlier start time", "no.log")
    try:
        await stop(stranger)

        assert not is_alive(stranger)
        assert other.poll() is None
    finally:
        other.kill()
        other.communicate()


def test_a_process_is_found_again_by_its_record(place):
    record = spawn("sleeper", SLEEPER, place, env=os.environ)
    found = msgspec.json.decode(msgspec.json.encode(record), type=processes.ProcessRecord)
    processes._own.pop(record.pid).returncode = 0  # as if another invocation had started it

    assert is_alive(found)

    os.kill(record.pid, signal.SIGKILL)
    os.waitpid(record.pid, 0)
    assert not is_alive(found)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
@pytest.mark.parametrize(("kind", "survives"), [("foreground", False), ("detached", True)])
async def test_only_a_detached_process_outlives_its_killed_parent(tmp_path, kind, survives):
    parent = begin([sys.executable, "-c", PARENT, str(tmp_path), kind])
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())

    parent.kill()
    parent.wait()
    parent.stdout.close()

    if survives:
        assert not await until(lambda: start_time(pid) is None, deadline_s=0.5)
        os.kill(pid, signal.SIGKILL)
    assert await until(lambda: start_time(pid) is None, deadline_s=60)


@pytest.mark.parametrize("lives", [True, False])
def test_who_started_detached_processes_ends_without_a_complaint(tmp_path, lives):
    """After the last line of all tests stood "subprocess N is still running", three times."""
    begins = PARENT.rpartition("time.sleep")[0] + ("" if lives else "os.kill(record.pid, 9)\n")
    command = [sys.executable, "-W", "always::ResourceWarning", "-c", begins, str(tmp_path), "detached"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    pid = int(ended.stdout)
    assert lives == (start_time(pid) is not None)
    if lives:
        os.kill(pid, signal.SIGKILL)

    assert ended.stderr == ""


async def test_signals_reach_the_whole_group(place):
    shell = ["sh", "-c", f"{sys.executable} -c 'import time; time.sleep(600)' & echo $!; wait"]
    record = spawn("group", shell, place, env=os.environ)
    assert await until(lambda: record.log_tail().strip().isdigit(), deadline_s=60)
    grandchild = int(record.log_tail())

    send(record, signal.SIGKILL)

    assert await until(lambda: start_time(grandchild) is None, deadline_s=60)
    await stop(record)


def test_the_tail_of_a_log_is_its_last_lines(tmp_path):
    log = tmp_path / "a.log"
    log.write_text("".join(f"{number}\n" for number in range(100_000)))

    assert tail(log, 2) == "99998\n99999"
    assert tail(tmp_path / "none.log") == ""
