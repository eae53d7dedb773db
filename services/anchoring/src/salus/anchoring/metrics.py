"""What anchoring measures, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.registry import REGISTRY

from salus.archive.head import Head


class Metrics:
    """The gauges; `registry` is another one only in tests."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._size = Gauge("salus_log_size", "Entries in the log.", registry=registry)
        self._lag = Gauge(
            "salus_anchoring_lag_blocks", "Blocks announced but not in the log yet.", registry=registry
        )
        self._stalled = Gauge(
            "salus_anchoring_stalled_chains", "Chains whose next header is not acceptable.", registry=registry
        )
        self._age = Gauge(
            "salus_checkpoint_age_seconds", "Seconds since the log last grew.", registry=registry
        )
        self._next = Gauge(
            "salus_anchoring_next_height", "Next height of each shard.", ["shard"], registry=registry
        )
        self._final = Gauge(
            "salus_log_final_size", "Entries under the published checkpoint.", registry=registry
        )
        self._cosigned = Gauge(
            "salus_anchoring_witness_cosigned",
            "Whether the witness cosigned the last checkpoint that it was asked to.",
            ["witness"],
            registry=registry,
        )
        self.receipts = Counter(
            "salus_receipts", "Receipts asked for, by outcome.", ["outcome"], registry=registry
        )
        self.receipt_seconds = Histogram(
            "salus_receipt_seconds", "Time to make a receipt, without waiting.", registry=registry
        )
        self.indexed_entries = Gauge(
            "salus_anchoring_indexed_entries",
            "Log entries whose events are found by source and id.",
            registry=registry,
        )
        self.unindexed_blocks = Counter(
            "salus_anchoring_unindexed_blocks",
            "Damaged blocks whose events are not found by source and id.",
            registry=registry,
        )
        self.scrub_bytes = Counter("salus_scrub_bytes", "Bytes read again by scrubbing.", registry=registry)
        self._scrub_done = Gauge(
            "salus_scrub_pass_blocks_done", "Blocks that this pass has checked.", registry=registry
        )
        self._scrub_total = Gauge("salus_scrub_pass_blocks", "Blocks that this pass has.", registry=registry)
        self._scrub_ended = Gauge(
            "salus_scrub_last_full_pass_timestamp_seconds",
            "When the last whole pass over the archive ended, in Unix time; 0: never.",
            registry=registry,
        )
        self._scrub_findings = Gauge(
            "salus_scrub_findings", "Objects of the archive that are damaged or missing.", registry=registry
        )
        self._scrub_unknown = Gauge(
            "salus_scrub_unknown_objects",
            "Objects among the archive's that are none of the ledger's, in the last whole pass.",
            registry=registry,
        )
        self.alarms_refused = Counter(
            "salus_scrub_alarms_refused",
            "Times that the ledger refused an alarm about damage; it is told again under another id.",
            registry=registry,
        )
        self._alarms_open = Gauge(
            "salus_scrub_alarms_open",
            "Alarms about damage that are not known to be on the ledger.",
            registry=registry,
        )
        self.damaged = 0
        self.alarm_refused: str | None = None
        self.alarm_late: str | None = None
        self._grown = time.monotonic()
        self._last_size = -1
        self._age.set_function(lambda: time.monotonic() - self._grown)

    def observe_scrub_position(self, done: int, total: int) -> None:
        """Take how far this pass is, in blocks."""
        self._scrub_done.set(done)
        self._scrub_total.set(total)

    def observe_unknown_objects(self, count: int) -> None:
        """Take how many objects the last whole pass met that are none of the ledger's."""
        self._scrub_unknown.set(count)

    def observe_scrub(self, ended: datetime | None, findings: int) -> None:
        """Take when the last whole pass ended, and how many objects are known to be damaged."""
        self._scrub_ended.set(ended.timestamp() if ended else 0)
        self._scrub_findings.set(findings)
        self.damaged = findings

    def observe_alarms(self, count: int, *, refused: str | None, late: str | None) -> None:
        """Take how many alarms are not known to be on the ledger, and which is refused or late."""
        self._alarms_open.set(count)
        self.alarm_refused, self.alarm_late = refused, late

    def observe_final(self, size: int) -> None:
        """Take the size of the published checkpoint."""
        self._final.set(size)

    def observe_witnesses(self, cosigned: Mapping[str, bool]) -> None:
        """Take which witnesses cosigned, by name."""
        for name, did in cosigned.items():
            self._cosigned.labels(name).set(did)

    def observe(self, head: Head, *, stalled: Mapping[int, str], lag_blocks: int) -> None:
        """Take the head that we stand on."""
        if head.size != self._last_size:
            self._grown, self._last_size = time.monotonic(), head.size
        self._size.set(head.size)
        self._lag.set(lag_blocks)
        self._stalled.set(len(stalled))
        for shard, chain in head.chains.items():
            self._next.labels(shard).set(chain.next)
