"""How many commands a contract service executes a second, and how fast it folds its topic anew.

One replica of consent, with SQLite and with PostgreSQL; 64 clients grant consents, each waiting for its
answer. Then it is started on an empty database, and folds all that is on the topic. GETs are of identity's
parties, each with its read barrier, at a fixed rate: a request's time counts from when it was due.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from salus.cli.bench.contract_limits import insert_alone, produce_alone
from salus.cli.bench.contract_load import (
    DAYS,
    GRANTS_OF_A_PATIENT,
    HOSPITAL,
    grant_line,
    register_patients,
    token_for,
)
from salus.cli.bench.http_client import KeptConnection
from salus.cli.bench.outcome import Goal, Outcome, machine, percentile
from salus.cli.bench.plots import Panel
from salus.cli.bench.stage import open_stage, preload_with
from salus.cli.bench.watching import Watch, look_at
from salus.cli.exits import CommandError, Exit
from salus.devkit.free_ports import HOST, free_ports
from salus.devkit.narration import Narrator
from salus.devkit.platform import Platform
from salus.devkit.postgres_server import missing_postgres, running_postgres
from salus.devkit.processes import Place, is_alive, stop
from salus.devkit.run_record import RunningService
from salus.devkit.services import Surroundings, instances, readiness, start_service, wait_until_ready
from salus.devkit.waiting import until

GOALS = (
    Goal("commands_per_s_sqlite", least=1000),
    Goal("commands_per_s_postgresql", least=1000),
    Goal("folds_per_s", least=20_000),
    Goal("get_p99_ms", most=15),
)
NO_LIMIT = {
    f"SALUS_{what}_{name}_MAX": "1000000000"
    for what in ("COMMANDS", "REQUESTS", "REQUEST_BYTES")
    for name in ("BURST", "PER_MINUTE")
}
REBUILD_S_MAX = 3600.0
LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is done: grants of each database, facts to fold anew, clients at once, GETs."""

    commands: int
    events: int
    clients: int
    gets_per_s: int
    seconds: float


@dataclass(slots=True)
class Measured:
    """What came out so far."""

    figures: dict[str, Any] = field(default_factory=dict)
    took: dict[str, list[float]] = field(default_factory=dict)
    watches: dict[str, Watch] = field(default_factory=dict)


