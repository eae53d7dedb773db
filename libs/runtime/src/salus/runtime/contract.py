"""A contract: pure rules over one kind of aggregate, and the host that orders first and executes then.

A command is decided against the folded state, published as a signed event that names the version it
expects, and takes effect when it is folded in topic order. Two hosts that raced get one winner; the
other's event is stale, changes nothing, and its caller gets a 409.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from salus.events.catalogue import EventData
from salus.runtime.fold import FoldStore, Follower, Stale
from salus.runtime.problems import ProblemError
from salus.runtime.publishing import ServicePublisher
from salus.runtime.refusal import Refusal

__all__ = ["Contract", "ContractHost", "Refusal"]

S = TypeVar("S", bound=msgspec.Struct)


def by_subject(subject: str, _: EventData) -> str | None:
    """Name an aggregate by its events' `subject`."""
    return subject


@dataclass(frozen=True)
class Contract(Generic[S]):
    """The fold of one topic into aggregates of one kind, each named by the events' `subject`.

    `evolve` is pure and total: it takes every event of the topic and returns the state unchanged for
    those that do not concern it. `state()` without arguments is the state before any event.
    `aggregate` names the aggregates otherwise, given `subject` and data; None: the event concerns none of
    this kind. Commands are executed on aggregates that are named by `subject` only.
    """

    kind: str
    topic: str
    state: type[S]
    evolve: Callable[[S, EventData], S]
    aggregate: Callable[[str, EventData], str | None] = by_subject


class ContractHost(Generic[S]):
    """Executes commands of one contract; callers may rely on read-your-writes."""

    def __init__(
        self, contract: Contract[S], *, follower: Follower, store: FoldStore, publisher: ServicePublisher
    ) -> None:
        self._contract = contract
        self._follower = follower
        self._store = store
        self._publisher = publisher

    async def state(self, aggregate: str) -> S:
        """Return the state of an aggregate, with everything folded that was published before the call."""
        await self._follower.catch_up()
        return (await self._load(aggregate))[0]

    async def states(self) -> dict[str, S]:
        """Return all aggregates of this kind by id, with everything folded that was published before."""
        await self._follower.catch_up()
        loaded = await self._store.load_all(self._contract.kind)
        return {key: msgspec.json.decode(raw, type=self._contract.state) for key, raw in loaded.items()}

    async def execute(self, aggregate: str, decide: Callable[[S], EventData]) -> EventData:
        """Decide, publish, and return once the event has taken effect.

        A crash after publishing leaves an event that will be folded on the next start; the caller does
        not know and may repeat the command, which the contract then refuses or finds done.

        Raises:
            Refusal: the contract says no.
            ProblemError: 409 `conflict`, another command was first; nothing was changed.
        """
        await self._follower.catch_up()
        state, version = await self._load(aggregate)
        data = decide(state)
        position = await self._publisher.publish(data, subject=aggregate, expected_version=version)
        outcome = await self._follower.outcome(position)
        if isinstance(outcome, Stale):
            raise ProblemError(409, "conflict", "another change of the same thing was first; read it again")
        return data

    async def _load(self, aggregate: str) -> tuple[S, int]:
        contract = self._contract
        raw, version = await self._store.load_for_command(contract.kind, aggregate, topic=contract.topic)
        if raw is None:
            return contract.state(), version
        return msgspec.json.decode(raw, type=contract.state), version
