"""What the operator of identity chooses."""

from __future__ import annotations

from salus.runtime.settings import DatabaseSettings, RequestSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings, RequestSettings):
    """Identity needs Kafka, its signing key, the network file, a database and a port; nothing else."""

    service_name: str = "identity"
