"""The log's head, the one object that decides what the log is; anchoring moves it, fsck checks it."""

from __future__ import annotations

import msgspec

from salus.archive.errors import HeadError
from salus.ledger.base import hash_of_base64
from salus.ledger.checkpoint import open_checkpoint
from salus.ledger.errors import LedgerError
from salus.ledger.key_periods import Keys

HEAD_KEY = "_salus/head"
HEAD_BYTES_MAX = 32 * 1024 * 1024
"""How large the head object is at most; who appends brings no more entries than fit."""
HEAD_FORMAT = "salus.health/log-head/v1"


class Chain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far one shard's chain is in the log: the next height, and the leaf hash of the last header."""

    next: int
    last: str


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The head; it moves by compare-and-swap.

    `size` and `root` are covered by the checkpoint's signature; `chains`, by shard id, can be counted
    again from the log's entries. `entries` are the last ones of the log, which came with this head: whoever
    finds it can write all that its writer may have left unwritten.
    """

    format: str
    size: int
    root: str
    chains: dict[str, Chain]
    checkpoint: str
    entries: tuple[str, ...] = ()

    @property
    def size_before(self) -> int:
        """The size of the log before the entries that came with this head."""
        return self.size - len(self.entries)

    @property
    def root_hash(self) -> bytes:
        """The root as bytes."""
        return hash_of_base64(self.root)

    def next_height(self, shard: int) -> int:
        """Return the height of the shard's next header."""
        chain = self.chains.get(str(shard))
        return chain.next if chain else 0


def open_head(data: bytes, verifier: Keys) -> Head:
    """Return the head.

    Raises:
        HeadError: not a head in its one form, or its checkpoint is not ours or is of another tree.
    """
    try:
        head = msgspec.json.decode(data, type=Head)
        checkpoint, _ = open_checkpoint(head.checkpoint.encode(), verifier)
        root = head.root_hash
    except (msgspec.DecodeError, LedgerError, ValueError) as error:
        raise HeadError(f"the log's head cannot be trusted: {type(error).__name__}: {error}") from error
    if head.size_before < 0:
        raise HeadError("the head brings more entries than the log has")
    if head.format != HEAD_FORMAT or (checkpoint.size, checkpoint.root) != (head.size, root):
        raise HeadError("the head's checkpoint is of another tree than the head")
    if encode_head(head) != data:
        raise HeadError("the head is not in its one form")
    return head


def encode_head(head: Head) -> bytes:
    """Return the bytes of the head object; the same head has the same bytes."""
    return msgspec.json.format(msgspec.json.encode(head, order="sorted"), indent=1) + b"\n"
