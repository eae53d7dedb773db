"""What events of the network itself mean, and announcements of the ledger.

These are no leaves today; they are described so that every type of the catalogue is.
"""

from __future__ import annotations

from salus.audit.domain.entry import Activity, Facts, Severity
from salus.audit.domain.meanings.describers import describes
from salus.events.contexts import ledger, network


@describes(network.TopicsRestored)
def _topics_restored(data: network.TopicsRestored) -> Facts:
    return Facts(
        activity=Activity.LEDGER_MOVED,
        action="U",
        severity=Severity.CRITICAL,
        summary=f"Kafka was lost; {len(data.partitions)} partitions were filled again from the ledger.",
        object=str(data.log_size),
        object_kind="log",
    )


@describes(network.DamageFound)
def _damage_found(data: network.DamageFound) -> Facts:
    return Facts(
        activity=Activity.LEDGER_MOVED,
        action="R",
        severity=Severity.CRITICAL,
        summary=f"The archive is damaged at {data.bucket}/{data.key}: {data.code}.",
        object=f"{data.bucket}/{data.key}",
        object_kind="archive-object",
    )


@describes(network.KeyRotated)
def _key_rotated(data: network.KeyRotated) -> Facts:
    return Facts(
        activity=Activity.LEDGER_MOVED,
        action="U",
        severity=Severity.HIGH,
        summary=f"{data.name} signs with another key from {data.first} on.",
        object=data.name,
        object_kind="signing-key",
    )


@describes(network.KeyRetired)
def _key_retired(data: network.KeyRetired) -> Facts:
    return Facts(
        activity=Activity.LEDGER_MOVED,
        action="U",
        severity=Severity.CRITICAL if data.reason == "compromised" else Severity.HIGH,
        summary=f"A key of {data.name} signs no longer from {data.end} on: {data.reason}.",
        object=data.name,
        object_kind="signing-key",
    )


@describes(ledger.BlockSealed)
def _block_sealed(data: ledger.BlockSealed) -> Facts:
    return _ledger(f"Block {data.height} of shard {data.shard} is sealed.", data.header, "block")


@describes(ledger.CheckpointPublished)
def _checkpoint_published(data: ledger.CheckpointPublished) -> Facts:
    return _ledger(f"The log has a checkpoint of {data.size} blocks.", str(data.size), "checkpoint")


@describes(ledger.RecordRejected)
def _record_rejected(data: ledger.RecordRejected) -> Facts:
    where = f"{data.topic}/{data.partition}/{data.offset}"
    return _ledger(f"The record {where} was rejected: {data.reason}.", where, "record")


@describes(ledger.RecordsRejected)
def _records_rejected(data: ledger.RecordsRejected) -> Facts:
    count = sum(group.count for group in data.groups)
    block = f"block {data.height} of shard {data.shard}"
    return _ledger(f"Of {block} {count} more records were rejected.", block, "block")


def _ledger(summary: str, name: str, kind: str) -> Facts:
    return Facts(activity=Activity.LEDGER_MOVED, action="C", summary=summary, object=name, object_kind=kind)
