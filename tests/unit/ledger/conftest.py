"""The small network of `network.py`, made once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey
from tests.unit.ledger.network import SIGNATURES, STATUSES, VALUES, Following, World, key_of

from salus.ledger.block import NO_PREVIOUS, Header, Leaf, Range, sign_header
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.note import NoteSigner, add_signatures
from salus.ledger.tiles import new_tiles


@pytest.fixture(scope="session")
def header() -> Header:
    """A header that is correct by itself."""
    return Header(
        origin="salus.example/shard/0",
        height=0,
        leaves=3,
        root=sha256(b"root").digest(),
        previous=NO_PREVIOUS,
        time=datetime(2026, 11, 22, 15, 0, 0, 123000, tzinfo=UTC),
        accepted=2,
        body_bytes=4096,
        body_sha256=sha256(b"body").digest(),
        identity=("salus.identity.events", 0, 17),
        ranges=(Range("salus.clinical.events", 0, 100, 103), Range("salus.clinical.events", 1, 0, 0)),
    )


@pytest.fixture(scope="session")
def world() -> World:
    """The network, made from fixed seeds."""
    shard = NoteSigner("salus.example/shard/0", key_of("shard"))
    log = NoteSigner("salus.example/log", key_of("log"))
    witnesses = (
        CosignatureSigner("witness.example/ed25519", key_of("w1")),
        CosignatureSigner("witness.example/mldsa", MLDSA44PrivateKey.from_seed_bytes(sha256(b"w2").digest())),
        CosignatureSigner("witness.example/silent", key_of("w3")),
    )
    leaves = tuple(
        Leaf("salus.clinical.events", 0, 10 + i, status, leaf_hash(value), signature)
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


@pytest.fixture(scope="session")
def following(world: World) -> Following:
    """Make the header that may stand after the world's block, with some of its facts changed."""

    def make(**changes: object) -> Header:
        right = replace(
            world.header,
            height=1,
            previous=leaf_hash(world.header_note),
            leaves=1,
            accepted=1,
            ranges=(Range("salus.clinical.events", 0, 17, 18), Range("salus.clinical.events", 1, 0, 0)),
        )
        return replace(right, **changes)  # type: ignore[arg-type]  # the caller names fields

    return make


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of vectors that others made."""
    return Path(__file__).parents[2] / "data"
