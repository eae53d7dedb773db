"""Work beside the requests that stops makes the service say so (issue 12 item 12; cases O2, L2, S4, K3)."""

from __future__ import annotations

import asyncio
import inspect
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY

from salus.devkit.network import NetworkFolder, Plan
from salus.devkit.waiting import until
from salus.runtime.live_keys import WatchedNetwork
from salus.runtime.service import create_app
from salus.runtime.settings import ServiceSettings
from salus.runtime.supervisor import (
    LastingError,
    Pulse,
    Supervisor,
    TaskStoppedError,
    failed,
    resting,
    succeeded,
)

SETTINGS = ServiceSettings(
    service_name="runtime",
    kafka_bootstrap="127.0.0.1:1",
    network_file=Path("network.json"),
    signing_key_file=Path("key.pem"),
    http_port=0,
)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    signals: list[int] = []
    monkeypatch.setattr("salus.runtime.supervisor.os.kill", lambda _, number: signals.append(number))
    return signals


async def readiness(supervisor: Supervisor) -> tuple[int, dict[str, str]]:
    app = create_app(SETTINGS, title="test", checks={}, supervisor=supervisor)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.get("/readyz")
    return answer.status_code, answer.json()["checks"]


def sample(name: str, task: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"task": task})


async def test_a_task_that_waits_for_too_long_makes_the_service_unready_and_says_for_what() -> None:
    async def work() -> None:
        failed(ConnectionError("no store"))
        await asyncio.Event().wait()

    supervisor = Supervisor()
    async with supervisor.running(work(), name="waits", age_s_max=0.0):
        await asyncio.sleep(0)
        status, checks = await readiness(supervisor)

    assert status == 503
    assert "no success since 20" in checks["task waits"]
    assert "ConnectionError: no store" in checks["task waits"]
    assert sample("salus_task_failures_total", "waits") == 1


async def test_a_task_that_cannot_go_on_makes_the_service_unready_at_once_and_until_it_succeeds() -> None:
    supervisor = Supervisor()
    with supervisor.watching("full", age_s_max=3600):
        failed(ConnectionError("away"))
        away, _ = await readiness(supervisor)
        failed(LastingError("its disk is full"))
        full, checks = await readiness(supervisor)
        failed(ConnectionError("away"))
        passing, _ = await readiness(supervisor)
        failed(LastingError("its disk is full"))
        succeeded()
        mended, _ = await readiness(supervisor)

    assert (away, full, passing, mended) == (200, 503, 200, 200)
    assert "its disk is full" in checks["task full"]


async def test_a_task_that_works_is_ready_and_counted() -> None:
    async def work() -> None:
        succeeded()
        await asyncio.Event().wait()

    supervisor = Supervisor()
    async with supervisor.running(work(), name="works"):
        await asyncio.sleep(0)
        answer = await readiness(supervisor)

    assert answer == (200, {"task works": "ok"})
    assert (sample("salus_task_last_success_timestamp_seconds", "works") or 0) > 1.7e9
    assert sample("salus_task_age_seconds_max", "works") == 60


async def returns() -> None:
    pass


async def crashes() -> None:
    raise KeyError("name")


async def is_cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("work", [returns, crashes, is_cancelled])
async def test_a_task_that_ends_stops_the_service_and_is_named(
    work: Callable[[], Coroutine[Any, Any, None]], killed: list[int]
) -> None:
    supervisor = Supervisor()
    with pytest.raises(SystemExit) as exited:  # noqa: PT012  # what is looked at is there only inside
        async with supervisor.running(work(), name=f"ends {work.__name__}") as task:
            await asyncio.wait([task])
            status, checks = await readiness(supervisor)

    # Case LOW 11 of red team B: it was 0, as if somebody had stopped it.
    assert exited.value.code == 1
    assert status == 503
    assert checks[f"task ends {work.__name__}"].startswith("TaskStoppedError: it ended")
    assert killed == [signal.SIGTERM]


async def test_leaving_stops_nothing_and_nobody_asks_for_the_task_any_more(killed: list[int]) -> None:
    supervisor = Supervisor()
    async with supervisor.running(asyncio.Event().wait(), name="left"):  # type: ignore[arg-type]  # never ends
        await asyncio.sleep(0)

    assert (await readiness(supervisor), killed) == ((200, {}), [])


async def test_who_leaves_before_the_task_began_leaves_no_work_that_waits_for_ever() -> None:
    work = returns()
    async with Supervisor().running(work, name="indexing"):
        pass

    assert inspect.getcoroutinestate(work) == inspect.CORO_CLOSED


async def test_who_rests_does_not_age_and_who_fails_after_it_does() -> None:
    clock = Clock()
    pulse = Pulse("rests", age_s_max=10, clock=clock)
    with pulse.rest():
        clock.now = 1000
        assert pulse.age_s == 0
    await pulse.check()

    pulse.fail("the broker")
    with pulse.rest():
        clock.now = 2000
    clock.now = 2011
    with pytest.raises(TaskStoppedError, match="the broker"):
        await pulse.check()

    pulse.succeed()
    await pulse.check()


async def test_failing_again_and_again_does_not_look_like_work() -> None:
    clock = Clock()
    pulse = Pulse("tries", age_s_max=10, clock=clock)
    for clock.now in range(0, 20, 2):
        with pulse.rest():
            pass
        pulse.fail("no")

    with pytest.raises(TaskStoppedError):
        await pulse.check()


async def test_a_thread_and_the_tasks_that_a_task_makes_speak_for_it() -> None:
    async def inner() -> None:
        failed("from a thread")

    async def work() -> None:
        await asyncio.to_thread(lambda: asyncio.run(inner()))
        await asyncio.create_task(inner())
        await asyncio.Event().wait()

    supervisor = Supervisor()
    async with supervisor.running(work(), name="thread"):
        assert await until(lambda: sample("salus_task_failures_total", "thread") == 2, deadline_s=60)


async def test_outside_a_task_nothing_is_told() -> None:
    succeeded()
    failed("x")
    with resting():
        pass


async def test_a_watched_task_is_shown_and_its_owner_hears_its_end(killed: list[int]) -> None:
    supervisor = Supervisor()
    with supervisor.watching("watched", age_s_max=0.0):
        failed("the log")
        status, checks = await readiness(supervisor)

    assert status == 503
    assert "the log" in checks["task watched"]
    assert killed == []
    assert supervisor.pulses == {}


async def test_a_network_file_that_cannot_be_read_is_what_the_task_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("salus.runtime.live_keys.LOOK_EVERY_S", 0.001)
    folder = NetworkFolder(tmp_path)
    folder.create(Plan())
    watched = WatchedNetwork(folder.file)
    folder.file.write_text("{")
    supervisor = Supervisor()
    async with supervisor.running(watched.follow(), name="keys", age_s_max=0.0):

        async def told() -> bool:
            return "the network file" in (await readiness(supervisor))[1]["task keys"]

        assert await until(told, deadline_s=60)
