"""The parts that Salus stands on, Kafka and an S3 store, however this machine can provide them.

In this order: endpoints given by the environment, a container engine, local processes.
`SALUS_PARTS=given|engine|local` insists on one of them. Some of the endpoints and not all are a mistake.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import get_args

from salus.devkit.addresses import REGION, S3, Addresses, Kind, Parts, port_of
from salus.devkit.engine import EngineParts
from salus.devkit.errors import DevkitError, MissingToolError, SettingError
from salus.devkit.kafka_accounts import ADMINISTRATOR, KafkaAccounts
from salus.devkit.kafka_server import KafkaServer, kafka_classpath, kafka_needs, loaded_classes
from salus.devkit.minio_server import MinioServer, minio_binary, minio_needs
from salus.devkit.narration import Narrator
from salus.devkit.processes import Place, ProcessRecord
from salus.devkit.tools import engine_answers
from salus.messaging import Bootstrap

GIVEN = ("SALUS_KAFKA_BOOTSTRAP", "SALUS_S3_ENDPOINT", "SALUS_S3_ACCESS_KEY", "SALUS_S3_SECRET_KEY")


class GivenParts:
    """Parts that someone else runs; their addresses are in the environment."""

    kind: Kind = "given"

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment

    async def start(self, previous: Addresses | None) -> Addresses:
        """Return the addresses from the environment; `previous` does not matter."""
        del previous
        bootstrap, endpoint, access_key, secret_key = (self._environment[name] for name in GIVEN)
        region = self._environment.get("SALUS_S3_REGION", REGION)
        return Addresses(bootstrap, S3(endpoint, access_key, secret_key, region))

    async def stop(self) -> None:
        """Leave them running: they are not ours."""

    async def restart_kafka(self) -> None:
        """Refuse: the broker is not ours."""
        raise DevkitError("Kafka was given by the environment and is not ours to restart")

    def processes(self) -> list[ProcessRecord]:
        """Return none."""
        return []


class LocalParts:
    """Parts as local processes; with `kafka_accounts` Kafka refuses whoever has none."""

    kind: Kind = "local"

    def __init__(self, place: Place, narrator: Narrator, *, kafka_accounts: bool = False) -> None:
        self._place = place
        self._accounts = KafkaAccounts(place.folder / "kafka" / "accounts") if kafka_accounts else None
        self._narrator = narrator
        self._kafka: KafkaServer | None = None
        self._minio: MinioServer | None = None

    async def start(self, previous: Addresses | None) -> Addresses:
        """Start MinIO and Kafka, fetching and building them the first time."""
        minio = self._minio = MinioServer(
            self._place.below("minio"),
            self._narrator,
            access_key=previous.s3.access_key if previous else "",
            secret_key=previous.s3.secret_key if previous else "",
        )
        kafka = self._kafka = KafkaServer(self._place.below("kafka"), self._narrator, accounts=self._accounts)
        # What takes minutes the first time goes one after the other, so that its progress can be followed.
        await minio_binary(self._narrator)
        await loaded_classes(await kafka_classpath(self._narrator), self._narrator)
        self._narrator.step("starting Kafka and MinIO")
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(minio.start(preferred=port_of(previous.s3.endpoint) if previous else ()))
                both.create_task(kafka.start(preferred=port_of(previous.kafka_bootstrap) if previous else ()))
        except ExceptionGroup as group:
            raise group.exceptions[0] from None
        return Addresses(
            kafka.bootstrap,
            S3(minio.endpoint, minio.access_key, minio.secret_key),
            None if self._accounts is None else str(self._accounts.folder),
        )

    def adopt(self, addresses: Addresses, processes: Sequence[ProcessRecord]) -> None:
        """Take over what another invocation started."""
        by_name = {record.name: record for record in processes}
        self._minio = MinioServer(
            self._place.below("minio"),
            self._narrator,
            access_key=addresses.s3.access_key,
            secret_key=addresses.s3.secret_key,
        )
        self._minio.adopt(by_name.get("minio"), port_of(addresses.s3.endpoint))
        self._kafka = KafkaServer(self._place.below("kafka"), self._narrator, accounts=self._accounts)
        self._kafka.adopt(by_name.get("kafka"), port_of(addresses.kafka_bootstrap))

    async def stop(self) -> None:
        """Stop both; their data stays."""
        if self._kafka is not None:
            await self._kafka.stop()
        if self._minio is not None:
            await self._minio.stop()

    async def restart_kafka(self) -> None:
        """Stop the broker and start it again at the same address."""
        if self._kafka is None:
            raise DevkitError("Kafka was never started")
        await self._kafka.stop()
        await self._kafka.start()

    def processes(self) -> list[ProcessRecord]:
        """Return what runs."""
        servers = (self._kafka, self._minio)
        return [server.process for server in servers if server is not None and server.process is not None]


async def find_parts(place: Place, narrator: Narrator, *, kafka_accounts: bool = False) -> Parts:
    """Return the first way to get the parts that this machine offers; only local ones have `kafka_accounts`.

    Raises:
        MissingToolError: it offers none; the message says what is missing.
        SettingError: the environment names some of the endpoints only, or no way that there is.
    """
    wanted = os.environ.get("SALUS_PARTS", "")
    if wanted not in ("", *get_args(Kind)):
        raise SettingError(f"SALUS_PARTS: {wanted} is none of {', '.join(get_args(Kind))}")
    local = LocalParts(place, narrator, kafka_accounts=kafka_accounts)
    if wanted == "local":
        return local
    there = [name for name in GIVEN if os.environ.get(name)]
    if kafka_accounts:
        if wanted or there:
            given = f"SALUS_PARTS={wanted}" if wanted else f"{there[0]} is set"
            raise SettingError(f"{given}: only a Kafka that is started here has accounts of ours")
        return local
    if wanted == "given" or (not wanted and there):
        _require_all(there)
        return GivenParts(os.environ)
    if wanted == "engine" or (not wanted and await engine_answers()):
        return EngineParts(place, narrator, fallback=None if wanted else local)
    absent = [*kafka_needs(), *minio_needs()]
    if absent:
        raise MissingToolError(
            "Kafka and MinIO need either a running container engine (`docker info` gets no answer) or "
            f"Java 17, Maven and Go, of which this machine lacks {', '.join(absent)}"
        )
    return local


def administration(kind: str, addresses: Addresses) -> Bootstrap:
    """Return Kafka as whoever runs it speaks to it; one that was given, as the environment says.

    Raises:
        SettingError: the environment says something of an account, and that is none.
    """
    if kind != "given" or os.environ.get(GIVEN[0]) != addresses.kafka_bootstrap:
        return addresses.kafka_as(ADMINISTRATOR)
    from salus.runtime.kafka_settings import kafka_of_environment  # noqa: PLC0415  # brings pydantic-settings

    try:
        return kafka_of_environment()
    except ValueError as error:
        raise SettingError(str(error)) from None


def _require_all(there: Sequence[str]) -> None:
    absent = [name for name in GIVEN if name not in there]
    if absent:
        raise SettingError(
            f"{', '.join(absent)} must be set as well, for Kafka and the object store that are given "
            "(SALUS_PARTS=local or engine starts them here, whatever is set)"
        )


def adopt_parts(
    kind: Kind,
    addresses: Addresses,
    processes: Sequence[ProcessRecord],
    place: Place,
    narrator: Narrator,
) -> Parts:
    """Return parts that another invocation started, to be stopped or restarted by this one."""
    if kind == "given":
        return GivenParts(os.environ)
    if kind == "engine":
        parts = EngineParts(place, narrator, fallback=None)
        parts.adopt(addresses)
        return parts
    local = LocalParts(place, narrator, kafka_accounts=addresses.kafka_accounts is not None)
    local.adopt(addresses, processes)
    return local
