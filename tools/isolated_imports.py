"""Imports every module of every package in an environment that holds its declared dependencies alone.

The shared environment has everything, so it hides a dependency that a package forgot to declare. Here each
package gets an environment of its own, out of uv's cache, with the versions of requirements.lock. Packages
whose files have not changed since they last passed are skipped.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".venv" / "salus-tools" / "uv"
LOCK = ROOT / "requirements.lock"
PASSED = ROOT / ".salus" / "isolated-imports.json"
AT_ONCE = 2

IMPORT_ALL = """
import importlib, pkgutil, sys
name = sys.argv[1]
package = importlib.import_module(name)
for found in pkgutil.walk_packages(package.__path__, name + "."):
    if not found.name.endswith("__main__") and ".migrations." not in found.name:
        importlib.import_module(found.name)
"""


class Package:
    """One of our packages: its name, folder and declared dependencies on others of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
        self.name: str = project["name"]
        requirements = [requirement.split(";")[0] for requirement in project["dependencies"]]
        self.ours = [name for name in requirements if name.startswith("salus-")]
        # What the package's test kit needs, which only tests import.
        self.extra = "[testing]" if "testing" in project.get("optional-dependencies", {}) else ""

    @property
    def module(self) -> str:
        """The import name."""
        return self.name.replace("-", ".", 1).replace("-", "_")


def closure(package: Package, known: dict[str, Package]) -> list[Package]:
    """Return the package and all of ours that it stands on."""
    found: dict[str, Package] = {}
    waiting = [package]
    while waiting:
        one = waiting.pop()
        if one.name not in found:
            found[one.name] = one
            waiting.extend(known[name] for name in one.ours)
    return sorted(found.values(), key=lambda one: one.name)


def digest(packages: list[Package]) -> str:
    """Return a digest of the lock and of every source file of the packages."""
    total = hashlib.sha256(LOCK.read_bytes() + Path(__file__).read_bytes())
    for package in packages:
        for file in sorted([package.folder / "pyproject.toml", *package.folder.glob("src/**/*.py")]):
            total.update(f"{file.relative_to(ROOT)}\n".encode() + file.read_bytes())
    return total.hexdigest()


class FailedError(Exception):
    """A command of uv failed; the text is what it wrote."""


def run(*words: str) -> None:
    """Run a command; raises FailedError."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603  # our own
    if done.returncode != 0:
        raise FailedError(done.stderr[-1500:])


def run_from_cache(*words: str) -> None:
    """Run a command of uv; the cache holds everything after the set-up, unless it was cleaned since."""
    try:
        run(str(UV), *words, "--offline")
    except FailedError:
        run(str(UV), *words)


def build(package: Package, folder: Path) -> Path:
    """Build a package's wheel: once, for all that stand on it; raises FailedError."""
    out = folder / package.name
    run_from_cache("build", "--quiet", "--wheel", "--out-dir", str(out), str(package.folder))
    (wheel,) = out.glob("*.whl")
    return wheel


def failure(package: Package, wheels: dict[str, Path]) -> str | None:
    """Return why the package cannot be imported on its own, or None; `wheels` are of all it stands on."""
    with tempfile.TemporaryDirectory(prefix="salus-isolated-") as folder:
        python = str(Path(folder) / "env" / "bin" / "python")
        wanted = [
            f"{name}{package.extra if name == package.name else ''} @ {wheel.as_uri()}"
            for name, wheel in wheels.items()
        ]
        constraint = ("--constraint", str(LOCK))
        try:
            run(str(UV), "venv", "--quiet", "--python", sys.executable, str(Path(folder) / "env"))
            run_from_cache("pip", "install", "--quiet", "--python", python, *constraint, *wanted)
            run(python, "-c", IMPORT_ALL, package.module)
        except FailedError as error:
            return str(error)
    return None


def main() -> int:
    """Check every package; return 1 if one cannot be imported on its own."""
    known = {
        one.name: one
        for kind in ("libs", "services")
        for one in map(Package, sorted(file.parent for file in ROOT.glob(f"{kind}/*/pyproject.toml")))
    }
    passed = json.loads(PASSED.read_text()) if PASSED.exists() else {}
    closures = {name: closure(package, known) for name, package in known.items()}
    digests = {name: digest(packages) for name, packages in closures.items()}
    waiting = [known[name] for name in known if passed.get(name) != digests[name]]
    needed = {one.name: one for package in waiting for one in closures[package.name]}
    with tempfile.TemporaryDirectory(prefix="salus-wheels-") as folder, ThreadPoolExecutor(AT_ONCE) as pool:
        built = pool.map(lambda one: build(one, Path(folder)), needed.values())
        wheels = dict(zip(needed, built, strict=True))

        def tried(package: Package) -> str | None:
            return failure(package, {one.name: wheels[one.name] for one in closures[package.name]})

        failures = list(pool.map(tried, waiting))
    for package, why in zip(waiting, failures, strict=True):
        if why is None:
            passed[package.name] = digests[package.name]
        else:
            print(f"{package.name} cannot be imported with its declared dependencies alone:\n{why}")  # noqa: T201  # a report
    PASSED.parent.mkdir(exist_ok=True)
    PASSED.write_text(json.dumps(passed, indent=1))
    print(f"{len(known)} packages, {len(waiting)} checked anew")  # noqa: T201  # a report
    return 1 if any(failures) else 0


if __name__ == "__main__":
    sys.exit(main())
