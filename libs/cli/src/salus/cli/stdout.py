"""Standard output whose failure ends a command with a code of its own: what was done is done."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TYPE_CHECKING

from salus.cli.exits import CommandError, Exit

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputError(CommandError):
    """Standard output takes nothing more; `is_closed`: because whoever read it went away."""

    def __init__(self, error: OSError) -> None:
        super().__init__(Exit.NOT_WRITTEN, f"stdout cannot be written: {error.strerror}")
        self.is_closed = error.errno == errno.EPIPE


class _Descriptor(io.FileIO):
    """A descriptor that stays open; after the first failure it takes everything and keeps nothing."""

    _failed = False

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, or raise OutputError once: Python flushes what is left when it ends, which is no news."""
        if not self._failed:
            try:
                return super().write(data)
            except OSError as error:
                self._failed = True
                raise OutputError(error) from error
        return memoryview(data).nbytes


def checked(descriptor: int, *, encoding: str = "utf-8", errors: str = "strict") -> io.TextIOWrapper:
    """Return a text stream on a descriptor that raises OutputError where another raises OSError."""
    return io.TextIOWrapper(io.BufferedWriter(_Descriptor(descriptor)), encoding=encoding, errors=errors)


def install() -> None:
    """Check standard output from now on; one that is not a file of the system stays as it is."""
    if sys.stdout is None:
        # It was closed (`>&-`): whatever is opened next must not get what is written there.
        sys.stdout = checked(os.open(os.devnull, os.O_RDONLY))
        return
    try:
        descriptor = sys.stdout.fileno()
    except OSError:
        return
    sys.stdout.flush()
    sys.stdout = checked(descriptor, encoding=sys.stdout.encoding, errors=sys.stdout.errors or "strict")
