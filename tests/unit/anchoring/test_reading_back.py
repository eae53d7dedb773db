"""Anchoring reads back whatever it may have put into its log."""

from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.anchoring.handlers import place_of
from salus.ledger.block import Header, Range, sign_header
from salus.ledger.errors import BlockError
from salus.ledger.merkle import EMPTY_ROOT
from salus.ledger.note import NoteSigner


def signer_of(origin: str) -> NoteSigner:
    return NoteSigner(origin, Ed25519PrivateKey.from_private_bytes(b"k" * 32))


@pytest.mark.parametrize("origin", ["net/shard/1", "net/block/1", "net/block/1/block/2"])
def test_the_headers_of_any_origin_are_read_back(origin: str) -> None:
    header = Header(
        origin=origin,
        height=7,
        leaves=0,
        root=EMPTY_ROOT,
        previous=bytes(32),
        time=datetime(2026, 11, 22, tzinfo=UTC),
        accepted=0,
        body_bytes=0,
        body_sha256=bytes(32),
        identity=("salus.identity.events", 0, 0),
        ranges=(Range("salus.lab.events", 0, 0, 0),),
    )
    shards = {0: signer_of("net").verifier, 1: signer_of(origin).verifier}

    assert place_of(sign_header(header, signer_of(origin)), shards) == (1, 7)


@pytest.mark.parametrize("note", [b"", b"junk", b"net/block/x\n", b"\xff/block/1\n"])
def test_what_is_no_header_is_a_block_error(note: bytes) -> None:
    with pytest.raises(BlockError):
        place_of(note, {0: signer_of("net").verifier})
