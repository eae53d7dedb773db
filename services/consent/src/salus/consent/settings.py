"""What the operator of consent chooses."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from salus.runtime.settings import DatabaseSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings):
    """Consent needs Kafka, its signing key, the network file, a database and a port."""

    service_name: str = "consent"
    policies_folder: Path | None = Field(
        default=None,
        description="Folder with *.cedar and one *.cedarschema; none: the policies of the release.",
    )
