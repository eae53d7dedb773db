"""How many decisions consent makes a second of a core: single, in batches, in process, beside revocations.

One replica of consent with SQLite, and consents and policies loaded. A rate a core is decisions by the
processor time of consent's process, for Kafka and the clients use the same cores. How long an answer takes is
measured with few clients, so that none waits for the others.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from salus.cli.bench.contract_load import (
    GRANTS_OF_A_PATIENT,
    grant_line,
    register_patients,
    token_for,
)
from salus.cli.bench.contracts import NO_LIMIT, REBUILD_S_MAX
from salus.cli.bench.decision_load import BATCH_QUESTIONS, batch_body, policies_of, question, request_for
from salus.cli.bench.decisions_alone import in_process
from salus.cli.bench.http_client import KeptConnection
from salus.cli.bench.outcome import Goal, Outcome, machine, percentile
from salus.cli.bench.stage import open_stage, preload_with
from salus.cli.bench.watching import Watch, look_at
from salus.cli.exits import CommandError, Exit
from salus.devkit.free_ports import HOST, free_ports
from salus.devkit.narration import Narrator
from salus.devkit.platform import Platform
from salus.devkit.processes import Place, spawn, stop
from salus.devkit.services import Surroundings, instances, readiness, start_service
from salus.devkit.waiting import until

GOALS = (
    Goal("batch_per_s_a_core", least=3000),
    Goal("single_per_s_a_core", least=1000),
    Goal("p99_ms", most=15),
    Goal("in_process_ratio", least=0.7),
    Goal("revocation_p99_ms", most=100),
)
# How long answers take is asked by so few at once, so often.
FEW, TIMED = 2, 2_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is loaded and asked; `revocations` happen while `rate` decisions a second are asked for."""

    consents: int
    policies: int
    decisions: int
    clients: int
    rate: int
    revocations: int


async def decisions(narrator: Narrator, sizes: Sizes) -> Outcome:
    """Measure all of it on one stage."""
    facts = machine()
    narrator.step("deciding in process, and by Cedar alone")
    figures = in_process(sizes.policies)
    async with AsyncExitStack() as stack:
        platform = await stack.enter_async_context(open_stage(narrator))
        await platform.start_services(["identity"])
        grants = range(sizes.consents + sizes.revocations * GRANTS_OF_A_PATIENT)
        narrator.step(f"loading {sizes.consents:,} consents")
        await register_patients(platform.kafka_bootstrap, platform.network.signer("storage"), grants)
        module, key = "salus.cli.bench.contract_load", str(platform.network.key_file("consent"))
        share = sizes.consents // (2 * GRANTS_OF_A_PATIENT) * 2 * GRANTS_OF_A_PATIENT
        await preload_with(platform, narrator, module, [key], first=0, end=share)
        url, pid = await _consent(platform, narrator, sizes, stack)
        nothing, nothing_pid = await _nothing(platform, stack)
        number = itertools.count()

        def one(connection: KeptConnection) -> bytes:
            return request_for(connection, "/decisions", question(next(number) * 7 % share))

        def many(connection: KeptConnection) -> bytes:
            return request_for(connection, "/decisions/batch", batch_body(next(number) * 7, grants=share))

        body = msgspec.json.encode(question(0))
        asked = _Asked("single", url, pid, one, 1), _Asked("batch", url, pid, many, BATCH_QUESTIONS)
        idle = _Asked("nothing", nothing, nothing_pid, lambda c: c.request("POST", "/nothing", body=body), 1)
        for each in (*asked, idle):
            narrator.step(f"{each.name}: {sizes.decisions:,} answers")
            figures |= await each.rate(sizes.decisions, clients=sizes.clients)
        for each in asked:
            figures |= await each.latency(min(sizes.decisions, TIMED), clients=FEW)
        narrator.step(f"{sizes.revocations} revocations beside {sizes.rate:,} decisions a second")
        figures |= await _revocations(url, sizes, share)
    figures["p99_ms"] = max(figures["single_p99_ms"], figures["batch_p99_ms"])
    figures["single_of_fastapi"] = round(figures["single_per_s_a_core"] / figures["nothing_per_s_a_core"], 3)
    figures["batch_of_cedar"] = round(figures["batch_per_s_a_core"] / figures["cedar_per_s"], 3)
    figures |= {name: getattr(sizes, name) for name in ("consents", "policies", "decisions", "clients")}
    return Outcome("decisions", facts, figures, GOALS, [])


async def _consent(
    platform: Platform, narrator: Narrator, sizes: Sizes, stack: AsyncExitStack
) -> tuple[str, int]:
    """Start consent with the policies, and wait until it has folded what is there."""
    folder = platform.state.folder / "policies"
    folder.mkdir()
    for name, text in policies_of(sizes.policies).items():
        (folder / name).write_bytes(text)
    [port] = free_ports(1)
    url = f"http://{HOST}:{port}"
    extra = {
        **NO_LIMIT,
        "SALUS_POLICIES_FOLDER": str(folder),
        "SALUS_REVOCATIONS_BURST_MAX": "1000000",
        "SALUS_DENIALS_BURST_MAX": "1000000",
    }
    surroundings = Surroundings(platform.network, platform.addresses, {"deciding": url}, extra)
    place = Place(platform.state.folder / "deciding", platform.state.logs, detached=False)
    replica = start_service(replace(instances(1)["consent"], name="deciding"), surroundings, place)
    stack.push_async_callback(stop, replica.process)

    async def ready() -> bool:
        is_ready, why = await readiness(replica)
        narrator.update(why)
        return is_ready

    if not await until(ready, deadline_s=REBUILD_S_MAX, period_s=1.0):
        raise CommandError(Exit.NO, f"consent is not ready: {replica.process.log_tail()[-800:]}")
    return replica.url, replica.process.pid