async def contracts(narrator: Narrator, sizes: Sizes) -> Outcome:
    """Measure all of it on one stage."""
    facts, measured = machine(), Measured()
    async with AsyncExitStack() as stack:
        postgres = None
        if not missing_postgres():
            postgres = await stack.enter_async_context(running_postgres(synced=True))
        platform = await stack.enter_async_context(open_stage(narrator))
        await platform.start_services(["identity"])
        databases = {"sqlite": f"sqlite+aiosqlite:///{platform.state.folder}/commands.db"}
        anew = {"sqlite": platform.state.folder / "anew.db"}
        urls = {"sqlite": f"sqlite+aiosqlite:///{anew['sqlite']}"}
        if postgres is not None:
            databases["postgresql"] = await postgres.create("commands")
            urls["postgresql"] = await postgres.create("anew")
        await _get(platform, narrator, sizes, measured)
        for number, (kind, url) in enumerate(databases.items()):
            grants = range(number * sizes.commands, (number + 1) * sizes.commands)
            await _command(platform, narrator, grants, kind, url, sizes, measured)
        first = -(-len(databases) * sizes.commands // GRANTS_OF_A_PATIENT) * GRANTS_OF_A_PATIENT
        module, key = "salus.cli.bench.contract_load", str(platform.network.key_file("consent"))
        narrator.step(f"publishing {sizes.events:,} facts to fold")
        await preload_with(platform, narrator, module, [key], first=first, end=first + sizes.events)
        for kind, url in urls.items():
            await _rebuild(platform, narrator, kind, url, measured)
        narrator.step("measuring Kafka and SQL alone")
        measured.figures["kafka_alone_per_s"] = await produce_alone(platform.kafka_bootstrap, sizes.events)
        measured.figures["sql_alone_per_s"] = insert_alone(anew["sqlite"])
    return _outcome(measured, sizes, facts)


@asynccontextmanager
async def _consent(
    platform: Platform, name: str, database: str, measured: Measured
) -> AsyncIterator[RunningService]:
    """Start a replica of consent on a database; it may not be ready for long."""
    [port] = free_ports(1)
    urls, extra = {name: f"http://{HOST}:{port}"}, {"SALUS_DATABASE_URL": database, **NO_LIMIT}
    surroundings = Surroundings(platform.network, platform.addresses, urls, extra)
    place = Place(platform.state.folder / name, platform.state.logs, detached=False)
    replica = start_service(replace(instances(1)["consent"], name=name), surroundings, place)
    watching = asyncio.create_task(_watch({"consent": replica.process.pid}, measured.watches))
    try:
        yield replica
    finally:
        watching.cancel()
        await stop(replica.process)


async def _watch(pids: Mapping[str, int], watches: dict[str, Watch]) -> None:
    while True:
        look_at(pids, watches)
        await asyncio.sleep(LOOK_EVERY_S)


async def _command(  # what is asked of whom
    platform: Platform,
    narrator: Narrator,
    grants: range,
    kind: str,
    database: str,
    sizes: Sizes,
    measured: Measured,
) -> None:
    """Let clients grant consents, each the four of one patient after the other."""
    narrator.step(f"{len(grants):,} commands of {sizes.clients} clients with {kind}")
    await register_patients(platform.kafka_bootstrap, platform.network.signer("storage"), grants)
    async with _consent(platform, f"consent-{kind}", database, measured) as replica:
        await wait_until_ready({replica.process.name: replica})
        until_ = datetime.now(UTC).replace(microsecond=0) + timedelta(days=DAYS)
        line = [grant_line(number, until_) for number in grants]
        first = KeptConnection(replica.url)
        waiting = [
            [
                first.request("POST", one.target, body=one.body or b"", token=token_for(one, "consent"))
                for one in line[place : place + GRANTS_OF_A_PATIENT]
            ]
            for place in range(0, len(line), GRANTS_OF_A_PATIENT)
        ]
        took: list[float] = []
        async with AsyncExitStack() as stack:
            connections = [
                await stack.enter_async_context(KeptConnection(replica.url)) for _ in range(sizes.clients)
            ]
            cpu, began = _cpu_s(replica), time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for connection in connections:
                    group.create_task(_grant_on(connection, waiting, took, narrator))
            seconds, cpu = time.perf_counter() - began, _cpu_s(replica) - cpu
    took.sort()
    measured.took[kind] = took
    measured.figures |= {
        f"commands_per_s_{kind}": round(len(took) / seconds),
        f"commands_p50_ms_{kind}": round(1000 * percentile(took, 0.50), 1),
        f"commands_p99_ms_{kind}": round(1000 * percentile(took, 0.99), 1),
        f"cpu_us_per_command_{kind}": round(1e6 * cpu / len(took)),
    }


async def _grant_on(
    connection: KeptConnection, waiting: list[list[bytes]], took: list[float], narrator: Narrator
) -> None:
    while waiting:
        for request in waiting.pop():
            began = time.perf_counter()
            status, answer = await connection.send(request)
            if status != 201:
                raise CommandError(Exit.NO, f"a grant is answered with {status}: {answer[:300].decode()}")
            took.append(time.perf_counter() - began)
            if len(took) % 100 == 0:
                narrator.update(f"{len(took):,} answers")


async def _get(platform: Platform, narrator: Narrator, sizes: Sizes, measured: Measured) -> None:
    """Ask for a party at a fixed rate; whoever is late counts as late."""
    narrator.step(f"{sizes.gets_per_s} GETs a second for {sizes.seconds:g} s")
    url, count = platform.service_url("identity"), round(sizes.gets_per_s * sizes.seconds)
    took: list[float] = []
    async with AsyncExitStack() as stack:
        idle: asyncio.Queue[KeptConnection] = asyncio.Queue()
        for _ in range(sizes.clients):
            idle.put_nowait(await stack.enter_async_context(KeptConnection(url)))
        identity = platform.services["identity"]
        cpu = _cpu_s(identity)
        async with asyncio.TaskGroup() as group:
            began = time.perf_counter()
            for number in range(count):
                due = began + number / sizes.gets_per_s
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(_get_on(idle, due, took))
        cpu = _cpu_s(identity) - cpu
    took.sort()
    measured.took["get"] = took
    measured.figures |= {
        "get_p50_ms": round(1000 * percentile(took, 0.50), 1),
        "get_p99_ms": round(1000 * percentile(took, 0.99), 1),
        "cpu_us_per_get": round(1e6 * cpu / len(took)),
    }


async def _get_on(idle: asyncio.Queue[KeptConnection], due: float, took: list[float]) -> None:
    connection = await idle.get()
    status, answer = await connection.get(f"/parties/{HOSPITAL.did}")
    idle.put_nowait(connection)
    if status != 200:
        raise CommandError(Exit.NO, f"a GET is answered with {status}: {answer[:300].decode()}")
    took.append(time.perf_counter() - due)


async def _rebuild(
    platform: Platform, narrator: Narrator, kind: str, database: str, measured: Measured
) -> None:
    """Start consent on an empty database, and wait until it has folded what is there."""
    narrator.step(f"folding anew with {kind}")
    async with _consent(platform, f"anew-{kind}", database, measured) as replica:

        async def ready() -> bool:
            is_ready, why = await readiness(replica)
            narrator.update(why)
            return is_ready or not is_alive(replica.process)

        if not await until(ready, deadline_s=REBUILD_S_MAX, period_s=LOOK_EVERY_S) or not is_alive(
            replica.process
        ):
            raise CommandError(Exit.NO, f"it is not ready: {replica.process.log_tail()[-800:]}")
        cpu = _cpu_s(replica)
    began, records = _logged(replica, "folding what is there", lambda line: int(line["records"]))
    ended, _ = _logged(replica, "all that was there is folded", lambda _: 0)
    name = "folds_per_s" if kind == "sqlite" else f"folds_per_s_{kind}"
    measured.figures |= {
        name: round(records / (ended - began)),
        f"{name.replace('folds_per_s', 'fold_cpu_us')}": round(1e6 * cpu / records, 1),
        "folded": records,
    }


def _logged(service: RunningService, event: str, fact: Callable[[dict[str, Any]], int]) -> tuple[float, int]:
    """Return when a service logged an event first (Unix seconds), and a fact of that line."""
    for text in Path(service.process.log).read_text().split("\n"):
        if f'"{event}"' in text:
            line = msgspec.json.decode(text)
            return datetime.fromisoformat(line["timestamp"]).timestamp(), fact(line)
    raise CommandError(Exit.NO, f"{service.process.name} never logged: {event}")


def _cpu_s(service: RunningService) -> float:
    watches: dict[str, Watch] = {}
    look_at({"it": service.process.pid}, watches)
    return watches["it"].looks[0].cpu_s


def _outcome(measured: Measured, sizes: Sizes, facts: Mapping[str, Any]) -> Outcome:
    figures = measured.figures
    for kind in ("sqlite", "postgresql"):
        if (rate := figures.get(f"commands_per_s_{kind}")) is not None:
            figures[f"commands_of_kafka_alone_{kind}"] = round(rate / figures["kafka_alone_per_s"], 4)
    figures["folds_of_sql_alone"] = round(figures["folds_per_s"] / figures["sql_alone_per_s"], 3)
    figures["rss_mb_max"] = round(max(watch.rss_max() for watch in measured.watches.values()), 1)
    figures |= {
        "commands": sizes.commands,
        "events": sizes.events,
        "clients": sizes.clients,
        "gets_per_s": sizes.gets_per_s,
    }
    curves = {
        name: [(1000 * percentile(took, share / 200), share / 2) for share in range(1, 200)]
        for name, took in measured.took.items()
    }
    panels = [Panel("ms", "share of answers that take no longer, %", curves)]
    return Outcome("contracts", facts, figures, GOALS, panels)
