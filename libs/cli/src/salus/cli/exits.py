"""The exit codes of the salus command, which scripts rely on."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """What an exit code means."""

    OK = 0
    """Done, and what was asked is so."""
    NO = 1
    """Done, and the answer is no: a check failed, damage was found, a service refused the request."""
    USAGE = 2
    """The command was not understood, or a file or setting that it was given cannot be used."""
    NOT_RUNNING = 3
    """No platform runs here, or what the command needs does not answer."""
    CANNOT_START = 4
    """The platform could not be started: something is missing on this machine, or a process ended."""
    REFUSED = 5
    """The ledger refused the record, and the receipt, which is genuine, proves that."""
    NOT_WRITTEN = 6
    """Done, and it stands, but a file or the stdout that was to take the result could not be written."""
    OTHER_VERSION = 7
    """The state folder was made by another version of Salus or of a package, and nothing was started."""
    DIFFERS = 8
    """Done: what is in force elsewhere is not what is planned; what differs was named."""
    BAD_ANSWER = 9
    """A service answered something else than this version expects; the sentence names service and field."""
    INTERRUPTED = 130
    """Ctrl-C."""


class CommandError(Exception):
    """Ends a command with one sentence on stderr and an exit code."""

    def __init__(self, code: Exit, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code
