"""A small network that tests may look at from all sides: one shard, a block, a log of a few entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.ledger.block import Header, Leaf
from salus.ledger.checkpoint import Checkpoint
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.merkle import levels_of, path_in
from salus.ledger.note import NoteSigner
from salus.ledger.policy import Policy
from salus.ledger.quorum import Quorum
from salus.ledger.receipt import build_receipt
from salus.ledger.tiles import TileRef, inclusion_proof

Following = Callable[..., Header]
"""Makes the header that may stand after the world's block, with some of its facts changed."""

VALUES = [b'{"id":"%d"}' % i for i in range(7)]
STATUSES = ["accepted"] * 6 + ["rejected:malformed-json"]
SIGNATURES = [b"v1 did:key:z#z 0/1 sig"] * 6 + [None]


def key_of(seed: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(sha256(seed.encode()).digest())


@dataclass(frozen=True)
class World:
    """The network: signers, one block of seven leaves (one rejected), and a log of nine entries."""

    shard: NoteSigner
    log: NoteSigner
    witnesses: tuple[CosignatureSigner, ...]
    leaves: tuple[Leaf, ...]
    header: Header
    header_note: bytes
    entries: tuple[bytes, ...]
    tiles: dict[str, bytes]
    checkpoint: Checkpoint
    checkpoint_note: bytes

    @property
    def policy(self) -> Policy:
        """Trust the log, the shard, and two of the three witnesses."""
        return Policy(
            logs=(self.log.verifier,),
            shards={self.shard.name: self.shard.verifier},
            quorum=Quorum.of(2, [witness.verifier for witness in self.witnesses]),
        )

    @property
    def hashes(self) -> list[bytes]:
        """The leaf hashes of the block."""
        return [leaf.hash() for leaf in self.leaves]

    def read_tile(self, level: int, index: int, width: int) -> bytes:
        """Read a tile of the log."""
        return self.tiles[TileRef(level, index, width).path]

    def receipt(self, index: int = 3, checkpoint_note: bytes | None = None) -> bytes:
        """Return the receipt of a leaf of the block."""
        at = self.entries.index(self.header_note)
        return build_receipt(
            self.leaves[index].data(),
            index,
            path_in(levels_of(self.hashes), index),
            self.header_note,
            at,
            inclusion_proof(at, len(self.entries), self.read_tile),
            self.checkpoint_note if checkpoint_note is None else checkpoint_note,
        )
