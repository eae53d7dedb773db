"""Settles what aggregates oblige to: does work that is idempotent, and states its outcome as a command."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

import msgspec
import structlog
from prometheus_client import Counter, Gauge
from sqlalchemy.exc import SQLAlchemyError

from salus.contracts.contract import ContractHost
from salus.contracts.fold import FoldStore, Follower
from salus.contracts.obligations import Backlog, Obligations, Owed
from salus.contracts.reactors import Reactor
from salus.events.event_types import EventData
from salus.messaging import MessagingError
from salus.runtime.database import shown
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal
from salus.runtime.supervisor import failed, succeeded

S = TypeVar("S", bound=msgspec.Struct)
# How long stating an outcome may take, after the work: until then no other replica takes the obligation.
OUTCOME_S_MAX = 30.0
# Counting the open obligations reads all of them.
COUNT_EVERY_S = 5.0

OPEN = Gauge("salus_obligations_open", "What events oblige to and is not settled.", ["reactor"])
PARKED = Gauge("salus_obligations_parked", "Open obligations that failed again and again.", ["reactor"])
OLDEST = Gauge(
    "salus_obligations_oldest_timestamp_seconds", "Since when the oldest is open; 0: none is.", ["reactor"]
)
FAILED = Counter("salus_obligation_failures", "Attempts at an obligation that failed.", ["reactor"])
SETTLED = Counter("salus_obligations_settled", "Obligations that were settled here.", ["reactor"])

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Obligation(Generic[S]):
    """What an aggregate owes, and its state.

    `id` is the same in every attempt of every replica, for others who must know a repetition: an idempotency
    key. It does not tell whom it is about.
    """

    reactor: str
    aggregate: str
    key: str
    state: S

    @property
    def id(self) -> str:
        """Return 64 hexadecimal digits."""
        return _id_of(self.reactor, self.aggregate, self.key)


@dataclass(frozen=True, slots=True)
class Pace:
    """How obligations are tried: each at most `attempt_s_max`, `concurrency_max` at once in a replica.

    What fails waits twice as long each time, from `retry_s` to `retry_s_max`. From `attempts_max` on it is
    parked: tried on, and shown. Of what is worked on at once half, at least one, was tried before: what hangs
    each time keeps nothing new waiting.
    """

    attempt_s_max: float = 30.0
    concurrency_max: int = 4
    retry_s: float = 1.0
    retry_s_max: float = 60.0
    attempts_max: int = 5

    @property
    def again_max(self) -> int:
        """How many that were tried before are worked on at once."""
        return max(1, self.concurrency_max // 2)


PACE = Pace()


class _NothingOwedError(Exception):
    """The outcome was recorded already."""


class UnsettledError(Exception):
    """The outcome does not settle what is owed: a fault of the reactor's, and nothing was stated."""

    def __init__(self, reactor: str) -> None:
        super().__init__(f"the outcome that the reactor {reactor} states leaves owed what it is of")


