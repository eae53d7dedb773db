"""A contract: pure rules over one kind of aggregate, and the host that orders first and executes then.

A command is decided against the folded state, published as a signed event that names the version it
expects, and takes effect when it is folded in topic order. Of hosts that raced one is first; the others'
events have no effect, and they decide again by what is true then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Generic, TypeVar, assert_never
from weakref import WeakValueDictionary

import msgspec

from salus.contracts.facts import FactWriter, failed
from salus.contracts.ports import Fold, States
from salus.contracts.projection import Contract
from salus.events.effect import Applied, NoEffect, Refused, Unknown, WithoutEffect
from salus.events.event_types import EventData
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal

__all__ = ["Contract", "ContractHost", "NameTakenError", "Refusal"]

S = TypeVar("S", bound=msgspec.Struct)
# How often a command is decided again because another replica was first.
DECISIONS_MAX = 8


class NameTakenError(ProblemError):
    """What the event names, as a key or an object's id, is another's; nothing was changed."""

    def __init__(self) -> None:
        super().__init__(409, "name-taken", "a name in it, as a key or an id, was taken a moment before")


class ContractHost(Generic[S]):
    """Executes commands of one contract; callers may rely on read-your-writes."""

    def __init__(self, contract: Contract[S], *, follower: Fold, store: States, writer: FactWriter) -> None:
        self._contract = contract
        self._follower = follower
        self._store = store
        self._writer = writer
        # Commands on one aggregate take turns here, so that they race with those of other replicas only.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def state(self, aggregate: str) -> S:
        """Return the state of an aggregate, with everything folded that was published before the call."""
        return (await self._look(aggregate))[0]

    async def states(self, aggregates: Collection[str]) -> dict[str, S]:
        """Return these aggregates by id, with everything folded that was published before; not empty ones."""
        await self._follower.catch_up()
        loaded = await self._store.load_some(self._contract.kind, aggregates)
        return {key: self._contract.decode(raw) for key, raw in loaded.items()}

    def has_turns(self, aggregate: str) -> bool:
        """Tell whether a command on the aggregate is under way here, for which another one would wait."""
        return aggregate in self._turns

    async def execute(
        self,
        aggregate: str,
        decide: Callable[[S], EventData | Awaitable[EventData]],
        *,
        look: Callable[[], Awaitable[tuple[S, int]]] | None = None,
    ) -> EventData:
        """Decide, publish, and return the event once it has taken effect.

        If another command was first, `decide` is asked again with the state after that. What else it goes
        by, as who the asker is, it looks up itself, for it may have waited for its turn. Who reads more for
        it than the state gives `look`, which reads all of that after a barrier, and returns the state with
        the version that belongs to it. A crash after
        publishing leaves an event that will be folded on the next start; the caller does not know and may
        repeat the command, which the contract then refuses or finds done.

        Raises:
            Refusal: the contract says no.
            NameTakenError: another event has claimed a name that this one claims.
            ProblemError: 409 `conflict`, other commands were first DECISIONS_MAX times; 503 if the service
                cannot state the fact, or does not know what became of it.
        """
        turn = self._turns.setdefault(aggregate, asyncio.Lock())
        async with turn:
            without_right = 0
            for _ in range(DECISIONS_MAX):
                state, version = await (self._look(aggregate) if look is None else look())
                decided = decide(state)
                data = await decided if isinstance(decided, Awaitable) else decided
                outcome = await self._writer.write(data, subject=aggregate, expected_version=version)
                match outcome:
                    case Applied():
                        return data
                    case WithoutEffect(reason=NoEffect.STALE):
                        continue
                    case WithoutEffect(reason=NoEffect.NOT_ENTITLED) if not without_right:
                        # Decided again by what is true now, a right that is gone is a refusal.
                        without_right += 1
                    case WithoutEffect(reason=NoEffect.NAME_TAKEN):
                        raise NameTakenError
                    case WithoutEffect() | Refused() | Unknown():
                        raise failed(outcome)
                    case _:
                        assert_never(outcome)
        raise ProblemError(409, "conflict", "other changes of the same thing were first; read it again")

    async def _look(self, aggregate: str) -> tuple[S, int]:
        await self._follower.catch_up()
        return await self._load(aggregate)

    async def _load(self, aggregate: str) -> tuple[S, int]:
        contract = self._contract
        raw, version = await self._store.load_for_command(contract.kind, aggregate, topic=contract.topic)
        if raw is None:
            return contract.before(aggregate), version
        return contract.decode(raw), version
