"""The services as processes of their own: their settings, and waiting until they say that they are ready."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

import httpx

from salus.crypto.private_files import make_private_folder
from salus.devkit.addresses import Addresses
from salus.devkit.errors import StartError
from salus.devkit.network import NetworkFolder, Plan
from salus.devkit.processes import Place, ProcessRecord, is_alive, spawn
from salus.devkit.run_record import RunningService
from salus.devkit.waiting import until
from salus.events.contexts import CATALOGUE
from salus.runtime.halt import halt_in
from salus.runtime.manifests import Manifest, services

PROBE_S_MAX = 8.0
PROBE_PERIOD_S = 0.2
ANSWER_CHARS_MAX = 4000
# Of our own environment only these go to the services; all else is told explicitly.
_PASSED_ON = ("SALUS_LOG_LEVEL", "SALUS_OTLP_ENDPOINT")


@dataclass(frozen=True, slots=True)
class Instance:
    """One process of a service; a sequencer has one for each shard, a witness one for each member."""

    name: str
    manifest: Manifest
    shard: int = 0
    witness: int = 0

    @property
    def service(self) -> str:
        """The name of its service."""
        return self.manifest.name


def instances(shards: int, witnesses: int = 0) -> dict[str, Instance]:
    """Return every instance of a network, by name: `sequencer` is shard 0, `sequencer-1` shard 1.

    Witnesses are `witness-1` and so on.
    """
    made = [one for manifest in services() for one in _instances_of(manifest, shards, witnesses)]
    return {instance.name: instance for instance in made}


def _instances_of(manifest: Manifest, shards: int, witnesses: int) -> list[Instance]:
    name = manifest.name
    match manifest.instances:
        case "single":
            return [Instance(name, manifest)]
        case "shard":
            return [Instance(_name_in_shard(name, n), manifest, shard=n) for n in range(shards)]
        case "member":
            return [Instance(f"{name}-{n}", manifest, witness=n) for n in range(1, witnesses + 1)]
        case _:
            assert_never(manifest.instances)


def _name_in_shard(service: str, shard: int) -> str:
    return f"{service}-{shard}" if shard else service


def sequencer_name(shard: int) -> str:
    """Return the name of the instance that seals a shard."""
    return _name_in_shard("sequencer", shard)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every service is told: the network, the parts, and where all services are."""

    network: NetworkFolder
    parts: Addresses
    urls: Mapping[str, str]
    extra: Mapping[str, str]
    own_accounts: bool = False

    def environment(self, instance: Instance, place: Place) -> dict[str, str]:
        """Return the environment of one instance: what its manifest says, and nothing else of ours."""
        manifest = instance.manifest
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("SALUS_") or name in _PASSED_ON
        }
        told = {
            "SERVICE_NAME": manifest.name,
            "HTTP_PORT": self.urls[instance.name].rpartition(":")[2],
            **(self._about_network(manifest) if manifest.is_party else {}),
            **(
                {"DATABASE_URL": f"sqlite+aiosqlite:///{place.folder / 'state.db'}"}
                if manifest.database
                else {}
            ),
            **(self._about_store(manifest) if manifest.buckets else {}),
            **manifest.values(self._places(instance, place)),
        }
        return {
            **inherited,
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(scratch_of(place)),
            **{f"SALUS_{name}": value for name, value in told.items()},
            **self.extra,
        }

    def _about_network(self, manifest: Manifest) -> dict[str, str]:
        return {
            **self._about_kafka(manifest),
            "NETWORK_FILE": str(self.network.file),
            "SIGNING_KEY_FILE": str(self.network.key_file(manifest.name)),
        }

    def _about_kafka(self, manifest: Manifest) -> dict[str, str]:
        """Return Kafka as the service's own account sees it; one that was given has one for all."""
        kafka = self.parts.kafka_as(manifest.name)
        told = {"KAFKA_BOOTSTRAP": self.parts.kafka_bootstrap}
        if isinstance(kafka, str):
            return told if self.own_accounts else told | _account_in_environment()
        account = kafka.account
        return told | {
            "KAFKA_PROTOCOL": account.protocol.value,
            "KAFKA_CA_FILE": str(account.ca_file),
            "KAFKA_CERTIFICATE_FILE": str(account.certificate_file),
            "KAFKA_KEY_FILE": str(account.key_file),
        }

    def _about_store(self, manifest: Manifest) -> dict[str, str]:
        """Return the store as the service's own account sees it; a store that was given has one for all."""
        given = self.parts.s3
        s3 = self.network.store_secrets.s3(manifest.name, given) if self.own_accounts else given
        return {
            "S3_ENDPOINT": s3.endpoint,
            "S3_ACCESS_KEY": s3.access_key,
            "S3_SECRET_KEY": s3.secret_key,
            "S3_REGION": s3.region,
        }

    def _places(self, instance: Instance, place: Place) -> dict[str, str]:
        """Return what the places in a manifest's settings are here."""
        return {
            "data": str(place.folder),
            "keys": str(self.network.folder / "keys"),
            "network": str(self.network.file),
            "shard": str(instance.shard),
            # Keys and states are in one folder, and go together.
            "creates_state": "true",
            **{f"{name}_url": url for name, url in self.urls.items()},
            **self._witnesses(instance),
        }

    def _witnesses(self, instance: Instance) -> dict[str, str]:
        prefix = "witness-"
        asked = {
            int(name.removeprefix(prefix)): url for name, url in self.urls.items() if name.startswith(prefix)
        }
        if not asked:
            return {"witnesses": "{}"}
        plan = Plan(self.network.read()["origin"])
        return {
            "witness": str(instance.witness),
            "witness_name": plan.witness_name(instance.witness),
            "witnesses": json.dumps({plan.witness_name(n): url for n, url in asked.items()}),
        }


