"""The network itself: restored topics, damage, and the keys that sign notes: from operators and anchoring."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from typing import Annotated, Literal

import msgspec

from salus.events.context import Context
from salus.events.contexts.ledger import ANCHORING
from salus.events.event_types import OPERATOR, EventData, Retention
from salus.events.fields import Count, Detail, Sha256, Text

CONTEXT = Context("network")
CONTEXT.role(OPERATOR, "person", "governs the network, with an operator of another organisation")
_event = partial(CONTEXT.event, retention=Retention.NETWORK)


def _digest_of(text: str) -> str:
    return sha256(text.encode()).hexdigest()


class RestoredPartition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A partition of an input topic and the first offset after what the ledger had of it."""

    topic: Text
    partition: Count
    next: Count


@_event("salus.network.topics-restored.v1", owner=OPERATOR)
class TopicsRestored(EventData):
    """Kafka was lost and its input topics hold again what the ledger had of them.

    A record that was acknowledged before at `next` or beyond is not on the ledger: its offset is another
    record's. `log_size` and `log_root` are those of the checkpoint that the operator went by.
    """

    log_size: Count
    log_root: Sha256
    partitions: Annotated[tuple[RestoredPartition, ...], msgspec.Meta(max_length=10_000)]


@_event("salus.network.damage-found.v1", owner=ANCHORING)
class DamageFound(EventData):
    """Something in the archive is missing or not as it was signed; `salus ledger fsck` says the same.

    `code` is one of the codes of `fsck`, `key` the object in `bucket`. Of `more-findings`, `key` is the code
    that so many more objects have than are told one by one; `detail` has their number.
    """

    code: Text
    bucket: Text
    key: Text
    detail: Detail
    shard: Count | None = None
    height: Count | None = None
    row: Count | None = None


SigningRole = Literal["sequencer", "log", "witness"]
NoteKey = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]
"""A C2SP verifier key; one of ML-DSA-44 has some 1,800 characters."""


@_event(
    "salus.network.key-rotated.v1",
    owner=OPERATOR,
    subject_field="name",
    claims=lambda data: (f"rotated:{_digest_of(data.verifier_key)}",),
)
class KeyRotated(EventData):
    """A shard's sequencer, the log or a witness also signs with this key, from this position on.

    `name` is the key's name; `first` a height of the shard, or a size of the log. Until the key before is
    retired both may sign.
    """

    name: Text
    role: SigningRole
    verifier_key: NoteKey
    first: Count


@_event(
    "salus.network.key-retired.v1",
    owner=OPERATOR,
    subject_field="name",
    claims=lambda data: (f"retired:{_digest_of(data.verifier_key)}",),
)
class KeyRetired(EventData):
    """From this position on this key signs no longer; what it signed before stays as it was.

    `end` is the first height of the shard, or size of the log, at which its signature counts for nothing.
    """

    name: Text
    role: SigningRole
    verifier_key: NoteKey
    end: Count
    reason: Literal["rotated", "compromised", "lost"]
