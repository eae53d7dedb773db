"""What the operator of identity chooses."""

from __future__ import annotations

from salus.contracts.settings import ContractSettings


class Settings(ContractSettings):
    """Identity needs Kafka, its signing key, the network file, a database and a port; nothing else."""

    service_name: str = "identity"
