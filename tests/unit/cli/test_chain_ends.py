"""`salus shard end`: a chain ends before what was forged first, once, and nobody builds on what goes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
from tests.unit.cli.test_key_rotation import SHARD, Change, answering, change, recorded

from salus.archive.blocks import BlockArchive
from salus.archive.building import ChainBuilder
from salus.archive.log import LogReader
from salus.cli import chain_ends
from salus.cli.chain_ends import require_endable
from salus.cli.exits import CommandError
from salus.cli.key_rotation import Reason, record_end
from salus.cli.sharding import Standing, ended_shards, first_shards
from salus.cli.signed_positions import SignedPositions
from salus.crypto.keys import load_ed25519
from salus.devkit.errors import DevkitError
from salus.devkit.key_files import KeyFiles, Owner
from salus.devkit.platform import Platform
from salus.events.contexts.network import KeyRetired
from salus.events.did import LocalSigner
from salus.ledger.block import Handover, header_key
from salus.ledger.note import NoteSigner

__all__ = ["change"]
AUTHOR = LocalSigner.from_seed(b"A" * 32)
AT = ("salus.clinical.events", 0)
HALTED = "ForeignBlockError: block 2 of shard 0 was sealed by another process, and wrongly: …"


def chain(change: Change, shard: int) -> ChainBuilder:
    origin = change.folder.add_shard(shard)["origin"]
    signer = NoteSigner(origin, load_ed25519(change.folder.key_file(f"shard-{shard}")))
    return ChainBuilder(change.ledger, signer, AUTHOR, shard=shard)


@pytest.fixture
async def platform(change: Change, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """A platform whose shard 0 has four blocks, of which the sequencer says that 2 was forged."""
    stores = SimpleNamespace(open=lambda: SimpleNamespace(ledger=change.ledger, log=change.log))
    monkeypatch.setattr(chain_ends, "whom_and_where", lambda _: (None, stores))
    monkeypatch.setattr(chain_ends, "standing_of", answering(Standing(None, {}, (), HALTED, halted=True)))
    own = chain(change, 0)
    own.cover([AT])
    for _ in range(4):
        await own.seal_samples(1)
    return cast("Platform", SimpleNamespace(network=change.folder, kafka_bootstrap=""))


async def test_a_chain_ends_once_and_the_ledger_says_so(platform: Platform, change: Change) -> None:
    files = KeyFiles(change.folder)
    files.add(SHARD, first=3)
    await require_endable(platform, 0, 2)
    entry = files.end(0, before=2)
    await record_end(platform, AUTHOR, entry, Reason.COMPROMISED)

    assert [(known.first, known.end) for known in files.of(SHARD)] == [(0, 2)]
    assert ended_shards(change.folder.read()) == {0: 2}
    [told] = recorded(KeyRetired)
    assert isinstance(told, KeyRetired)
    assert (told.end, told.reason) == (2, "compromised")
    await require_endable(platform, 0, 2)
    assert files.end(0, before=2) == entry
    with pytest.raises(DevkitError, match="ended before block 2 already"):
        files.end(0, before=1)


@pytest.mark.parametrize(
    ("shard", "before", "why"),
    [(7, 1, "no shard 7"), (0, 3, "halted on block 2"), (0, 9, "halted on block 2")],
)
async def test_a_chain_does_not_end_behind_what_was_forged(
    platform: Platform, shard: int, before: int, why: str
) -> None:
    with pytest.raises(CommandError, match=why):
        await require_endable(platform, shard, before)


async def test_a_chain_ends_with_a_block_that_it_has(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chain_ends, "standing_of", answering(None))
    with pytest.raises(CommandError, match="its last one is 3"):
        await require_endable(platform, 0, 4)


async def test_a_chain_that_goes_on_does_not_end(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain_ends, "standing_of", answering(Standing(0, {}, (), None)))
    with pytest.raises(CommandError, match="nothing was found to be forged"):
        await require_endable(platform, 0, 2)


@pytest.mark.parametrize("height", [2, 3, 4, 7])
async def test_worthless_objects_keep_no_chain_from_its_end(
    platform: Platform, change: Change, height: int
) -> None:
    """Case redB8 5: any sequencer's account of the store can leave such a thing, which nobody can remove."""
    await chain(change, 1).seal([])
    for shard in (0, 1):
        await change.ledger.put(header_key(shard, height), b"garbage")
    await require_endable(platform, 0, 2)
    positions = SignedPositions(change.folder, BlockArchive(change.ledger), LogReader(change.log))

    if height == 7:
        assert await positions.next(Owner("sequencer", 0)) == 4
    else:
        # It stands where a block stands, or may have stood.
        with pytest.raises(CommandError, match="is not what was signed"):
            await positions.next(Owner("sequencer", 0))
    assert await positions.next(Owner("sequencer", 1)) == 1


async def test_who_took_from_a_block_that_goes_is_named(platform: Platform, change: Change) -> None:
    origin = change.folder.read()["shards"][0]["origin"]
    other = chain(change, 1)
    await other.seal([])
    await other.seal([], handovers=[Handover("took", *AT, 3, f"{origin}/block/2")])

    with pytest.raises(CommandError, match="salus shard end 1 --before 1"):
        await require_endable(platform, 0, 2)


def test_partitions_are_dealt_to_shards_that_go_on() -> None:
    assert first_shards([0], 1, without=[0]) == [1]
    assert first_shards([0, 1, 2], 2, without=[1]) == [0, 2]
    assert first_shards([0, 1], 3, without=[0]) == [1, 2, 3]
