"""What comes of a decision that is made again from the ledger."""

from __future__ import annotations

from typing import Literal

import msgspec

Outcome = Literal["same", "differs", "not-replayed"]


class Difference(msgspec.Struct, frozen=True):
    """A field of a decision: what it says, and what follows from its state."""

    field: str
    said: str
    follows: str


class Changed(msgspec.Struct, frozen=True):
    """What another policy set would have answered: whether it allows, and by which reasons."""

    allowed: bool
    reasons: tuple[str, ...]


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one decision: where it stands, what was decided, and what follows instead.

    `why` says why it was not replayed, or what may explain a difference. `instead` is the answer of the other
    policy set, if one was asked.
    """

    outcome: Outcome
    shard: int
    height: int
    row: int
    topic: str
    partition: int
    offset: int
    event: str
    decision: str
    allowed: bool
    reasons: tuple[str, ...]
    policy_set: str
    differences: tuple[Difference, ...] = ()
    why: str | None = None
    instead: Changed | None = None

    @property
    def place(self) -> str:
        """Where it stands, in one line."""
        at = f"{self.topic} {self.partition} {self.offset}"
        return f"shard {self.shard} block {self.height} row {self.row} ({at}, event {self.event})"


def shown(value: object) -> str:
    """Return a value as a difference shows it."""
    return msgspec.json.encode(value).decode().strip('"')
