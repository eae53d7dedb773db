"""Runs tests with the C files compiled so that a read beyond a buffer or undefined arithmetic ends the run.

Everything is compiled anew, beside the library that is in use, and ends with gcc's or clang's report if it
is wrong. `python tools/sanitized_tests.py [pytest's arguments]`; as a pytest plugin it is what puts the other
library in the place of the usual one.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NATIVE = ROOT / "libs/ledger/native"
TESTS = (
    "tests/unit/ledger/test_hashing.py",
    "tests/unit/ledger/test_records.py",
    "tests/unit/ledger/test_signed_batches.py",
    "tests/unit/archive/test_leaves.py",
    "tests/unit/archive/test_quick_json.py",
    "tests/unit/archive/test_quick_rows.py",
    "tests/unit/archive/test_quick_times.py",
    "tests/unit/archive/test_sound_body.py",
    "tests/unit/events/test_canonical.py",
    "tests/unit/events/test_ed25519.py",
    "tests/unit/events/test_fitting.py",
    "tests/unit/events/test_requests_together.py",
    "tests/unit/archive/test_duplicates.py",
    "tests/unit/messaging/test_record_batches.py",
)
COMPILER = os.environ.get("CC", "cc")
FLAGS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-shared", "-fPIC")
PLACE = "SALUS_SANITIZED_LIBRARY"


def pytest_configure() -> None:
    """Load the sanitized library wherever the compiled one is asked for."""
    # They are called like the classes, which is all that these are used for.
    ctypes.CDLL = _instead_of(ctypes.CDLL)  # type: ignore[assignment,misc]
    ctypes.PyDLL = _instead_of(ctypes.PyDLL)  # type: ignore[assignment,misc]


def _instead_of(usual: type[ctypes.CDLL]) -> Callable[[str], ctypes.CDLL]:
    return lambda path: usual(os.environ[PLACE] if Path(path).name == "compiled.native" else path)


def main() -> int:
    """Compile, and run the tests under the sanitizers; return pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "sanitized.native"
        sources = [*sorted(NATIVE.glob("*.c")), *sorted(NATIVE.glob("s2n_bignum/*.S"))]
        included = f"-I{NATIVE / 's2n_bignum/include'}"
        _run([COMPILER, *FLAGS, included, "-o", str(library), *map(str, sources)])
        runtime = _run([COMPILER, "-print-file-name=libasan.so"]).strip()
        environment = os.environ | {
            PLACE: str(library),
            "LD_PRELOAD": runtime,
            "PYTHONPATH": str(Path(__file__).parent),
            # Python's own memory comes out of pools otherwise, and is not all given back at the end.
            "PYTHONMALLOC": "malloc",
            "ASAN_OPTIONS": "detect_leaks=0",
            # Or pycryptodome asks for something that the sanitizer's runtime does not allow.
            "PYCRYPTODOME_DISABLE_DEEPBIND": "1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        tests = sys.argv[1:] or TESTS
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", Path(__file__).stem, *tests]
        return subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode  # noqa: S603  # our own


def _run(command: list[str]) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603  # our own


if __name__ == "__main__":
    sys.exit(main())
