"""The pure ledger on one core: hashing, roots, checking blocks, growing the log, verifying receipts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.ledger.block import NO_PREVIOUS, Header, Range, leaf_hashes, parse_leaf, sign_header
from salus.ledger.block import Leaf as BlockLeaf
from salus.ledger.check_blocks import check_block
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.merkle import leaf_hash, levels_of, path_in, root_of
from salus.ledger.note import NoteSigner
from salus.ledger.policy import Policy
from salus.ledger.receipt import build_receipt, verify_receipt
from salus.ledger.tiles import new_tiles

EVENTS = 20_000
VALUE_BYTES = 1024
SIGNATURE = b"v" * 440
ROUNDS = 5
TOPIC = "salus.clinical.events"


def per_second(count: int, work: Callable[[], object]) -> int:
    """Return how many a second of this process's CPU time, the best of some rounds."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return round(count / best)


def main() -> None:
    """Measure and print a table, and one line of JSON last."""
    values = [os.urandom(VALUE_BYTES // 2).hex().encode() for _ in range(EVENTS)]
    rows = [(TOPIC, 0, i, "accepted", leaf_hash(value), SIGNATURE) for i, value in enumerate(values)]
    hashes = leaf_hashes(rows)
    levels = levels_of(hashes)
    shard = NoteSigner("bench/shard/0", Ed25519PrivateKey.generate())
    log = NoteSigner("bench/log", Ed25519PrivateKey.generate())
    at = datetime(2026, 1, 1, tzinfo=UTC)
    covered = (Range(TOPIC, 0, 0, EVENTS),)
    header = Header(
        origin=shard.name,
        height=0,
        leaves=EVENTS,
        root=levels[-1][0],
        previous=NO_PREVIOUS,
        time=at,
        accepted=EVENTS,
        body_bytes=1,
        body_sha256=bytes(32),
        identity=("i", 0, 0),
        ranges=covered,
    )
    note = sign_header(header, shard)
    described = ("id", "did:key:z", "t", "s", at)
    table = [
        (*row[:4], *described, h, None, SIGNATURE, v) for row, h, v in zip(rows, hashes, values, strict=True)
    ]
    checkpoint = sign_checkpoint(Checkpoint(log.name, 1, leaf_hash(note)), [log])
    receipts = [
        build_receipt(BlockLeaf(*rows[i]).data(), i, path_in(levels, i), note, 0, [], checkpoint)
        for i in range(500)
    ]
    policy = Policy(logs=(log.verifier,), shards={shard.name: shard.verifier})
    datas = [BlockLeaf(*row).data() for row in rows[:2000]]
    figures = {
        "digests_per_s": per_second(EVENTS, lambda: [leaf_hash(value) for value in values]),
        "leaf_hashes_per_s": per_second(EVENTS, lambda: leaf_hashes(rows)),
        "roots_leaves_per_s": per_second(EVENTS, lambda: root_of(hashes)),
        "leaf_and_root_per_s": per_second(EVENTS, lambda: root_of(leaf_hashes(rows))),
        "parse_leaf_per_s": per_second(len(datas), lambda: [parse_leaf(data) for data in datas]),
        "check_block_rows_per_s": per_second(EVENTS, lambda: check_block(header, table, place="bench")),
        "log_entries_per_s": per_second(EVENTS, lambda: new_tiles(0, values, lambda *_: b"")),
        "receipts_verified_per_s": per_second(
            len(receipts), lambda: [verify_receipt(r, policy) for r in receipts]
        ),
    }
    for name, figure in figures.items():
        print(f"{name:28} {figure:>12,}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
