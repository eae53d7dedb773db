"""The threat model says by which test each row is held (issue 12), and tests that documents name exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.compile(r"`(?:tests/[a-z_/]*)?(test_\w+)(\.py)?`")


def test_every_row_of_the_threat_model_names_a_test() -> None:
    lines = (ROOT / "docs/threat-model.md").read_text().split("\n")
    rows = [line for line in lines if line.startswith("| ") and not line.startswith(("| attacker", "| ---"))]

    assert len(rows) > 100
    assert [row for row in rows if not NAMED.search(row)] == []


def test_every_test_that_a_document_names_exists() -> None:
    tests = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "examples").rglob("test_*.py")]
    known = {file.stem for file in tests}
    known |= {name for file in tests for name in re.findall(r"def (test_\w+)\(", file.read_text())}
    documents = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("services/*/README.md")]

    named = {(file.name, name) for file in documents for name, _ in NAMED.findall(file.read_text())}
    assert len(named) > 100
    assert sorted((file, name) for file, name in named if name not in known) == []
