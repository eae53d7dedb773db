"""A reactor: what the state of a contract's aggregates obliges to. Pure, and declared beside the contract.

`salus.contracts.reactor_host` does the work and records its outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from math import ceil
from typing import Generic, TypeVar

import msgspec

from salus.contracts.projection import Contract

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True)
class Reactor(Generic[S]):
    """What aggregates of one contract oblige to.

    `owes` is pure and names what a state still obliges to, by keys that follow from its events: the same key
    of an aggregate is the same obligation for ever. The outcome is a command, so the aggregates have to be
    named by `subject`. For `grace_s` an obligation is left to whoever asked for it, who may have it done.
    `falls_due` is pure and says when one that is owed by a state falls due, for what somebody else may settle
    until then: before, it is neither worked on nor counted as open. Without it what is owed is due at once.
    """

    name: str
    contract: Contract[S]
    owes: Callable[[S], Collection[str]]
    grace_s: float = 0
    falls_due: Callable[[S, str], datetime] | None = None

    @property
    def declared(self) -> tuple[str, str]:
        """By what a fold tells it apart: its name and its contract's kind."""
        return self.name, self.contract.kind

    def falls_due_ms(self, state: S, key: str) -> int:
        """Return before when what a state owes is nobody's work; 0: it is at once."""
        return 0 if self.falls_due is None else ceil(self.falls_due(state, key).timestamp() * 1000)

    def __post_init__(self) -> None:
        """Raise ValueError if something is owed before any event, which no fold would notice."""
        if self.contract.initial is None and self.owes(self.contract.state()):
            raise ValueError(f"{self.name}: what no event happened to owes nothing")
