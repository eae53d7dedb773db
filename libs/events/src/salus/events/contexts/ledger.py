"""What was sealed, anchored and refused: announcements, which no block holds."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import msgspec

from salus.events.context import Context
from salus.events.event_types import EventData, Retention
from salus.events.fields import Count, Detail, Did, KeyId, Sha256, Text

CONTEXT = Context("ledger", sealed=False)
SEQUENCER = CONTEXT.role("sequencer", "service", "seals records into blocks")
ANCHORING = CONTEXT.role("anchoring", "service", "keeps the network's log")
_event = partial(CONTEXT.event, retention=Retention.NETWORK)


@_event(
    "salus.ledger.block-sealed.v1",
    owner=SEQUENCER,
    topic="salus.ledger.blocks",
)
class BlockSealed(EventData):
    """A block's header exists in the archive; consumers are idempotent by shard and height."""

    shard: Count
    height: Count
    header: Text
    body: Text
    leaves: Count
    accepted: Count


@_event(
    "salus.ledger.checkpoint-published.v1",
    owner=ANCHORING,
    topic="salus.ledger.checkpoints",
)
class CheckpointPublished(EventData):
    """The log has a new checkpoint; `checkpoint` is the whole signed note."""

    size: Count
    checkpoint: Annotated[str, msgspec.Meta(max_length=65536)]


@_event(
    "salus.ledger.record-rejected.v1",
    owner=SEQUENCER,
    topic="salus.ledger.rejections",
)
class RecordRejected(EventData):
    """A record is a leaf of the ledger but was not accepted; its value was not kept.

    `key` is the key id in its signature header, if that is well-formed: anybody can write one. `source` and
    `id` are there only if the signature is valid, and the id only if it is a token.
    """

    topic: Text
    partition: Count
    offset: Count
    reason: Text
    detail: Detail
    digest: Sha256
    shard: Count
    height: Count
    key: KeyId | None = None
    source: Did | None = None
    id: Text | None = None


class RejectedGroup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """So many rejected records of a partition, from the offset `first` to `last`, for one reason."""

    topic: Text
    partition: Count
    reason: Text
    first: Count
    last: Count
    count: Count
    key: KeyId | None = None
    source: Did | None = None


@_event(
    "salus.ledger.records-rejected.v1",
    owner=SEQUENCER,
    topic="salus.ledger.rejections",
)
class RecordsRejected(EventData):
    """Records of a block that has many rejected ones, counted; each is a leaf with its reason and digest.

    `key` and `source` are as those of `record-rejected`, and the same for all records of a group.
    """

    shard: Count
    height: Count
    groups: Annotated[tuple[RejectedGroup, ...], msgspec.Meta(min_length=1, max_length=500)]
