"""Options that take one of a few words of the catalogue: checked before anything is sent, and completed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from salus.cli.display import shown


class Choices:
    """The words that an option takes: `read` is its parser, and `complete` its autocompletion."""

    def __init__(self, values: Sequence[str]) -> None:
        self.values = tuple(values)

    def read(self, text: str) -> str:
        """Return the word; raises BadParameter, which names the option, if it is none of them."""
        if text not in self.values:
            raise typer.BadParameter(f"{shown(text)} is none of {', '.join(self.values)}")
        return text

    def complete(self, incomplete: str) -> list[str]:
        """Return the words that begin so, for the shell."""
        return [value for value in self.values if value.startswith(incomplete)]

    def typed(self, metavar: str) -> dict[str, Any]:
        """Return what makes an option or argument of typer take these words only."""
        return {"metavar": metavar, "parser": self.read, "autocompletion": self.complete}
