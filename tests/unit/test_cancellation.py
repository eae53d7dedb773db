"""Whoever cancels us is heard: no source takes a cancellation of ours for the end of what it waited for.

A task that was cancelled is waited for with `asyncio.gather(task, return_exceptions=True)`, which raises when
its caller is cancelled meanwhile. `suppress(CancelledError)` around `await task` raises nothing then: a
service that is told to stop in that moment goes on for ever.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("libs", "services") for path in (ROOT / folder).glob("*/src/**/*.py"))
CANCELLATIONS = {"CancelledError", "BaseException"}
# Where a handler ends a cancellation, and why that is its end.
ENDED = {
    # The work ran in a loop of its own; the one who cancelled it waits in the loop outside, and raises.
    "salus/anchoring/adapters/pacing.py",
    # Whoever called gets it, in another thread.
    "salus/crypto/call_thread.py",
    # Raises when all is done.
    "salus/messaging/connecting.py",
}


def names(node: ast.AST | None) -> set[str]:
    """Return the last names of the exceptions that are named in an expression."""
    if node is None:
        return {"BaseException"}
    return {
        part.attr if isinstance(part, ast.Attribute) else part.id
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute | ast.Name)
    }


def swallows(node: ast.AST) -> bool:
    """Say whether it suppresses a cancellation, or handles one and raises nothing."""
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
        return any(names(argument) & CANCELLATIONS for argument in node.args)
    raises = any(isinstance(part, ast.Raise) for part in ast.walk(node))
    return isinstance(node, ast.ExceptHandler) and bool(names(node.type) & CANCELLATIONS) and not raises


def swallowing(source: str) -> list[int]:
    """Return the lines of a source that swallow a cancellation."""
    return [node.lineno for node in ast.walk(ast.parse(source)) if swallows(node)]  # type: ignore[attr-defined]


def test_no_cancellation_is_swallowed() -> None:
    found = {path.as_posix().partition("/src/")[2]: swallowing(path.read_text("utf-8")) for path in SOURCES}

    assert {name for name, lines in found.items() if lines} == ENDED


@pytest.mark.parametrize(
    "source",
    [
        "with suppress(asyncio.CancelledError):\n    await task",
        "with contextlib.suppress(CancelledError, ValueError):\n    await task",
        "try:\n    await task\nexcept (OSError, asyncio.CancelledError):\n    pass",
        "try:\n    await task\nexcept:\n    pass",
    ],
)
def test_what_swallows_one_is_found(source: str) -> None:
    assert swallowing(source) != []


def test_what_raises_it_on_is_not() -> None:
    assert swallowing("try:\n    await task\nexcept BaseException:\n    undo()\n    raise") == []