def _account_in_environment() -> dict[str, str]:
    from salus.runtime.kafka_settings import KafkaSettings  # noqa: PLC0415  # brings pydantic-settings

    names = (name.upper() for name in KafkaSettings.model_fields if name != "kafka_bootstrap")
    return {name: os.environ[f"SALUS_{name}"] for name in names if os.environ.get(f"SALUS_{name}")}


def start_service(instance: Instance, surroundings: Surroundings, place: Place) -> RunningService:
    """Start one instance; it is not ready yet when this returns."""
    command = [sys.executable, "-m", f"salus.{instance.service}"]
    _empty(scratch_of(place))
    process = spawn(instance.name, command, place, env=surroundings.environment(instance, place))
    probes = instance.manifest.probes
    url = surroundings.urls[instance.name]
    return RunningService(url, process, probes.ready, probes.start_s_max, catalogue_digest())


def scratch_of(place: Place) -> Path:
    """Return where a service keeps temporary files, so that a killed one leaves none elsewhere."""
    return place.folder / "tmp"


def _empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    make_private_folder(folder)


def catalogue_digest() -> str:
    """Return the digest of the event types that are installed: a service that starts now knows these."""
    return CATALOGUE.digest.hex()


async def readiness(service: RunningService) -> tuple[bool, str]:
    """Ask a service; return whether it is ready and, if not, why."""
    try:
        async with httpx.AsyncClient(trust_env=False, timeout=PROBE_S_MAX) as client:
            answer = await client.get(f"{service.url}{service.ready_path}")
    except httpx.TransportError as error:
        return False, type(error).__name__
    return answer.is_success, "" if answer.is_success else answer.text[:ANSWER_CHARS_MAX]


async def wait_until_ready(services: Mapping[str, RunningService], *, with_halted: bool = False) -> None:
    """Return when every service is ready; `with_halted`, or stands still until somebody acts.

    Raises:
        StartError: one ended, stands still, or is not ready in time; it carries the end of its log.
    """
    waits = (_wait_for(name, service, with_halted=with_halted) for name, service in services.items())
    await asyncio.gather(*waits)


async def _wait_for(name: str, service: RunningService, *, with_halted: bool) -> None:
    process: ProcessRecord = service.process
    why = ""

    async def settled() -> bool:
        nonlocal why
        if not is_alive(process):
            return True
        ready, why = await readiness(service)
        return ready or halt_in(why) is not None

    in_time = await until(settled, deadline_s=service.start_s_max, period_s=PROBE_PERIOD_S)
    if not is_alive(process):
        raise StartError(name, "ended while it was starting", log_tail=process.log_tail())
    if not in_time:
        raise StartError(
            name, f"is not ready after {service.start_s_max} s ({why})", log_tail=process.log_tail()
        )
    halt = halt_in(why)
    if halt is not None and not with_halted:
        raise StartError(name, f"stands still until somebody acts: {halt}", log_tail=process.log_tail())
