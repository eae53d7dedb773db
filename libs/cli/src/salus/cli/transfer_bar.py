"""How far a long transfer is, on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn

from salus.cli.console import progress_bar

Advance = Callable[[int], None]
"""Hears how many bytes more are done."""


@contextmanager
def transfer_bar(what: str, size: int) -> Iterator[Advance]:
    """Show a bar for so many bytes while this lasts; it is gone afterwards."""
    columns = (TextColumn(what, markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with progress_bar(*columns) as bar:
        task = bar.add_task(what, total=size)

        def advance(count: int) -> None:
            bar.advance(task, count)

        yield advance
