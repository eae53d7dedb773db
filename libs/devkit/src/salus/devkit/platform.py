"""A whole Salus on one machine: Kafka, MinIO, a network of its own and every service.

    async with Platform(folder) as platform:
        await platform.start()
        ...

Everything lives under one state folder. A platform that is not `detached` ends with the program that
started it, however that program ends.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from salus.devkit.addresses import S3, Addresses, Parts, port_of
from salus.devkit.errors import AlreadyRunningError, DevkitError, NotRunningError, StartError
from salus.devkit.free_ports import HOST, free_ports
from salus.devkit.minio_server import is_ready
from salus.devkit.narration import Narrator, SilentNarrator
from salus.devkit.network import NetworkFolder, Plan, create_buckets, create_topics
from salus.devkit.parts import administration, adopt_parts, find_parts
from salus.devkit.processes import Place, ProcessRecord, is_alive, send, stop
from salus.devkit.run_record import Run, RunningService, StateFolder
from salus.devkit.services import (
    Surroundings,
    catalogue_digest,
    instances,
    readiness,
    sequencer_name,
    start_service,
    wait_until_ready,
)
from salus.devkit.store_accounts import bucket_names
from salus.messaging import Bootstrap, MessagingError, ping
from salus.runtime.kafka_principals import FILE_NAME as PRINCIPALS

if TYPE_CHECKING:
    from salus.objects import S3Objects

START_ATTEMPTS_MAX = 3


class Platform:
    """One platform and its state folder.

    `environment` is given to every service on top of its settings, to try other limits for example.
    `kafka_accounts`: Kafka has an authorizer, and each service an account with what it needs, from then on.
    """

    def __init__(  # noqa: PLR0913  # each of them has its default
        self,
        folder: Path,
        *,
        detached: bool = False,
        narrator: Narrator | None = None,
        plan: Plan | None = None,
        environment: Mapping[str, str] | None = None,
        kafka_accounts: bool = False,
    ) -> None:
        self.state = StateFolder(folder.resolve())
        self.network = NetworkFolder(self.state.folder)
        self._detached = detached
        self._narrator = narrator or SilentNarrator()
        self._plan = plan or Plan()
        self._environment = dict(environment or {})
        self._kafka_accounts = kafka_accounts
        self._parts: Parts | None = None
        self._addresses: Addresses | None = None
        self._services: dict[str, RunningService] = {}

    async def __aenter__(self) -> Self:
        """Return the platform; nothing is started yet."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop what runs, unless it is detached and all went well."""
        if error is not None or not self._detached:
            await self.stop()

    @classmethod
    def attach(cls, folder: Path, *, narrator: Narrator | None = None) -> Platform:
        """Return the platform that runs from a state folder.

        Raises:
            NotRunningError: none does.
        """
        platform = cls(folder, narrator=narrator)
        run = platform.state.run()
        if run is None:
            raise NotRunningError(f"no platform runs from {platform.state.folder}: start one with `salus up`")
        platform._take_up(run)
        return platform

    # --- where things are ---------------------------------------------------------------------------

    @property
    def addresses(self) -> Addresses:
        """Where the parts are; raises NotRunningError if they have not been started."""
        if self._addresses is None:
            raise NotRunningError("Kafka and MinIO have not been started")
        return self._addresses

    @property
    def kafka_bootstrap(self) -> Bootstrap:
        """Kafka as whoever runs it speaks to it; raises as `administration`."""
        return administration(self.kind, self.addresses)

    @property
    def s3(self) -> S3:
        """The object store's address and keys."""
        return self.addresses.s3

    def bucket(self, name: str) -> S3Objects:
        """Open a bucket as whoever runs the store can: past every service."""
        from salus.objects import open_store  # noqa: PLC0415  # as in `start_parts`

        s3 = self.s3
        return open_store(
            endpoint=s3.endpoint,
            access_key=s3.access_key,
            secret_key=s3.secret_key,
            region=s3.region,
            bucket=name,
        )

    @property
    def kind(self) -> str:
        """How the parts are provided: given, engine or local."""
        return "none" if self._parts is None else self._parts.kind

    @property
    def services(self) -> Mapping[str, RunningService]:
        """The services that were started, by name."""
        return self._services

    def service_url(self, name: str) -> str:
        """Return the base URL of a service.

        Raises:
            NotRunningError: it has not been started.
        """
        try:
            return self._services[name].url
        except KeyError:
            raise NotRunningError(f"{name} has not been started") from None

    async def parts_answer(self) -> bool:
        """Say whether Kafka and MinIO answer."""
        try:
            await ping(self.kafka_bootstrap)
        except MessagingError:
            return False
        return await is_ready(self.s3.endpoint)

    async def ready(self) -> dict[str, tuple[bool, str]]:
        """Ask every service whether it is ready, and why not."""
        answers = await asyncio.gather(*(readiness(service) for service in self._services.values()))
        return dict(zip(self._services, answers, strict=True))

    def narrate(self, narrator: Narrator) -> None:
        """Tell this narrator from now on; a part that exists already keeps its own."""
        self._narrator = narrator

    # --- starting and stopping ----------------------------------------------------------------------

    async def start(self, *, with_halted: bool = False) -> None:
        """Start the parts, make the network, and start every service; raises as those do."""
        await self.start_parts()
        await self.start_services(with_halted=with_halted)

    async def start_parts(self) -> None:
        """Start Kafka and MinIO, and make the network's keys, topics and buckets.

        Raises:
            MissingToolError: this machine cannot provide them; the message says what is missing.
            AlreadyRunningError: a platform runs from this folder.
            OtherVersionError: the folder was made by another version.
        """
        run = self.state.run()
        if run is not None and any(map(is_alive, _processes(run))):
            raise AlreadyRunningError(f"a platform runs from {self.state.folder} already")
        self.state.require_version()
        place = Place(self.state.data, self.state.logs, detached=self._detached)
        before = self.state.remembered().parts
        accounts = self._kafka_accounts or bool(before and before.kafka_accounts)
        self._parts = await find_parts(place, self._narrator, kafka_accounts=accounts)
        self._addresses = await self._parts.start(before)
        self._record()
        self._narrator.step("making the network: keys, topics, buckets")
        network = self.network.create(self._plan)
        self._plan = replace(self._plan, shards=len(network["shards"]))
        await self.make_resources()

    async def make_resources(self) -> None:
        """Make topics, buckets and accounts of every service that is installed, unless they exist."""
        await create_topics(self.kafka_bootstrap, self._plan)
        if self.addresses.kafka_accounts is not None:
            # The plan of rights takes the rules of who may state what, a fifth of a command's start.
            from salus.devkit.kafka_rights import allow_services  # noqa: PLC0415  # as above

            await allow_services(self.kafka_bootstrap, self.network.folder / PRINCIPALS)
        from salus.objects import Accounts, Admin  # noqa: PLC0415  # most of a second, that only a start is to pay

        s3 = self.s3
        root = (s3.endpoint, s3.access_key, s3.secret_key, s3.region)
        await create_buckets(Admin(*root))
        if self._own_accounts:
            self.network.store_secrets.create()
            await self.network.store_secrets.install(Accounts(*root), bucket_names())

    async def start_services(self, names: Iterable[str] | None = None, *, with_halted: bool = False) -> None:
        """Start services and return when all of them are ready; one that was killed keeps its address.

        `with_halted`, one that stands still until somebody acts keeps no other from starting.

        Without names all but the sequencers that were removed, and services that are to join the network and
        never ran here. Those that run with other event types than are installed now are started anew.

        Raises:
            StartError: one did not become ready; the message carries the end of its log.
            OtherVersionError: as `start_parts`.
        """
        self.state.require_version()
        known = instances(self._plan.shards, self._plan.witnesses)
        if names is None:
            absent = {sequencer_name(shard) for shard in self.state.removed_shards()}
            absent |= {manifest.name for manifest in self.network.new_services()}.difference(self._services)
            await self._stop_services(self._outdated())
            names = [name for name in known if name not in absent]
        wanted = list(names)
        if lacking := [name for name in wanted if not self._runs(name)]:
            self._narrator.step(f"starting {', '.join(lacking)}")
        for attempt in range(1, START_ATTEMPTS_MAX + 1):
            surroundings = Surroundings(
                self.network,
                self.addresses,
                self._choose_urls(list(known)),
                self._environment,
                own_accounts=self._own_accounts,
            )
            started = {
                name: start_service(known[name], surroundings, self._place(name))
                for name in wanted
                if not self._runs(name)
            }
            self._services.update(started)
            self._record()
            try:
                await wait_until_ready(started, with_halted=with_halted)
            except StartError as error:
                # Between our look and a service's bind another program may have taken the port.
                if attempt == START_ATTEMPTS_MAX or "address already in use" not in str(error):
                    raise
                await self._stop_services(started)
            else:
                return

    async def add_shards(self, shards: Collection[int]) -> None:
        """Give each of these shards a key, a place in network.json and a sequencer that awaits partitions.

        One whose sequencer was removed has it again.

        Raises:
            StartError: as `start_services`.
        """
        for shard in shards:
            self.network.add_shard(shard)
        self._look_again()
        self._plan = replace(self._plan, shards=len(self.network.read()["shards"]))
        self.state.remove_shards(self.state.removed_shards().difference(shards))
        await self.start_services([sequencer_name(shard) for shard in shards])

    async def remove_sequencers(self, shards: Collection[int]) -> None:
        """Stop the sequencers of these shards, and start them no more until `add_shards` names them.

        Keys, chains and places in network.json stay: what they sealed is still verified.
        """
        self._look_again()
        self.state.remove_shards(self.state.removed_shards().union(shards))
        names = {sequencer_name(shard) for shard in shards}
        await self._stop_services({name: it for name, it in self._services.items() if name in names})
        self._record()

    async def stop(self) -> None:
        """Stop the services, then the parts; the data stays."""
        if self._services or self._parts is not None:
            self._narrator.step("stopping")
        await self._stop_services(self._services)
        if self._parts is not None:
            await self._parts.stop()
            self._parts = None
        self.state.write_run(None)

    async def stop_service(self, name: str) -> None:
        """Stop one service as an operator would, with SIGTERM; `start_services([name])` brings it back."""
        await stop(self._services[name].process)

    async def restart_kafka(self) -> None:
        """Stop the broker and start it again at the same address."""
        if self._parts is None:
            raise NotRunningError("Kafka has not been started")
        await self._parts.restart_kafka()
        self._record()

    def kill(self, name: str, signum: int = signal.SIGKILL) -> None:
        """Send a signal to a service, or to the local process `kafka` or `minio`.

        Raises:
            DevkitError: there is no such process.
        """
        running = {record.name: record for record in self._all_processes()}
        if name not in running:
            raise DevkitError(f"no process is called {name}; there are {', '.join(sorted(running))}")
        send(running[name], signum)

    @property
    def _own_accounts(self) -> bool:
        """Whether the store is ours, a MinIO, so that each service has an account of its own in it."""
        return self.kind != "given"

    # --- inside ---------------------------------------------------------------------------------------

    def _take_up(self, run: Run) -> None:
        place = Place(self.state.data, self.state.logs, detached=run.detached)
        self._detached = run.detached
        self._addresses = run.parts
        self._parts = adopt_parts(run.kind, run.parts, run.processes, place, self._narrator)
        self._services = dict(run.services)
        if self.network.file.exists():
            network = self.network.read()
            self._plan = Plan(shards=len(network["shards"]), witnesses=self.network.witnesses)
        else:
            self._plan = Plan()

    def _runs(self, name: str) -> bool:
        return name in self._services and is_alive(self._services[name].process)

    def _outdated(self) -> dict[str, RunningService]:
        """Return the services that were started when other packages with event types were installed."""
        present = catalogue_digest()
        return {name: it for name, it in self._services.items() if it.catalogue != present}

    def _look_again(self) -> None:
        """Take up the services that other commands have started or removed since this one looked."""
        run = self.state.run()
        if run is not None:
            self._services = dict(run.services)

    def _place(self, name: str) -> Place:
        return Place(self.state.data / name, self.state.logs, detached=self._detached)

    def _choose_urls(self, names: list[str]) -> dict[str, str]:
        """Return a URL for each instance: that of a running one, else where it was, else a new one."""
        remembered = self.state.remembered().service_ports
        chosen = {name: self._services[name].url for name in names if self._runs(name)}
        for name in names:
            if name not in chosen:
                wanted = [remembered[name]] if name in remembered else []
                taken = {port for url in chosen.values() for port in port_of(url)}
                [port] = free_ports(1, preferred=[p for p in wanted if p not in taken])
                chosen[name] = f"http://{HOST}:{port}"
        ports = {name: port for name, url in chosen.items() for port in port_of(url)}
        self.state.remember(self.addresses, ports)
        return chosen

    async def _stop_services(self, services: Mapping[str, RunningService]) -> None:
        await asyncio.gather(*(stop(service.process) for service in services.values()))
        self._services = {name: it for name, it in self._services.items() if name not in services}

    def _all_processes(self) -> list[ProcessRecord]:
        parts = [] if self._parts is None else self._parts.processes()
        return [*parts, *(service.process for service in self._services.values())]

    def _record(self) -> None:
        if self._parts is None:
            return
        ports = {name: port for name, it in self._services.items() for port in port_of(it.url)}
        self.state.remember(self.addresses, ports)
        self.state.write_run(
            Run(
                kind=self._parts.kind,
                parts=self.addresses,
                detached=self._detached,
                processes=tuple(self._parts.processes()),
                services=self._services,
            )
        )


def _processes(run: Run) -> list[ProcessRecord]:
    return [*run.processes, *(service.process for service in run.services.values())]
