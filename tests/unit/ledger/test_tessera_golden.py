"""Tessera's golden log comes out of our code byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from salus.ledger.check_log import check_log
from salus.ledger.checkpoint import Checkpoint, open_checkpoint
from salus.ledger.merkle import leaf_hash, root_of, verify_consistency
from salus.ledger.note import NoteVerifier
from salus.ledger.tiles import (
    TileRef,
    consistency_proof,
    decode_bundle,
    entries_path,
    new_tiles,
    root_at,
)

LOG = Path(__file__).parents[2] / "data" / "tlog" / "tessera-golden"
VERIFIER = NoteVerifier.from_vkey((LOG / "VKEY.txt").read_text().strip())
ENTRIES = decode_bundle((LOG / entries_path(0, 15)).read_bytes())
SIZES = range(16)


def head(size: int) -> Checkpoint:
    checkpoint, _ = open_checkpoint((LOG / f"checkpoint.{size}").read_bytes(), VERIFIER)
    return checkpoint


def read(level: int, index: int, width: int) -> bytes:
    return (LOG / TileRef(level, index, width).path).read_bytes()


@pytest.mark.parametrize("size", SIZES)
def test_a_golden_checkpoint_is_the_root_of_its_entries(size: int) -> None:
    checkpoint = head(size)

    assert checkpoint.size == size
    assert checkpoint.root == root_of([leaf_hash(entry) for entry in ENTRIES[:size]]) == root_at(size, read)


def test_every_golden_tile_and_bundle_is_written_byte_for_byte() -> None:
    written: dict[str, bytes] = {}
    for size in SIZES[:-1]:
        written |= new_tiles(size, [ENTRIES[size]], read)

    golden = {
        str(path.relative_to(LOG)): path.read_bytes() for path in LOG.rglob("tile/**/*") if path.is_file()
    }
    assert written == golden
    assert len(golden) == 30


@pytest.mark.parametrize("size", SIZES[1:])
def test_the_golden_log_only_ever_grew(size: int) -> None:
    for first in range(1, size):
        verify_consistency(
            first=first,
            second=size,
            first_root=head(first).root,
            second_root=head(size).root,
            proof=consistency_proof(first, size, read),
        )


def test_the_golden_log_has_nothing_wrong() -> None:
    def read_if_there(ref: TileRef) -> bytes | None:
        path = LOG / ref.path
        return path.read_bytes() if path.exists() else None

    for size in SIZES:
        checked = list(check_log(head(size), read_if_there))
        assert [finding for step in checked for finding in step.findings] == []
        assert [entry for step in checked for entry in step.entries] == ENTRIES[:size]
