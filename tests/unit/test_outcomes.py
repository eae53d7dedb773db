"""What became of an event is matched exhaustively wherever it is matched (issue 12, 1; cases SEC1, F4)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OUTCOMES = {"Applied", "WithoutEffect", "Refused", "Unknown"}


def matches(source: str) -> Iterator[ast.Match]:
    """Yield each match of an outcome."""
    if not any(f"{name}(" in source for name in OUTCOMES):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Match):
            patterns = (pattern for case in node.cases for pattern in ast.walk(case.pattern))
            named = {ast.unparse(each.cls) for each in patterns if isinstance(each, ast.MatchClass)}
            if named & OUTCOMES:
                yield node


def is_exhaustive(match: ast.Match) -> bool:
    """Tell whether mypy refuses it as soon as a case is missing."""
    last = match.cases[-1]
    return ast.unparse(last.pattern) == "_" and ast.unparse(last.body[0]).startswith("assert_never(")


def test_every_match_of_an_outcome_ends_with_assert_never() -> None:
    files = [*(ROOT / "libs").rglob("*.py"), *(ROOT / "services").rglob("*.py")]
    found = [(file, match) for file in files for match in matches(file.read_text())]

    assert len({file for file, _ in found}) >= 6
    assert [f"{file}:{match.lineno}" for file, match in found if not is_exhaustive(match)] == []


@pytest.mark.parametrize(
    ("end", "exhaustive"), [("case _:\n  assert_never(x)", True), ("case _:\n  pass", False), ("", False)]
)
def test_a_match_that_drops_a_case_is_found(end: str, *, exhaustive: bool) -> None:
    [match] = matches(
        f"match x:\n case Applied():\n  pass\n case WithoutEffect() | Refused():\n  pass\n {end}"
    )

    assert is_exhaustive(match) is exhaustive
