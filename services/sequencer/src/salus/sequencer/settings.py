"""What an operator may choose for a sequencer."""

from __future__ import annotations

from pydantic import Field

from salus.archive.duplicates import PAIRS_MAX
from salus.archive.parquet_bounds import LEAVES_MAX
from salus.runtime.settings import NoteKeySettings, ObjectSettings, ServiceSettings
from salus.sequencer.gathering import Limits

# With what is kept beside them, values of so many bytes fit into a body (docs/ledger-format.md).
BLOCK_BYTES_MAX = 48 * 1024 * 1024


class Settings(ServiceSettings, ObjectSettings, NoteKeySettings):
    """One process seals one shard; run as many processes as there are shards."""

    service_name: str = "sequencer"
    shard: int = Field(default=0, ge=0, description="Which shard of network.json this process seals.")
    block_records_max: int = Field(
        default=10_000, ge=1, le=LEAVES_MAX, description="A block closes at so many records."
    )
    block_bytes_max: int = Field(
        default=6 * 1024 * 1024,
        ge=1,
        le=BLOCK_BYTES_MAX,
        description="A block closes at so many bytes of values, or of keys, signatures and traces.",
    )
    block_age_ms_max: int = Field(
        default=100, ge=0, description="A block closes so long after its first record arrived."
    )
    blocks_in_flight_max: int = Field(
        default=2, ge=1, description="So many judged blocks may be on their way to the archive."
    )
    duplicates_window: int = Field(
        default=1_000_000,
        ge=1,
        le=PAIRS_MAX,
        description="An id of the same source is a duplicate among so many accepted events of the shard; "
        "each takes 28 bytes of memory.",
    )
    duplicates_window_blocks: int = Field(
        default=10_000,
        ge=1,
        description="And none is from more than so many blocks ago that accepted something.",
    )

    def limits(self) -> Limits:
        """Return when blocks close."""
        return Limits(
            records_max=self.block_records_max,
            bytes_max=self.block_bytes_max,
            age_ms_max=self.block_age_ms_max,
            in_flight_max=self.blocks_in_flight_max,
        )
