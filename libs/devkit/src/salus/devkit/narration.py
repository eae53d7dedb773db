"""Telling the user what is being done, without deciding how it looks."""

from __future__ import annotations

import sys
import time
from typing import Protocol

UPDATE_PERIOD_S = 15


class Narrator(Protocol):
    """Hears what is going on. Calls come in order, from one thread."""

    def step(self, text: str) -> None:
        """Something new has begun."""

    def update(self, text: str) -> None:
        """The step goes on; `text` says how far it is. May be called many times a second."""


class SilentNarrator:
    """Says nothing."""

    def step(self, text: str) -> None:
        """Ignore."""

    def update(self, text: str) -> None:
        """Ignore."""


class PlainNarrator:
    """Lines on stderr, for logs and CI: each step at once, its progress every 15 seconds."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()

    def step(self, text: str) -> None:
        """Write the line."""
        self._told_at = time.monotonic()
        sys.stderr.write(f"salus: {text}\n")
        sys.stderr.flush()

    def update(self, text: str) -> None:
        """Write the line if the last one is old enough."""
        if time.monotonic() - self._told_at >= UPDATE_PERIOD_S:
            self.step(text)
