"""Where the parts are, and what any provider of them must be able to do."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

import msgspec

from salus.devkit.kafka_accounts import KafkaAccounts
from salus.devkit.processes import ProcessRecord
from salus.messaging import Bootstrap, Brokers

Kind = Literal["given", "engine", "local"]
REGION = "us-east-1"


class S3(msgspec.Struct, frozen=True):
    """How to reach the object store. The keys are development keys, made for one state directory."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str = REGION


class Addresses(msgspec.Struct, frozen=True):
    """Where the parts are; `kafka_accounts` is the folder of the accounts at a Kafka that asks for one."""

    kafka_bootstrap: str
    s3: S3
    kafka_accounts: str | None = None

    def kafka_as(self, name: str) -> Bootstrap:
        """Return Kafka as the account of this name speaks to it, where there are accounts."""
        if self.kafka_accounts is None:
            return self.kafka_bootstrap
        return Brokers(self.kafka_bootstrap, KafkaAccounts(Path(self.kafka_accounts)).account(name))


class Parts(Protocol):
    """Kafka and an S3 store that someone started or will start."""

    @property
    def kind(self) -> Kind:
        """Who provides them."""

    async def start(self, previous: Addresses | None) -> Addresses:
        """Start them, at the previous addresses and with the previous keys where possible."""

    async def stop(self) -> None:
        """Stop what `start` started, and nothing else."""

    async def restart_kafka(self) -> None:
        """Stop the broker and start it again at the same address."""

    def processes(self) -> list[ProcessRecord]:
        """Return the local processes, for run.json."""


def port_of(address: str) -> tuple[int, ...]:
    """Return the port at the end of host:port or a URL, as a tuple of none or one."""
    port = address.rpartition(":")[2]
    return (int(port),) if port.isdigit() else ()
