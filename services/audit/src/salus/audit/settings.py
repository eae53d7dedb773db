"""What the operator of audit chooses."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from salus.runtime.settings import DatabaseSettings, ObjectSettings, ServiceSettings


class Settings(ServiceSettings, DatabaseSettings, ObjectSettings):
    """Audit needs Kafka, the ledger bucket, the network file, a database and a port."""

    service_name: str = "audit"
    anchoring_url: str = Field(
        default="", description="Base URL under which anchoring serves receipts; none: links are relative."
    )
    blocks_topic: str = Field(default="salus.ledger.blocks", description="Where blocks are announced.")
    ocsf_topic: str = Field(default="salus.audit.ocsf", description="Where OCSF events and findings go.")
    fhir_topic: str = Field(default="salus.audit.fhir", description="Where FHIR AuditEvents go.")
    compare_rows_per_s_max: int = Field(
        default=2000, ge=1, description="Rows of the trail compared with the ledger in a second, at most."
    )
    compare_interval_s_min: float = Field(
        default=60.0, ge=0, description="From one comparison of the whole trail to the next, at least."
    )
    comparison_folder: Path | None = Field(
        default=None,
        description="Folder for the files of a comparison, 180 bytes for each request ever stated, and of "
        "judging rights, 360 bytes for each decision and transfer; none: with temporary files, "
        "which may be in memory.",
    )
    refusals_window_s: int = Field(default=300, ge=1, description="Window of the denied-access detector.")
    refusals_max: int = Field(default=5, ge=1, description="Refusals in the window that make a finding.")
    search_s_max: float = Field(
        default=20.0, gt=0, description="How long the database may look for the answer to one question."
    )
    poll_s: float = Field(default=1.0, gt=0, description="How often to look for blocks not announced.")
