"""`salus shard end`: the chain of a shard whose key was stolen ends before its first forged block."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from salus.archive.blocks import BlockArchive
from salus.archive.log import LogReader
from salus.cli.callers import As, KeyFile, KeyId, signer_of
from salus.cli.checking import whom_and_where
from salus.cli.console import Json, emit, narration, out
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.key_rotation import Reason, record_end
from salus.cli.sharding import ended_shards
from salus.cli.shards import app, standing_of
from salus.cli.signed_positions import SignedPositions
from salus.cli.state import running_platform
from salus.devkit.key_files import KeyEntry, KeyFiles
from salus.devkit.platform import Platform
from salus.ledger.block import parse_block_origin, parse_header
from salus.ledger.errors import LedgerError
from salus.ledger.note import split_note

_WRONG_BLOCK = re.compile(r"ForeignBlockError: block (\d+) of")


@app.command()
def end(  # an operator's choices
    shard: Annotated[int, typer.Argument(min=0, help="The id of the shard whose key was stolen.")],
    before: Annotated[
        int,
        typer.Option(
            min=1, help="The first forged block: that one and all behind it count nowhere any more."
        ),
    ],
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """End a shard's chain before the first block that its stolen key forged.

    network.json and the ledger say so. What lies behind, honest blocks too, counts nowhere, and its receipts
    verify no more: `salus shard assign` the partitions to another shard, which seals the records again.
    """
    platform = running_platform()
    operator = signer_of(platform, as_name, key, key_id)

    async def work() -> KeyEntry:
        await require_endable(platform, shard, before)
        entry = KeyFiles(platform.network).end(shard, before=before)
        await record_end(platform, operator, entry, Reason.COMPROMISED)
        return entry

    with narration(quiet=as_json) as narrator:
        narrator.step(f"ending shard {shard} before block {before}")
        entry = run_until_signal(work())
    if as_json:
        emit({"shard": shard, "origin": entry.name, "end": before})
        return
    sentence = (
        f"{entry.name} ends with block {before - 1}: give the new network.json to everybody who verifies, "
    )
    does = f"`salus shard assign` its partitions to another shard, then `salus shard remove {shard}`"
    out.print(f"{sentence}{does}", highlight=False, soft_wrap=True)


async def require_endable(platform: Platform, shard: int, before: int) -> None:
    """Raise CommandError unless the sequencer stands still, and no other shard has built on what would go.

    An honest sequencer judges again what others sealed: what it halted on is not before the end.
    """
    network = platform.network.read()
    if shard not in {known["id"] for known in network["shards"]}:
        raise CommandError(Exit.USAGE, f"the network has no shard {shard}")
    standing = await standing_of(platform, shard)
    if standing is not None and not standing.halted and shard not in ended_shards(network):
        why = f"the sequencer of shard {shard} seals: nothing was found to be forged"
        does = f"`salus key rotate sequencer --number {shard}` replaces a key that was stolen"
        raise CommandError(Exit.NO, f"{why}; {does}")
    wrong = _WRONG_BLOCK.search((standing and standing.trouble) or "")
    if wrong is not None and int(wrong[1]) < before:
        raise CommandError(
            Exit.NO, f"the sequencer halted on block {wrong[1]}: end the chain before that one"
        )
    stores = whom_and_where(None)[1].open()
    archive = BlockArchive(stores.ledger)
    positions = SignedPositions(platform.network, archive, LogReader(stores.log))
    # What lies behind is about to be void, so nobody asks whether it is whole.
    if await positions.header(shard, before - 1) is None:
        raise CommandError(Exit.NO, f"shard {shard} has no block {before - 1} that would be its last one")
    if shard not in ended_shards(network) and await archive.header(shard, before) is None:
        raise CommandError(Exit.NO, f"shard {shard} has no block {before}: its last one is {before - 1}")
    await _require_not_taken(positions, shard, before)


async def _require_not_taken(positions: SignedPositions, shard: int, before: int) -> None:
    """Raise CommandError if another shard's block took from what would be void."""
    origins = {known["id"]: known["origin"] for known in positions.folder.read()["shards"]}
    for other in sorted(origins.keys() - {shard}):
        height = 0
        while await positions.blocks.header(other, height) is not None:
            # What its keys did not sign took nothing.
            taken = _taken_from(await positions.header(other, height) or b"", origins[shard])
            if any(giver >= before for giver in taken):
                sentence = f"block {height} of shard {other} took from block {max(taken)} of shard {shard}"
                does = f"`salus shard end {other} --before {height}` first"
                raise CommandError(Exit.NO, f"{sentence}: {does if height else 'it has no block before'}")
            height += 1


def _taken_from(note: bytes, origin: str) -> list[int]:
    """Return the heights of the shard's blocks that a header takes partitions from."""
    try:
        header = parse_header(split_note(note)[0])
        givers = [parse_block_origin(line.other) for line in header.handovers if line.way == "took"]
    except (LedgerError, ValueError):
        return []
    return [height for giver, height in givers if giver == origin]
