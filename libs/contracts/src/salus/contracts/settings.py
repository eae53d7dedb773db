"""What the operator of a contract service chooses."""

from __future__ import annotations

from pydantic import Field

from salus.events.fields import INTEGER_MAX
from salus.runtime.settings import DatabaseSettings, RequestSettings, ServiceSettings


class ContractSettings(ServiceSettings, DatabaseSettings, RequestSettings):
    """Every contract service needs Kafka, its signing key, the network file, a database and a port."""

    release: int = Field(
        default=0,
        ge=0,
        le=INTEGER_MAX,
        description="Counts installations, upgrades and what takes them back alike (the chart gives Helm's"
        " revision): where replicas share a database, one of a lower number does not take the tables back.",
    )
