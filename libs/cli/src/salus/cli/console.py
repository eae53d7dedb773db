"""How the command speaks: results on stdout (for people or as JSON), everything else on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from rich.progress import Progress, ProgressColumn
from rich.status import Status

from salus.cli.display import Screen, plain, shown, shown_lines, styled
from salus.devkit.narration import Narrator, PlainNarrator

PIPE_COLUMNS = 240
out = Screen()
if not out.is_terminal:
    # Nobody looks at the width of a pipe, and a DID that was cut is no use.
    out = Screen(width=PIPE_COLUMNS, soft_wrap=True)
err = Screen(stderr=True)

Json = Annotated[bool, typer.Option("--json", help="Write JSON for scripts.")]


def emit(content: Any) -> None:
    """Write one JSON document on stdout, and at once: whether it arrived is for the caller to hear."""
    sys.stdout.write(shown_lines(json.dumps(content, indent=2, ensure_ascii=False, default=str)) + "\n")
    sys.stdout.flush()


def emit_line(content: Any) -> None:
    """Write one JSON document as one line, and at once, for streams."""
    sys.stdout.write(shown(json.dumps(content, ensure_ascii=False, default=str)) + "\n")
    sys.stdout.flush()


def emit_file(content: bytes) -> None:
    """Write a text file that others made on stdout: the very bytes; on a terminal so that none steers it."""
    if sys.stdout.isatty():
        sys.stdout.write(shown_lines(content.decode("utf-8", "backslashreplace")))
    else:
        # What was written as text before stands before it.
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
    sys.stdout.flush()


def progress_bar(*columns: ProgressColumn) -> Progress:
    """Return a bar on stderr that is gone when it ends; it shows nothing where no terminal is."""
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


class LiveNarrator:
    """Shows the present step with a spinner, and leaves a line with the time each step took."""

    def __init__(self, status: Status) -> None:
        self._status = status
        self._step: str | None = None
        self._began = 0.0

    def step(self, text: str) -> None:
        """End the present step and begin another."""
        self.end()
        self._step, self._began = text, time.monotonic()
        self._status.update(plain(text))

    def update(self, text: str) -> None:
        """Show how far the step is."""
        self._status.update(plain(text))

    def end(self) -> None:
        """Leave a line for the present step."""
        if self._step is not None:
            took = time.monotonic() - self._began
            err.print(styled("[green]✓[/] {} [dim]{} s[/]", self._step, f"{took:.1f}"))
            self._step = None


@contextmanager
def narration(*, quiet: bool = False) -> Iterator[Narrator]:
    """Give a narrator: live on a terminal, plain lines elsewhere."""
    if quiet or not err.is_terminal:
        yield PlainNarrator()
        return
    with err.status("…") as status:
        narrator = LiveNarrator(status)
        yield narrator
        narrator.end()
