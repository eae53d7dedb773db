"""What the operator of a contract service chooses."""

from __future__ import annotations

from salus.runtime.settings import DatabaseSettings, RequestSettings, ServiceSettings


class ContractSettings(ServiceSettings, DatabaseSettings, RequestSettings):
    """Every contract service needs Kafka, its signing key, the network file, a database and a port."""
