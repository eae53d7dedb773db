"""Asking before what cannot be taken back."""

from __future__ import annotations

import sys

from salus.cli.console import err
from salus.cli.exits import CommandError, Exit


def require_terminal(*, undone: str) -> None:
    """Refuse where nobody can be asked and nobody said --yes."""
    if not sys.stdin.isatty():
        raise CommandError(Exit.USAGE, f"there is no terminal to ask on: say --yes; {undone}")


def require_yes(question: str, *, undone: str) -> None:
    """Ask; raise CommandError unless the answer is yes."""
    # The prompt of typer writes on stdout, where the result goes.
    err.print(f"{question} [y/N] ", end="", highlight=False)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise CommandError(Exit.NO, undone)
