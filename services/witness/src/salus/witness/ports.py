"""What a witness needs from the world: a memory that survives a power cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from salus.witness.domain import Cosigned


class ChangedMeanwhileError(Exception):
    """Somebody else cosigned a checkpoint of this log since it was looked up."""


class ForgetfulError(Exception):
    """The memory cannot be read or written; a write may or may not have happened."""


class Memory(Protocol):
    """The last checkpoint cosigned of each log, and refused ones as evidence.

    When `replace` returns, the checkpoint survives a power cut.
    """

    async def last(self, origin: str) -> Cosigned | None:
        """Return the last checkpoint cosigned, None if there never was one; raises ForgetfulError."""

    async def replace(self, origin: str, before: Cosigned | None, after: Callable[[], Cosigned]) -> Cosigned:
        """Make `after` and remember it, provided that `before` is still the last, in one atomic step.

        Making it may take its time and is done beside the event loop; what it raises is raised, and nothing
        was written then. Return it.

        Raises:
            ChangedMeanwhileError: `before` is not the last; nothing was written.
            ForgetfulError: whether it was written is unknown.
        """

    async def keep_evidence(self, origin: str, *, cosigned: bytes, refused: bytes) -> None:
        """Keep two checkpoints of which one log signed both and neither extends the other; the first ones."""

    async def keep_unproven(self, origin: str, *, cosigned: bytes, refused: bytes) -> None:
        """Keep two checkpoints of which nobody showed how they belong together; the last ones, and apart."""
