"""What audit counts for Prometheus."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

ENTRIES_INDEXED = Counter("salus_audit_entries_indexed", "Leaves of the ledger that became trail entries.")
ENTRIES_PUBLISHED = Counter("salus_audit_entries_published", "Entries published as OCSF and FHIR.")
MARKS_LOST = Counter(
    "salus_audit_lost_marks", "Times that somebody else changed up to where a shard is published."
)
BLOCKS_REFUSED = Gauge("salus_audit_blocks_refused", "Shards that wait at a block that does not verify.")
BLOCKS_WAITING = Gauge(
    "salus_audit_blocks_waiting", "Shards whose next block waits for what another shard sealed before."
)
DAMAGED = Gauge(
    "salus_audit_damaged_entries",
    "Entries of rows that are not what they are sealed as, or of blocks that were not judged as they say.",
)
SHARDS_DAMAGED = Gauge(
    "salus_audit_shards_damaged", "Shards that cannot go on because somebody changed the trail's database."
)
COMPARED = Counter("salus_audit_compared_rows", "Rows of the trail that were compared with the ledger.")
COMPARED_AT = Gauge(
    "salus_audit_last_full_comparison_timestamp_seconds",
    "When the whole trail was last compared.",
)
DIFFERENCES = Gauge("salus_audit_differences", "Rows of the trail that are not what the ledger makes them.")
UNENTITLED = Gauge(
    "salus_audit_unentitled_entries", "Entries of what consent or storage did for somebody without a right."
)
RIGHTS_PENDING = Gauge(
    "salus_audit_rights_pending_entries",
    "Entries of which what would give the right is not sealed yet, or is still looked for.",
)
RIGHTS_JUDGED = Counter(
    "salus_audit_rights_judged", "Events of consent and storage whose asker's right was judged again."
)
BLOCKS_UNPUBLISHED = Gauge(
    "salus_audit_blocks_unpublished",
    "Blocks that are indexed and not published; what is found in them is not either.",
)
FINDINGS = Counter("salus_audit_findings", "Detection findings published.", ["rule"])
"""Counted again when entries are published again."""
UNDETECTED = Counter("salus_audit_undetected_records", "Entries that a rule failed at, and passed over.")
