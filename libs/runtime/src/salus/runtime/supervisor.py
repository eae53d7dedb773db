"""Work that goes on beside the requests: whoever runs the service hears when a task of it stops.

A task is a coroutine that never ends by itself. It tells how it fares with `succeeded`, `failed` and
`resting`; these find the task that they are called in, so that libraries need not hand anything down.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import structlog
from prometheus_client import Counter, Gauge

# Whoever runs the service must not take its end for the one that was asked for.
EXIT_CODE = 1
# Twice as long as a part may be restarted for without anybody being called.
AGE_S_MAX = 60.0

LAST_SUCCESS = Gauge(
    "salus_task_last_success_timestamp_seconds", "When a background task last did its work.", ["task"]
)
AGE = Gauge("salus_task_age_seconds", "For how long a background task has work and did not do it.", ["task"])
AGE_MAX = Gauge("salus_task_age_seconds_max", "From this age on the service is not ready.", ["task"])
FAILURES = Counter("salus_task_failures", "Rounds of a background task that failed.", ["task"])

_log = structlog.get_logger()


class TaskStoppedError(Exception):
    """A background task does not do its work; the sentence is shown in /readyz."""


class LastingError(Exception):
    """It goes on until somebody acts: a task that failed by it makes its service unready at once.

    Its sentence is shown in /readyz.
    """


class Pulse:
    """How one task fares: when it last succeeded, and what it has been waiting for since when."""

    def __init__(self, name: str, *, age_s_max: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.age_s_max = age_s_max
        self._clock = clock
        self._succeeded_at = clock()
        self._resting = False
        self._trouble: str | None = None
        self._lasts = False
        self._since = _now()
        self.ended = False
        AGE.labels(name).set_function(lambda: self.age_s)
        AGE_MAX.labels(name).set(age_s_max)
        FAILURES.labels(name)

    @property
    def age_s(self) -> float:
        """For how long the task has had work and not done it."""
        return 0.0 if self._resting else self._clock() - self._succeeded_at

    def succeed(self) -> None:
        """Note that a round of the work is done."""
        self._succeeded_at, self._since, self._trouble = self._clock(), _now(), None
        self._lasts = False
        LAST_SUCCESS.labels(self.name).set(self._since.timestamp())

    def fail(self, why: str, *, lasts: bool = False) -> None:
        """Note that a round failed, or waits for something, and whether that lasts until somebody acts."""
        self._trouble, self._lasts = why, lasts
        FAILURES.labels(self.name).inc()

    def end(self, why: str) -> None:
        """Note that the task ended, which it never should."""
        self.fail(why)
        self.ended = True

    @contextmanager
    def rest(self) -> Iterator[None]:
        """Wait for something to do: that time does not count as age."""
        began, self._resting = self._clock(), True
        try:
            yield
        finally:
            self._resting = False
            self._succeeded_at += self._clock() - began

    async def check(self) -> None:
        """Raise TaskStoppedError if the task ended, cannot go on, or has not succeeded for too long."""
        since = self._since.isoformat(timespec="seconds")
        if self.ended:
            raise TaskStoppedError(f"it ended, its last success was at {since}: {self._trouble}")
        if self._lasts:
            raise TaskStoppedError(f"it cannot go on, its last success was at {since}: {self._trouble}")
        if self.age_s > self.age_s_max:
            raise TaskStoppedError(f"no success since {since}, it waits for: {self._trouble or 'an answer'}")


_current: ContextVar[Pulse | None] = ContextVar("pulse", default=None)


def succeeded() -> None:
    """Note that the task which this is called in has done a round of its work."""
    if (pulse := _current.get()) is not None:
        pulse.succeed()


def failed(why: Exception | str) -> None:
    """Note why the task which this is called in could not do a round of its work; it goes on trying."""
    if (pulse := _current.get()) is not None:
        sentence = f"{type(why).__name__}: {why}" if isinstance(why, Exception) else why
        pulse.fail(sentence, lasts=isinstance(why, LastingError))


@contextmanager
def resting() -> Iterator[None]:
    """Wait for something to do, in the task which this is called in: meanwhile it does not age."""
    pulse = _current.get()
    if pulse is None:
        yield
        return
    with pulse.rest():
        yield


class Supervisor:
    """The background tasks of a service, by name; `pulses` is what /readyz shows."""

    def __init__(self) -> None:
        self.pulses: dict[str, Pulse] = {}

    @asynccontextmanager
    async def running(
        self, work: Coroutine[Any, Any, None], *, name: str, age_s_max: float = AGE_S_MAX
    ) -> AsyncIterator[asyncio.Task[None]]:
        """Run `work` until the context is left.

        A failure that the work does not handle itself, or its end, stops the service as SIGTERM does: half
        a service that looks alive would be worse than none, and whoever runs it starts it again. Until it
        has stopped, /readyz names the task.

        Raises:
            SystemExit: with EXIT_CODE, when the context is left because of that.
        """
        pulse = self.pulses[name] = Pulse(name, age_s_max=age_s_max)
        leaving = False

        def ended(done: asyncio.Task[None]) -> None:
            if not leaving:
                _stop(done, pulse)

        task = asyncio.create_task(_with(pulse, work), name=name)
        task.add_done_callback(ended)
        try:
            yield task
        finally:
            leaving = True
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            # Who leaves before the task had its first turn leaves work that nobody began.
            work.close()
            del self.pulses[name]
        if pulse.ended:
            raise SystemExit(EXIT_CODE)

    @contextmanager
    def watching(self, name: str, *, age_s_max: float = AGE_S_MAX) -> Iterator[Pulse]:
        """Watch the task that this is called in until the context is left; its owner handles its end."""
        pulse = self.pulses[name] = Pulse(name, age_s_max=age_s_max)
        token = _current.set(pulse)
        try:
            yield pulse
        finally:
            _current.reset(token)
            del self.pulses[name]


async def _with(pulse: Pulse, work: Coroutine[Any, Any, None]) -> None:
    _current.set(pulse)
    await work


def _stop(task: asyncio.Task[None], pulse: Pulse) -> None:
    error = None if task.cancelled() else task.exception()
    pulse.end("it was cancelled, or returned" if error is None else type(error).__name__)
    _log.critical("a background task ended, stopping", task=task.get_name(), exc_info=error)
    os.kill(os.getpid(), signal.SIGTERM)


def _now() -> datetime:
    return datetime.now(UTC)
