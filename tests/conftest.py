"""Fixtures that every kind of test may ask for; nothing starts until one does."""

from __future__ import annotations

import asyncio
import gc
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from hypothesis import settings
from tests.commands import end_servers
from tests.effort import EXAMPLES, SAME_EXAMPLES
from xdist.scheduler import LoadScopeScheduling

from salus.crypto.scratch_folders import scratch_folder
from salus.devkit.addresses import Addresses
from salus.devkit.narration import PlainNarrator
from salus.devkit.network import Plan
from salus.devkit.parts import find_parts
from salus.devkit.platform import Platform
from salus.devkit.processes import Place

# Its promises and laws are tests, and say what did not hold.
pytest.register_assert_rewrite("salus.contracts.testing")

# Beside the integration tests, those that start servers or build tools: of a group one runs after another.
GROUPED = frozenset({"deploy", "generators", "journey"})
# Of the integration tests, those that start whole platforms, each with servers of its own.
WITH_PLATFORMS = frozenset({"cli", "devkit", "examples", "keys"})

# On loaded cores a deadline for one example is a coin toss; pytest's own timeout holds.
settings.register_profile("salus", deadline=None, max_examples=EXAMPLES, derandomize=SAME_EXAMPLES)
settings.load_profile("salus")


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Shares the tests of `make test` among processes: unit tests run beside those that wait for servers."""

    def _split_scope(self, nodeid: str) -> str:
        """Return the group of a test that starts something; any other one is a group of its own.

        Integration tests are a group a folder: as one they would keep one process busy long after the other.
        """
        folder, below = (*Path(nodeid.partition("::")[0]).parts, "", "")[1:3]
        if folder == "integration":
            return "platforms" if below in WITH_PLATFORMS else f"integration/{below}"
        return folder if folder in GROUPED else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    """Group by folder: the marks that xdist would go by do not reach it with this pytest."""
    return GroupScheduling(config, log)


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name bytes that are no text by their argument: the processes have to name all tests alike."""
    is_text = not isinstance(val, bytes) or (val.isascii() and val.decode().isprintable())
    return None if is_text else argname


def pytest_collection_finish() -> None:
    """Look for garbage only among what tests make: what was imported and collected is most, and it stays.

    After every integration test all garbage is collected; that took half a second of each.
    """
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let the interpreter end as it always does: DuckDB complains on stderr of what was not collected."""
    gc.unfreeze()


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """A folder for the servers of this test run, away from pytest's own, whose paths can be too long."""
    keep = os.environ.get("SALUS_KEEP_TEST_DATA") == "1"
    with scratch_folder("salus-test-", keep=keep) as folder:
        yield folder


@pytest.fixture(scope="session", autouse=True)
def no_command_server_left() -> Iterator[None]:
    """What forks `salus` commands is started by the first of them, and ends with the run."""
    yield
    end_servers()


@pytest.fixture(scope="session")
async def parts(session_folder: Path) -> AsyncIterator[Addresses]:
    """Real Kafka and real MinIO for the whole run: `.kafka_bootstrap` and `.s3`.

    They are shared, so a test uses topics and buckets with names of its own.
    """
    folder = session_folder / "parts"
    provider = await find_parts(Place(folder, folder / "logs", detached=False), PlainNarrator())
    try:
        yield await provider.start(None)
    finally:
        await provider.stop()


class PlatformFactory(Protocol):
    """Makes whole platforms: each has its own Kafka, MinIO, network and services, and is stopped after."""

    async def __call__(
        self, *, plan: Plan | None = None, environment: Mapping[str, str] | None = None, start: bool = True
    ) -> Platform:
        """Return a platform; with `start=False` nothing of it runs yet."""


@pytest.fixture
async def platform_factory(session_folder: Path) -> AsyncIterator[PlatformFactory]:
    """For journeys that break things: kill, restart, corrupt."""
    made: list[Platform] = []

    async def make(
        *, plan: Plan | None = None, environment: Mapping[str, str] | None = None, start: bool = True
    ) -> Platform:
        folder = Path(tempfile.mkdtemp(dir=session_folder, prefix="platform-"))
        platform = Platform(folder, narrator=PlainNarrator(), plan=plan, environment=environment)
        made.append(platform)
        if start:
            await platform.start()
        return platform

    yield make
    for platform in made:
        await platform.stop()


@pytest.fixture(scope="session")
async def platform(session_folder: Path) -> AsyncIterator[Platform]:
    """One whole platform for all journeys that leave it as they found it: they only add to it."""
    async with Platform(session_folder / "platform", narrator=PlainNarrator()) as running:
        await running.start()
        yield running


@pytest.fixture
async def complaints() -> AsyncIterator[list[dict[str, object]]]:
    """What the event loop complains of during a test, such as an error that nobody asked for.

    Of some it complains only once they are collected (`gc`). The loop is that of the whole run: what earlier
    tests left behind is complained of before, and not to this test.
    """
    gc.collect()
    found: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, complaint: found.append(complaint))
    yield found
    loop.set_exception_handler(before)
