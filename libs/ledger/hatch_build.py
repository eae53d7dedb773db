# ruff: noqa: INP001  # hatchling runs this file, nothing imports it
"""Compiles native/ into the package when there is a C compiler; without one nothing is lost."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = ("native/*.c", "native/s2n_bignum/*.S")
INCLUDED = "native/s2n_bignum/include"
LIBRARY = Path("src/salus/ledger/compiled.native")


class CustomBuildHook(BuildHookInterface[Any]):
    """Runs the C compiler before a wheel, editable ones included, is put together."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's signature
        """Compile, and say that the wheel is for this platform if there is something compiled in it."""
        library = Path(self.root) / LIBRARY
        if self.target_name == "wheel" and self._compile(library):
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{_platform()}"
            build_data["artifacts"].append(str(LIBRARY))

    def _compile(self, library: Path) -> bool:
        compiler = shutil.which(os.environ.get("CC", "cc"))
        if compiler is None or sys.platform == "win32" or platform.machine() not in {"x86_64", "AMD64"}:
            return False
        # Under another name first: a process that has the library open keeps the one it has.
        fresh = library.with_suffix(f".{os.getpid()}")
        root = Path(self.root)
        sources = [str(source) for pattern in SOURCES for source in sorted(root.glob(pattern))]
        flags = ["-O3", "-shared", "-fPIC", "-DS2N_BN_HIDE_SYMBOLS", f"-I{root / INCLUDED}"]
        command = [compiler, *flags, "-o", str(fresh), *sources]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # fixed arguments
        if answer.returncode != 0:
            fresh.unlink(missing_ok=True)
            self.app.display_warning(f"native/ was not compiled: {answer.stderr[-300:]}")
            return False
        fresh.replace(library)
        return True


def _platform() -> str:
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")
