"""What an operator may choose for anchoring."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from salus.archive.duplicates import PAIRS_MAX, WINDOW_OF_THE_FORMAT
from salus.runtime.settings import NoteKeySettings, ObjectSettings, ServiceSettings


class Settings(ServiceSettings, ObjectSettings, NoteKeySettings):
    """Several processes may run on one log: the head decides between them, and any of them serves."""

    service_name: str = "anchoring"
    poll_interval_ms_max: int = Field(
        default=1000, ge=10, description="The archive is looked at this often, announcements or not."
    )
    checkpoint_interval_ms_min: int = Field(
        default=50, ge=0, description="Two checkpoints are at least this far apart."
    )
    append_entries_max: int = Field(default=1024, ge=1, description="Headers that one append takes at most.")
    witnesses: dict[str, str] = Field(
        default={},
        description="Where members' witnesses listen from here, if not at the URL in the network's policy. "
        'JSON: {"key name as in network.json": "URL"}.',
    )
    witness_deadline_ms_max: int = Field(
        default=2000, ge=1, description="A witness that has not answered by then is asked again later."
    )
    witness_stragglers_ms_max: int = Field(
        default=50, ge=0, description="Once enough have cosigned, the others have this long."
    )
    receipt_leaves_cached_max: int = Field(
        default=100_000, ge=0, description="Leaves of lately used blocks kept in memory, 500 bytes each."
    )
    scrub_bytes_per_s_max: int = Field(
        default=4 * 1024 * 1024, ge=0, description="The archive is read again at most this fast; 0: never."
    )
    scrub_interval_s_min: int = Field(
        default=3600, ge=1, description="A pass over the archive begins at least this long after the last."
    )
    duplicates_window: int = Field(
        default=WINDOW_OF_THE_FORMAT.pairs,
        ge=1,
        le=PAIRS_MAX,
        description="As the sequencers have it, or the smallest that they ever had: a pass over the archive "
        "takes a source and id that was accepted twice within it for damage.",
    )
    duplicates_window_blocks: int = Field(
        default=WINDOW_OF_THE_FORMAT.blocks, ge=1, description="As the sequencers have it."
    )
    event_index_file: Path | None = Field(
        default=None,
        description="Where the index of events by source and id is kept, about 45 bytes an event. It is "
        "made from the archive, anew at each start if this is not given.",
    )
    event_index_share_max: float = Field(
        default=0.25, gt=0, le=1, description="The index is made in at most this share of the time."
    )
