"""Everything that makes receipts, on a network in memory and an index in a folder."""

from __future__ import annotations

from pathlib import Path

from tests.unit.anchoring.world import LOG_ORIGIN, LOG_SIGNER, SHARD_SIGNERS, World

from salus.anchoring.cose import CoseIssuer
from salus.anchoring.event_index import EventIndex
from salus.anchoring.event_lookup import EventLookup
from salus.anchoring.metrics import Metrics
from salus.anchoring.receipt_api import ReceiptService
from salus.anchoring.runner import Runner
from salus.archive.blocks import BlockArchive
from salus.archive.log import LogReader
from salus.archive.receipts import ReceiptMaker
from salus.ledger.block import Header, open_header


def open_note(shard: int, note: bytes) -> Header:
    return open_header(note, SHARD_SIGNERS[shard].verifier)


def lookup_of(world: World, runner: Runner, metrics: Metrics, index: EventIndex) -> EventLookup:
    return EventLookup(index, runner, BlockArchive(world.ledger), metrics, open_note=open_note, share=1)


def receipt_service(world: World, runner: Runner, metrics: Metrics, folder: Path) -> ReceiptService:
    index = EventIndex(folder / "events.sqlite", log=LOG_ORIGIN)
    maker = ReceiptMaker(BlockArchive(world.ledger), LogReader(world.log), open_note=open_note)
    lookup = lookup_of(world, runner, metrics, index)
    return ReceiptService(runner, maker, lookup, metrics, CoseIssuer(LOG_SIGNER.verifier, LOG_SIGNER))
