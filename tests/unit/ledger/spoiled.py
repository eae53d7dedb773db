"""Receipts that fail at one step each, for everything that verifies receipts."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from tests.unit.ledger.network import World

from salus.ledger.block import sign_header
from salus.ledger.checkpoint import sign_checkpoint
from salus.ledger.note import sign_note
from salus.ledger.quorum import Quorum
from salus.ledger.receipt import Receipt, parse_receipt
from salus.ledger.tlog_policy import TlogPolicy

# What people read, by the code of the step.
SENTENCES = {
    "leaf": "The record's position lies within the block",
    "block-path": "The record is in the block",
    "header-signature": "The block is signed by its sequencer",
    "checkpoint-signature": "The checkpoint is signed by the log",
    "log-path": "The block is in the log",
    "quorum": "Enough witnesses have cosigned the checkpoint",
}


@dataclass(frozen=True)
class Spoiled:
    """A receipt and the step that it fails at."""

    code: str
    receipt: bytes


def network_json(world: World) -> bytes:
    """Return the world's network.json: its Ed25519 witness must cosign, whom browsers can check."""
    return json.dumps(
        {
            "log": {"origin": world.log.name, "verifier_key": world.log.vkey},
            "shards": [{"id": 0, "origin": world.shard.name, "verifier_key": world.shard.vkey}],
            "policy": TlogPolicy((), Quorum.of(1, [world.witnesses[0].verifier])).lines(),
        }
    ).encode()


def spoiled(world: World) -> list[Spoiled]:
    """Return one receipt for each step, right but for what that step checks."""
    whole = parse_receipt(world.receipt())
    in_block, in_log = whole.in_block, whole.in_log
    forged_header = sign_note(world.header.text(), [world.log])
    other_header = sign_header(replace(world.header, height=5), world.shard)
    forged_checkpoint = sign_note(world.checkpoint.text(), [world.shard])
    uncosigned = sign_checkpoint(world.checkpoint, [world.log])
    changed = {
        "leaf": Receipt(replace(in_block, extra=replace(world.leaves[3], offset=99).data()), in_log),
        "block-path": Receipt(replace(in_block, path=(bytes(32), *in_block.path[1:])), in_log),
        "header-signature": Receipt(replace(in_block, checkpoint=forged_header), in_log),
        "checkpoint-signature": Receipt(in_block, replace(in_log, checkpoint=forged_checkpoint)),
        "log-path": Receipt(replace(in_block, checkpoint=other_header), in_log),
        "quorum": Receipt(in_block, replace(in_log, checkpoint=uncosigned)),
    }
    return [Spoiled(code, receipt.encode()) for code, receipt in changed.items()]