async def _nothing(platform: Platform, stack: AsyncExitStack) -> tuple[str, int]:
    [port] = free_ports(1)
    place = Place(platform.state.folder / "nothing", platform.state.logs, detached=False)
    command = [sys.executable, "-m", "salus.cli.bench.decision_load", str(port)]
    process = spawn("nothing", command, place, env={})
    stack.push_async_callback(stop, process)

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            return False
        writer.close()
        return True

    if not await until(listens, deadline_s=60):
        raise CommandError(Exit.NO, "FastAPI's route that does nothing did not start")
    return f"http://{HOST}:{port}", process.pid


@dataclass(frozen=True, slots=True)
class _Asked:
    """Requests of one kind to one process, each with so many questions."""

    name: str
    url: str
    pid: int
    make: Callable[[KeptConnection], bytes]
    questions: int

    async def rate(self, decisions: int, *, clients: int) -> dict[str, int]:
        """Return decisions a second of a core, and of the clock, with so many who ask all the time."""
        took, seconds, cpu = await self._ask(decisions, clients=clients)
        made = len(took) * self.questions
        return {
            f"{self.name}_per_s_a_core": round(made / cpu),
            f"{self.name}_per_s": round(made / seconds),
        }

    async def latency(self, decisions: int, *, clients: int) -> dict[str, float]:
        """Return how long requests take, with so many who ask all the time."""
        took, _, _ = await self._ask(decisions, clients=clients)
        return {
            f"{self.name}_p50_ms": round(1000 * percentile(took, 0.50), 1),
            f"{self.name}_p99_ms": round(1000 * percentile(took, 0.99), 1),
        }

    async def _ask(self, decisions: int, *, clients: int) -> tuple[list[float], float, float]:
        took: list[float] = []
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(KeptConnection(self.url)) for _ in range(clients)]
            number = max(1, decisions // self.questions)
            waiting = iter([self.make(connections[0]) for _ in range(number)])
            cpu, began = _cpu_s(self.pid), time.perf_counter()
            async with asyncio.TaskGroup() as group:
                for connection in connections:
                    group.create_task(_ask_all(connection, waiting, took))
            seconds, cpu = time.perf_counter() - began, _cpu_s(self.pid) - cpu
        return sorted(took), seconds, cpu


async def _ask_all(connection: KeptConnection, waiting: Iterator[bytes], took: list[float]) -> None:
    for request in waiting:
        began = time.perf_counter()
        status, answer = await connection.send(request)
        if status != 200 or b'"allowed":false' in answer:
            raise CommandError(Exit.NO, f"a question is answered with {status}: {answer[:300].decode()}")
        took.append(time.perf_counter() - began)


async def _revocations(url: str, sizes: Sizes, share: int) -> dict[str, Any]:
    """Take consents back while decisions are asked for at a rate; time from the answer to the refusal."""
    took: list[float] = []
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(KeptConnection(url))
        granted = [
            await _granted(connection, share + n * GRANTS_OF_A_PATIENT) for n in range(sizes.revocations)
        ]
        idle: asyncio.Queue[KeptConnection] = asyncio.Queue()
        for _ in range(sizes.clients):
            idle.put_nowait(await stack.enter_async_context(KeptConnection(url)))
        ended = asyncio.Event()
        load = asyncio.create_task(_load(idle, ended, sizes, share))
        for grant, consent in granted:
            status, answer = await connection.send(
                request_for(connection, f"/consents/{consent}/revoke", None)
            )
            if status != 200:
                raise CommandError(
                    Exit.NO, f"a revocation is answered with {status}: {answer[:300].decode()}"
                )
            began = time.perf_counter()
            status, answer = await connection.send(request_for(connection, "/decisions", question(grant)))
            took.append(time.perf_counter() - began)
            if status != 200 or b'"allowed":false' not in answer:
                why = f"after a revocation a question is answered with {status}: {answer[:300].decode()}"
                raise CommandError(Exit.NO, why)
        ended.set()
        asked = await load
    took.sort()
    return {
        "revocation_p50_ms": round(1000 * percentile(took, 0.50), 1),
        "revocation_p99_ms": round(1000 * percentile(took, 0.99), 1),
        "beside_revocations_per_s": round(asked),
    }


async def _granted(connection: KeptConnection, grant: int) -> tuple[int, str]:
    line = grant_line(grant, datetime.now(UTC).replace(microsecond=0) + timedelta(days=1))
    request = connection.request("POST", line.target, body=line.body or b"", token=token_for(line, "consent"))
    status, answer = await connection.send(request)
    if status != 201:
        raise CommandError(Exit.NO, f"a grant is answered with {status}: {answer[:300].decode()}")
    return grant, msgspec.json.decode(answer)["consent"]


async def _load(idle: asyncio.Queue[KeptConnection], ended: asyncio.Event, sizes: Sizes, share: int) -> float:
    """Offer batches at the rate until told to end; return how many decisions a second were answered."""
    answered, began = 0, time.perf_counter()

    async def one(connection: KeptConnection, first: int) -> None:
        nonlocal answered
        body = batch_body(first, grants=share)
        status, _ = await connection.send(request_for(connection, "/decisions/batch", body))
        answered += BATCH_QUESTIONS if status == 200 else 0
        idle.put_nowait(connection)

    async with asyncio.TaskGroup() as group:
        for number in itertools.count():
            due = began + number * BATCH_QUESTIONS / sizes.rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if ended.is_set():
                break
            group.create_task(one(await idle.get(), number * 7))
    return answered / (time.perf_counter() - began)


def _cpu_s(pid: int) -> float:
    watches: dict[str, Watch] = {}
    look_at({"it": pid}, watches)
    return watches["it"].looks[0].cpu_s
