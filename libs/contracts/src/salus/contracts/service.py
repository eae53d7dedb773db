"""A contract service: one declared value, and the functions that open and serve it.

Its name, role and topics are those of its manifest, which lies in its package.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Generic, TypeVar

import structlog
import uvloop
from fastapi import FastAPI

from salus.contracts.contract import Contract
from salus.contracts.dependencies import Dependencies, SettingsT, open_dependencies
from salus.contracts.reactor_host import ReactorHost
from salus.contracts.reactors import Reactor
from salus.contracts.rules import Rules, adopt, code_digest
from salus.messaging import ping, require_topics
from salus.runtime.database import DATABASE_AWAY
from salus.runtime.errors import ManifestError
from salus.runtime.garbage import collect_rarely
from salus.runtime.identity_view import IDENTITY_TOPIC
from salus.runtime.manifests import Manifest, manifest_of
from salus.runtime.scheduling import switch_quickly
from salus.runtime.service import Check, create_app, serve, wait_for
from salus.runtime.supervisor import AGE_S_MAX
from salus.runtime.telemetry import set_up

# While a backlog is folded, some 150,000 objects wait that no cycle is among.
WAITING_OBJECTS = 200_000
WorldT = TypeVar("WorldT")
_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class BackgroundTask:
    """Work beside the requests, for as long as the service runs.

    It calls `succeeded` and `failed` of salus.runtime.supervisor. Its end, or no success for `age_s_max`
    seconds, makes the service not ready.
    """

    name: str
    run: Callable[[], Coroutine[Any, Any, None]]
    age_s_max: float = AGE_S_MAX


@dataclass(frozen=True, kw_only=True)
class ContractService(Generic[SettingsT, WorldT]):
    """What makes a contract service, besides its manifest.

    At a start they follow in this order: the service waits for Kafka, its topics and the parts in
    `needs`; `open` returns the world that its handlers use; it waits until all is folded that was there;
    the `rules` are stated unless they are in force; `adopt` states what else is to be true from here on;
    `tasks` begin, `install` adds the routes, and it serves.
    """

    package: str
    settings: type[SettingsT]
    folds: Sequence[Contract[Any]]
    # What their aggregates oblige to; `open` gives each its host (`Dependencies.reactor`), which then runs.
    reactors: Sequence[Reactor[Any]] = ()
    open: Callable[[Dependencies[SettingsT]], Awaitable[WorldT]]
    install: Callable[[FastAPI, Dependencies[SettingsT], WorldT], None]
    # Releases what `open` opened, once no request and no task is under way.
    close: Callable[[WorldT], Awaitable[None]] | None = None
    rules: Rules | None = None
    adopt: Callable[[Dependencies[SettingsT], WorldT], Awaitable[None]] | None = None
    tasks: Callable[[Dependencies[SettingsT], WorldT], Iterable[BackgroundTask]] | None = None
    # What /readyz looks at, besides Kafka, topics, database, fold and signing key.
    checks: Callable[[WorldT], Mapping[str, Check]] | None = None
    # Parts that have to answer before anything is opened.
    needs: Mapping[str, Callable[[SettingsT], Awaitable[object]]] = field(default_factory=dict)
    # Paths below which bodies are streams, and the routes limit them.
    streams: tuple[str, ...] = ()
    # Paths whose bodies anybody may send, for who sends one is told by it alone.
    open_bodies: tuple[str, ...] = ()
    # Whether commands may need a second party's approval.
    approvals: bool = False

    @property
    def all_folds(self) -> Sequence[Contract[Any]]:
        """What is folded, which rules are in force included."""
        return (*self.folds, *(() if self.rules is None else (self.rules.contract(),)))

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest in the package; raises ManifestError unless it goes with what is folded."""
        manifest = manifest_of(self.package)
        for topic in (IDENTITY_TOPIC, *(contract.topic for contract in self.all_folds)):
            if topic not in manifest.topics.reads:
                raise ManifestError(f"{self.package}: topics.reads lacks {topic}, which is folded")
        return manifest


