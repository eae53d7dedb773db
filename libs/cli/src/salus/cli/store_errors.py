"""What a command says when the object store fails: try again, or change something first."""

from __future__ import annotations

from salus.cli.exits import CommandError, Exit
from salus.objects import ObjectsError, RefusedError


def store_error(error: ObjectsError, *, later: str = "") -> CommandError:
    """Return the error of a command; `later` says how to go on once the store answers again."""
    if isinstance(error, RefusedError):
        # Not NOT_RUNNING, which scripts wait for: who asks, or for what, has to change.
        return CommandError(Exit.USAGE, str(error))
    sentence = f"the object store does not serve: {error}"
    return CommandError(Exit.NOT_RUNNING, f"{sentence}; {later}" if later else sentence)
