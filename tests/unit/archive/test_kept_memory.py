"""What was freed is used again, without the system being asked for each page anew."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library decides by itself")
def test_memory_that_was_freed_is_not_asked_for_again() -> None:
    done = subprocess.run([sys.executable, "-c", USE], check=True, capture_output=True, text=True)

    # 5 times 64 MB are 78,125 pages.
    assert int(done.stdout) < 5_000


def test_a_c_library_without_such_a_wish_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())

    keep_freed_memory()