@asynccontextmanager
async def open_app(
    service: ContractService[SettingsT, WorldT], settings: SettingsT
) -> AsyncIterator[FastAPI]:
    """Connect everything, adopt what is to be adopted, and yield the app; Kafka must be there."""
    manifest, kafka = service.manifest, settings.kafka
    async with AsyncExitStack() as stack:
        dependencies = await stack.enter_async_context(
            open_dependencies(
                manifest,
                settings,
                folds=service.all_folds,
                reactors=service.reactors,
                approvals=service.approvals,
            )
        )
        world = await service.open(dependencies)
        if service.close is not None:
            stack.push_async_callback(service.close, world)
        await dependencies.wait_for("fold", dependencies.follower.check_rebuilt)
        if service.rules is not None:
            await _adopt_rules(dependencies, service.package, service.rules)
        if service.adopt is not None:
            await service.adopt(dependencies, world)
        _require_hosts(service.reactors, dependencies.reactors)
        tasks = [reactor_task(host) for host in dependencies.reactors]
        tasks += service.tasks(dependencies, world) if service.tasks is not None else ()
        for task in tasks:
            await stack.enter_async_context(
                dependencies.supervisor.running(task.run(), name=task.name, age_s_max=task.age_s_max)
            )
        checks: dict[str, Check] = {
            "kafka": partial(ping, kafka),
            "topics": partial(require_topics, kafka, manifest.topics.reads),
            "database": dependencies.store.ping,
            "fold": dependencies.follower.check,
            "signing-key": dependencies.own_key.check,
            **{f"obligations {host.name}": host.check for host in dependencies.reactors},
            **(service.checks(world) if service.checks is not None else {}),
        }
        app = create_app(
            settings,
            title=f"Salus {manifest.name}",
            checks=checks,
            away=DATABASE_AWAY,
            streams=service.streams,
            supervisor=dependencies.supervisor,
            admit=dependencies.authenticate.admit,
            open_bodies=service.open_bodies,
        )
        service.install(app, dependencies, world)
        yield app


async def _adopt_rules(dependencies: Dependencies[Any], package: str, rules: Rules) -> None:
    service = dependencies.signer.did
    await dependencies.wait_for("signing-key", dependencies.own_key.check)
    adopted = partial(rules.adopted, package=package, service=service)
    if await adopt(dependencies.host(rules.contract()), adopted, service=service):
        _log.info("rules were adopted", contract=code_digest(package, rules.code))


def reactor_task(host: ReactorHost[Any]) -> BackgroundTask:
    """Return the settling of what aggregates oblige to."""
    return BackgroundTask(name=host.name, run=host.run, age_s_max=host.pace.retry_s_max + AGE_S_MAX)


def _require_hosts(reactors: Iterable[Reactor[Any]], hosts: Iterable[ReactorHost[Any]]) -> None:
    """Raise ValueError unless each reactor has one host: what it owes would never be settled, or be twice."""
    declared, hosted = sorted(r.name for r in reactors), sorted(host.name for host in hosts)
    if declared != hosted:
        raise ValueError(f"reactors {declared} are declared, and {hosted} have a host")


async def serve_contract(service: ContractService[SettingsT, WorldT], settings: SettingsT) -> None:
    """Serve until told to stop."""
    kafka = settings.kafka
    set_up(settings)
    await wait_for(settings, "kafka", partial(ping, kafka))
    await wait_for(settings, "topics", partial(require_topics, kafka, service.manifest.topics.reads))
    for name, look in service.needs.items():
        await wait_for(settings, name, partial(_look, look, settings))
    collect_rarely(new_objects=WAITING_OBJECTS)
    switch_quickly()
    async with open_app(service, settings) as app:
        await serve(app, settings)


async def _look(look: Callable[[SettingsT], Awaitable[object]], settings: SettingsT) -> None:
    await look(settings)


def run(service: ContractService[SettingsT, WorldT]) -> None:
    """Read the settings and serve: what `python -m` of a contract service does."""
    # The interpreter's own loop takes a fifth more processor time for a command.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_contract(service, service.settings()))
