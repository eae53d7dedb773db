"""Writes the generated files, or with `--check` says which of them are not what would be generated now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATORS = (
    ("salus.events.schemas", "--docs", "docs"),
    ("tools.openapi_documents",),
    ("tools.rights_document",),
    ("tools.service_files",),
    ("tools.example_page",),
)
GENERATED = (
    "libs/events/src/salus/events/schemas/**/*.json",
    "docs/asyncapi.json",
    "docs/openapi/*.json",
    "docs/rights.md",
    "docs/settings.md",
    # Parts of them, between marks.
    "deploy/helm/salus/*.yaml",
    "deploy/helm/salus/values.schema.json",
    "docker-compose.yml",
    "docs/architecture.md",
    "docs/contract-service.md",
    "docs/operators.md",
    "pyproject.toml",
    "tests/generators/java/pom.xml",
)


def snapshot() -> dict[Path, bytes]:
    """Return the present content of every generated file."""
    return {path: path.read_bytes() for pattern in GENERATED for path in sorted(ROOT.glob(pattern))}


def generate() -> int:
    """Run every generator; return the first exit code that is not 0."""
    for module, *arguments in GENERATORS:
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(command, check=False, cwd=ROOT)  # noqa: S603  # our own generators
        if done.returncode != 0:
            return done.returncode
    return 0


def restore(before: dict[Path, bytes], after: dict[Path, bytes]) -> None:
    """Leave the tree as a check found it."""
    for path in after.keys() - before.keys():
        path.unlink()
    for path, content in before.items():
        if after.get(path) != content:
            path.write_bytes(content)


def check() -> int:
    """Return 1 if a generated file is out of date, after naming it."""
    before = snapshot()
    code = generate()
    after = snapshot()
    restore(before, after)
    stale = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    for path in stale:
        print(f"{path.relative_to(ROOT)} is out of date: run `make generate`")  # noqa: T201  # a report
    return code or (1 if stale else 0)


if __name__ == "__main__":
    sys.exit(check() if "--check" in sys.argv[1:] else generate())
