"""What was freed is used again, without the system being asked for each page anew."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from salus.archive import fsck
from salus.archive.kept_memory import keep_freed_memory

# Prints how many pages it got from the system while it had 64 MB at a time, five times, after the first.
USE = """
import resource
from salus.archive.kept_memory import keep_freed_memory
keep_freed_memory()
for _ in range(6):
    pages = [bytearray(b"x") * 4_000_000 for _ in range(16)]
    del pages
    at = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    if not _:
        first = at
print(at - first)
"""

# The same, each time in another thread, while those before it still live.
USE_IN_THREADS = """
import resource, threading
from salus.archive.kept_memory import keep_freed_memory
keep_freed_memory()
end = threading.Event()
def use(done):
    pages = [bytearray(b"x") * 4_000_000 for _ in range(16)]
    del pages
    done.set()
    end.wait()
for _ in range(6):
    done = threading.Event()
    threading.Thread(target=use, args=(done,)).start()
    done.wait()
    at = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    if not _:
        first = at
print(at - first)
end.set()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library decides by itself")
@pytest.mark.parametrize("use", [USE, USE_IN_THREADS], ids=["one thread", "six threads"])
def test_memory_that_was_freed_is_not_asked_for_again(use: str) -> None:
    done = subprocess.run([sys.executable, "-c", use], check=True, capture_output=True, text=True)

    # 5 times 64 MB are 78,125 pages.
    assert int(done.stdout) < 5_000


def test_a_c_library_without_such_a_wish_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())

    keep_freed_memory()


class Work:
    """Work of a process that checks stretches, without a store."""

    def checker(self, _: object) -> None:
        """Return no checker: none is asked anything."""


def test_each_process_that_checks_keeps_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bool] = []
    monkeypatch.setattr(fsck, "keep_freed_memory", lambda: kept.append(True))
    address = fsck.StoreAddress("http://127.0.0.1:1", "", "", "", "ledger", "log")
    monkeypatch.setattr(fsck, "_checker", None)

    fsck._begin(Work(), address)  # type: ignore[arg-type]  # what is asked of it here

    assert kept == [True]
