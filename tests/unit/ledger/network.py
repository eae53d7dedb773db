"""A small network that tests may look at from all sides: one shard, a block, a log of a few entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from salus.ledger.block import NO_PREVIOUS, Header, Leaf, Range, sign_header
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.merkle import leaf_hash, levels_of, path_in, root_of
from salus.ledger.note import NoteSigner, add_signatures
from salus.ledger.policy import Policy
from salus.ledger.quorum import Quorum
from salus.ledger.receipt import build_receipt
from salus.ledger.tiles import TileRef, inclusion_proof, new_tiles

Following = Callable[..., Header]
"""Makes the header that may stand after the world's block, with some of its facts changed."""

VALUES = [b'{"id":"%d"}' % i for i in range(7)]
STATUSES = ["accepted"] * 6 + ["rejected:malformed-json"]
# What a leaf may keep; whose it is and over what, nobody asks here.
SIGNATURE = b"v1 did:key:z#z 0/1 " + b"A" * 86 + b"=="
APPENDED_MS = 1_795_359_600_000
"""2026-11-22T15:00:00Z."""
SIGNATURES = [SIGNATURE] * 6 + [None]


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


def make_world() -> World:
    """Make the network from fixed seeds."""
    shard = NoteSigner("salus.example/shard/0", key_of("shard"))
    log = NoteSigner("salus.example/log", key_of("log"))
    witnesses = (
        CosignatureSigner("witness.example/ed25519", key_of("w1")),
        CosignatureSigner("witness.example/mldsa", MLDSA44PrivateKey.from_seed_bytes(sha256(b"w2").digest())),
        CosignatureSigner("witness.example/silent", key_of("w3")),
    )
    leaves = tuple(
        Leaf("salus.clinical.events", 0, 10 + i, APPENDED_MS + i, status, leaf_hash(value), signature)
        for i, (value, status, signature) in enumerate(zip(VALUES, STATUSES, SIGNATURES, strict=True))
    )
    header = Header(
        origin=shard.name,
        height=0,
        leaves=len(leaves),
        root=root_of([leaf.hash() for leaf in leaves]),
        previous=NO_PREVIOUS,
        time=datetime(2026, 11, 22, 15, 0, 0, 123000, tzinfo=UTC),
        accepted=6,
        body_bytes=10,
        body_sha256=sha256(b"0123456789").digest(),
        identity=("salus.identity.events", 0, 17),
        ranges=(Range("salus.clinical.events", 0, 10, 17), Range("salus.clinical.events", 1, 0, 0)),
    )
    note = sign_header(header, shard)
    entries = (*(b"entry %d" % i for i in range(6)), note, b"entry 7", b"entry 8")
    checkpoint = Checkpoint(log.name, len(entries), root_of([leaf_hash(entry) for entry in entries]))
    signed = sign_checkpoint(checkpoint, [log])
    cosignatures = [w.cosign(checkpoint, seconds=1_700_000_000 + i) for i, w in enumerate(witnesses[:2])]
    return World(
        shard=shard,
        log=log,
        witnesses=witnesses,
        leaves=leaves,
        header=header,
        header_note=note,
        entries=entries,
        tiles=new_tiles(0, entries, lambda *_: b""),
        checkpoint=checkpoint,
        checkpoint_note=add_signatures(signed, cosignatures),
    )