class ReactorHost(Generic[S]):
    """Does the work of one reactor.

    Callers may rely on: nothing is done that the topics, as they are at that moment, do not oblige to, nor
    while the service's own key does not sign; the work is done at least once, and one outcome takes effect.
    `signs` raises unless the service's own key signs now; `outcome` is pure, and makes the event of a state
    and a key that the state owes.
    """

    def __init__(  # noqa: PLR0913  # what a reactor needs
        self,
        reactor: Reactor[S],
        *,
        host: ContractHost[S],
        follower: Follower,
        store: FoldStore,
        signs: Callable[[], Awaitable[object]],
        work: Callable[[Obligation[S]], Awaitable[None]],
        outcome: Callable[[S, str], EventData],
        pace: Pace = PACE,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._reactor = reactor
        self._host = host
        self._signs = signs
        self._work = work
        self._outcome = outcome
        self.pace = pace
        self._clock = clock
        self._chance = chance
        self._store = store
        self._rows = Obligations(store.engine, reactor.name, attempts_max=pace.attempts_max)
        self._woken = follower.obliged(reactor)
        # Attempts at one obligation take turns here, so that they race with those of other replicas only.
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        # What is worked on, and whether that was tried before.
        self._running: dict[asyncio.Task[None], bool] = {}
        self._counted_at = -COUNT_EVERY_S
        self._backlog = Backlog(0, 0, None)

    @property
    def name(self) -> str:
        """The reactor's name."""
        return self._reactor.name

    async def perform(self, aggregate: str) -> None:
        """Do now what an aggregate owes, whatever it was put off to, and return once its outcome is recorded.

        A crash leaves it open, and `run` settles it.

        Raises:
            Exception: whatever the work raises, or recording its outcome; `TimeoutError` if it took too long.
        """
        for key in self._reactor.owes(await self._host.state(aggregate)):
            await self._rows.seize(aggregate, key, until_ms=self._taken_until())
            await self._attempt(aggregate, key)

    async def run(self) -> None:
        """Settle what is owed until cancelled; a database or Kafka that is away is waited for."""
        has_begun = False
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    # Of a database that was emptied nothing is owed, until it is folded anew.
                    await self._store.ping()
                    if not has_begun:
                        await self._rows.restart(now_ms=self._now_ms())
                        has_begun = True
                    await self._begin_due(group)
                    wait_s = await self._until_next()
                    await self._count()
                    succeeded()
                except (SQLAlchemyError, MessagingError, OSError) as error:
                    failed(shown(error))
                    _log.warning("obligations wait", reactor=self.name, error=type(error).__name__)
                    wait_s = self.pace.retry_s
                await self._rest(wait_s)

    async def check(self) -> str | None:
        """Return what /readyz says of obligations that are open, or None; they make no service unready."""
        backlog = self._backlog
        if not backlog.parked:
            return None
        age_s = 0 if backlog.since_ms is None else self._clock() - backlog.since_ms / 1000
        return f"{backlog.parked} of {backlog.open} open obligations are parked, the oldest for {age_s:.0f} s"

    async def _begin_due(self, group: asyncio.TaskGroup) -> None:
        free = self.pace.concurrency_max - len(self._running)
        if free <= 0:
            return
        for owed in await self._rows.due(now_ms=self._now_ms(), limit=free, again_max=self._free_again):
            if await self._rows.take(owed, until_ms=self._taken_until()):
                task = group.create_task(self._try(owed), name=f"obligation-{self.name}")
                self._running[task] = owed.attempts > 0
                task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._woken.set()

    @property
    def _free_again(self) -> int:
        """How many more that were tried before may be worked on now."""
        return max(0, self.pace.again_max - sum(self._running.values()))

    async def _until_next(self) -> float:
        """Return how long nothing is due that could be begun, in seconds."""
        if len(self._running) >= self.pace.concurrency_max:
            return self.pace.retry_s_max
        due_ms = await self._rows.next_due_ms(with_tried=self._free_again > 0)
        # What is open is counted now and then.
        most_s = min(COUNT_EVERY_S, self.pace.retry_s_max) if self._backlog.open else self.pace.retry_s_max
        return most_s if due_ms is None else min(max(due_ms - self._now_ms(), 0) / 1000, most_s)

    async def _rest(self, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()

    async def _try(self, owed: Owed) -> None:
        """Attempt it, and leave it for later if that fails; what one of them raises ends no other."""
        try:
            await self._attempt(owed.aggregate, owed.key)
        except Exception as error:  # noqa: BLE001  # it stays owed, counted and named, whatever it is
            failed_, parked_at = owed.attempts + 1, self.pace.attempts_max
            tell = _log.error if failed_ == parked_at else _log.warning
            tell(
                "an obligation is parked" if failed_ >= parked_at else "an obligation waits",
                reactor=self.name,
                obligation=_id_of(self.name, owed.aggregate, owed.key),
                attempts=failed_,
                error=type(error).__name__,
                code=error.code if isinstance(error, ProblemError | Refusal) else None,
            )

    async def _attempt(self, aggregate: str, key: str) -> None:
        """Do the work and record its outcome, if it is owed now.

        A crash between two lines leaves it owed, and all of it is done again. What was recorded is folded
        before anything is done.
        """
        turn = self._turns.setdefault((aggregate, key), asyncio.Lock())
        async with turn:
            try:
                state = await self._host.state(aggregate)
                if key not in self._reactor.owes(state):
                    return
                if (due_ms := self._reactor.falls_due_ms(state, key)) > self._now_ms():
                    # Somebody else has time left to settle it; whoever calls too early changes nothing.
                    await self._rows.postpone(aggregate, key, until_ms=due_ms)
                    return
                await self._signs()
                async with asyncio.timeout(self.pace.attempt_s_max):
                    await self._work(Obligation(self.name, aggregate, key, state))
                await self._record(aggregate, key)
            except Exception:
                FAILED.labels(self.name).inc()
                await self._put_off(aggregate, key)
                raise

    async def _record(self, aggregate: str, key: str) -> None:
        def decide(state: S) -> EventData:
            if key not in self._reactor.owes(state):
                raise _NothingOwedError
            event = self._outcome(state, key)
            if key in self._reactor.owes(self._reactor.contract.evolve(state, event)):
                raise UnsettledError(self.name)
            return event

        try:
            async with asyncio.timeout(OUTCOME_S_MAX):
                await self._host.execute(aggregate, decide)
        except _NothingOwedError:
            # Another replica did the work as well, and was first.
            return
        SETTLED.labels(self.name).inc()

    async def _put_off(self, aggregate: str, key: str) -> None:
        try:
            attempts = await self._rows.attempts(aggregate, key) or 1
            pace = self.pace
            wait_s = min(pace.retry_s * 2 ** min(attempts - 1, 32), pace.retry_s_max)
            # Replicas, and what failed together, do not come back together.
            wait_s *= 0.5 + self._chance() / 2
            await self._rows.postpone(aggregate, key, until_ms=self._now_ms() + int(wait_s * 1000))
        except (SQLAlchemyError, OSError):
            # Then it waits until the time is over for which it was taken.
            return

    async def _count(self) -> None:
        now = time.monotonic()
        if now - self._counted_at < COUNT_EVERY_S:
            return
        self._counted_at = now
        self._backlog = backlog = await self._rows.backlog(now_ms=self._now_ms())
        OPEN.labels(self.name).set(backlog.open)
        PARKED.labels(self.name).set(backlog.parked)
        OLDEST.labels(self.name).set((backlog.since_ms or 0) / 1000)

    def _taken_until(self) -> int:
        return self._now_ms() + int((self.pace.attempt_s_max + OUTCOME_S_MAX) * 1000)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _id_of(reactor: str, aggregate: str, key: str) -> str:
    parts = (part.encode() for part in (reactor, aggregate, key))
    return sha256(b"".join(len(part).to_bytes(4, "big") + part for part in parts)).hexdigest()
