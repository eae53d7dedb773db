"""The services as processes of their own: their settings, and waiting until they say that they are ready."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from salus.devkit.addresses import Addresses
from salus.devkit.errors import StartError
from salus.devkit.network import NetworkFolder, Plan
from salus.devkit.processes import Place, ProcessRecord, is_alive, spawn
from salus.devkit.run_record import RunningService
from salus.devkit.store_accounts import ACCESS
from salus.devkit.waiting import until

READY_S_MAX = 90.0
PROBE_S_MAX = 8.0
PROBE_PERIOD_S = 0.2
# Of our own environment only these go to the services; all else is told explicitly.
_PASSED_ON = ("SALUS_LOG_LEVEL", "SALUS_OTLP_ENDPOINT")


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of a service; a sequencer has one for each shard, a witness one for each member."""

    name: str
    service: str
    shard: int = 0
    witness: int = 0


def instances(shards: int, witnesses: int = 0) -> dict[str, Instance]:
    """Return every instance of a network, by name: `sequencer` is shard 0, `sequencer-1` shard 1.

    Witnesses are `witness-1` and so on.
    """
    single = [Instance(name, name) for name in ("identity", "consent", "storage", "anchoring", "audit")]
    sealing = [Instance(sequencer_name(n), "sequencer", n) for n in range(shards)]
    cosigning = [Instance(f"witness-{n}", "witness", witness=n) for n in range(1, witnesses + 1)]
    return {instance.name: instance for instance in (*single, *sealing, *cosigning)}


def sequencer_name(shard: int) -> str:
    """Return the name of the instance that seals a shard."""
    return f"sequencer-{shard}" if shard else "sequencer"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every service is told: the network, the parts, and where all services are."""

    network: NetworkFolder
    parts: Addresses
    urls: Mapping[str, str]
    extra: Mapping[str, str]
    own_accounts: bool = False

    def environment(self, instance: Instance, place: Place) -> dict[str, str]:
        """Return the environment of one instance."""
        note_key = {
            "sequencer": f"shard-{instance.shard}",
            "anchoring": "log",
            "witness": instance.name,
        }.get(instance.service)
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("SALUS_") or name in _PASSED_ON
        }
        told = {
            "SERVICE_NAME": instance.service,
            "KAFKA_BOOTSTRAP": self.parts.kafka_bootstrap,
            "NETWORK_FILE": str(self.network.file),
            "SIGNING_KEY_FILE": str(self.network.key_file(instance.service)),
            "DATABASE_URL": f"sqlite+aiosqlite:///{place.folder / 'state.db'}",
            "HTTP_PORT": self.urls[instance.name].rpartition(":")[2],
            "KMS_FILE": str(self.network.folder / "keys" / "kms"),
            "SHARD": str(instance.shard),
            **({"NOTE_KEY_FILE": str(self.network.key_file(note_key))} if note_key else {}),
            **{f"{name.replace('-', '_').upper()}_URL": url for name, url in self.urls.items()},
            **self._about_store(instance.service),
            **self._about_witnesses(instance, place),
        }
        return {
            **inherited,
            "PYTHONUNBUFFERED": "1",
            **{f"SALUS_{name}": value for name, value in told.items()},
            **self.extra,
        }

    def _about_store(self, service: str) -> dict[str, str]:
        """Return the store as the service's own account sees it; a store that was given has one for all."""
        if service not in ACCESS:
            return {}
        given = self.parts.s3
        s3 = self.network.store_secrets.s3(service, given) if self.own_accounts else given
        return {
            "S3_ENDPOINT": s3.endpoint,
            "S3_ACCESS_KEY": s3.access_key,
            "S3_SECRET_KEY": s3.secret_key,
            "S3_REGION": s3.region,
        }

    def _about_witnesses(self, instance: Instance, place: Place) -> dict[str, str]:
        asked = {name: url for name, url in self.urls.items() if name.startswith("witness-")}
        if instance.service not in {"anchoring", "witness"} or not asked:
            return {}
        plan = Plan(self.network.read()["origin"])
        if instance.service == "anchoring":
            numbered = {int(name.removeprefix("witness-")): url for name, url in asked.items()}
            return {"WITNESSES": json.dumps({plan.witness_name(n): url for n, url in numbered.items()})}
        return {
            "WITNESS_NAME": plan.witness_name(instance.witness),
            "LOGS_FILE": str(self.network.file),
            "STATE_FILE": str(place.folder / "witness.db"),
            "CREATE_STATE": "true",
        }


def start_service(instance: Instance, surroundings: Surroundings, place: Place) -> RunningService:
    """Start one instance; it is not ready yet when this returns."""
    command = [sys.executable, "-m", f"salus.{instance.service}"]
    process = spawn(instance.name, command, place, env=surroundings.environment(instance, place))
    return RunningService(url=surroundings.urls[instance.name], process=process)


async def readiness(url: str) -> tuple[bool, str]:
    """Ask /readyz; return whether the service is ready and, if not, why."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=PROBE_S_MAX) as client:
            answer = await client.get(f"{url}/readyz")
    except httpx.TransportError as error:
        return False, type(error).__name__
    return answer.is_success, "" if answer.is_success else answer.text[:500]


async def wait_until_ready(services: Mapping[str, RunningService]) -> None:
    """Return when every service is ready.

    Raises:
        StartError: one ended, or is not ready in time; it carries the end of its log.
    """
    await asyncio.gather(*(_wait_for(name, service) for name, service in services.items()))


async def _wait_for(name: str, service: RunningService) -> None:
    process: ProcessRecord = service.process
    why = ""

    async def ready_or_dead() -> bool:
        nonlocal why
        if not is_alive(process):
            return True
        ready, why = await readiness(service.url)
        return ready

    in_time = await until(ready_or_dead, deadline_s=READY_S_MAX, period_s=PROBE_PERIOD_S)
    if not is_alive(process):
        raise StartError(name, "ended while it was starting", log_tail=process.log_tail())
    if not in_time:
        raise StartError(name, f"is not ready after {READY_S_MAX:.0f} s ({why})", log_tail=process.log_tail())
