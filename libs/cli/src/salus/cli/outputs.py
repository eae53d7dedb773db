"""Files and terminals that a command gives its result to, once what it did cannot be undone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from salus.cli.exits import CommandError, Exit
from salus.cli.stdout import OutputError
from salus.crypto.private_files import replacing_private, write_private

Output = Annotated[Path | None, typer.Option("--output", "-o", help="Where to; stdout by default.")]
Force = Annotated[bool, typer.Option("--force", help="Write the raw bytes even to a terminal.")]


class Outputs:
    """Writes files and stdout; that one cannot be written is told last, and hides nothing else."""

    def __init__(self) -> None:
        self._failed: dict[Path | None, str] = {}

    def write(self, path: Path | None, content: bytes, *, private: bool = False) -> bool:
        """Write a file if there is to be one; tell whether it is there."""
        if path is None:
            return False
        try:
            if private:
                write_private(path, content)
            else:
                path.write_bytes(content)
        except OSError as error:
            self._failed[path] = f"{path} cannot be written: {error.strerror}"
        return path not in self._failed

    @contextmanager
    def printing(self) -> Iterator[None]:
        """Keep the failure of stdout for later."""
        try:
            yield
            sys.stdout.flush()
        except OutputError as error:
            self._failed[None] = str(error)

    @property
    def told(self) -> str:
        """What could not be written, to be put behind a sentence; empty if all was."""
        return "".join(f"; {failed}" for failed in self._failed.values())

    def require_all(self, done: str) -> None:
        """Raise CommandError with what was done if a file could not be written."""
        if self._failed:
            raise CommandError(Exit.NOT_WRITTEN, f"{done}{self.told}")


@contextmanager
def printing(done: str) -> Iterator[None]:
    """Print on stdout what an act gave; raises CommandError with `done` if it is not taken."""
    outputs = Outputs()
    with outputs.printing():
        yield
    outputs.require_all(done)


def require_place(output: Path | None, *, undone: str, force: bool = True) -> None:
    """Refuse before anything is done, where it can be seen, an output that cannot take the result.

    Raw bytes of others may be commands to a terminal, so it gets them only by `force`.
    """
    if output is None:
        if not force and sys.stdout.isatty():
            raise CommandError(
                Exit.USAGE,
                "raw bytes of others may steer a terminal: name a file with --output, or say --force; "
                f"{undone}",
            )
        return
    if not output.parent.is_dir():
        raise CommandError(Exit.USAGE, f"{output}: there is no folder {output.parent}; {undone}")
    if output.is_dir():
        raise CommandError(Exit.USAGE, f"{output} is a folder; {undone}")


Sink = Callable[[bytes], object]
"""Takes the pieces of a result, one after the other."""


@contextmanager
def handing_over(output: Path | None, *, done: str) -> Iterator[Sink]:
    """Give a result to a private file or to stdout piece by piece; a file is there once all of it came.

    Raises:
        CommandError: it cannot be written; with what was done.
    """
    if output is None:
        outputs = Outputs()
        with outputs.printing():
            yield sys.stdout.buffer.write
            sys.stdout.buffer.flush()
        outputs.require_all(done)
        return
    try:
        with replacing_private(output) as file:
            yield file.write
    except OSError as error:
        told = f"{done}; {output} cannot be written: {error.strerror}"
        raise CommandError(Exit.NOT_WRITTEN, told) from error


def hand_over(content: bytes, output: Path | None, *, done: str, private: bool) -> None:
    """Give the result to a file or to stdout; raises CommandError with what was done if it cannot."""
    outputs = Outputs()
    with outputs.printing():
        if output is None:
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()
    outputs.write(output, content, private=private)
    outputs.require_all(done)
