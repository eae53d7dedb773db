"""What the operator of identity chooses."""

from __future__ import annotations

from salus.runtime.settings import DatabaseSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings):
    """Identity needs Kafka, its signing key, the network file, a database and a port; nothing else."""

    service_name: str = "identity"
