"""Everything on the ledger comes out again, partition by partition without a gap, or nothing is concluded."""

from __future__ import annotations

import pytest
from tests.unit.archive.small_ledger import SmallLedger

from salus.archive.building import TOPIC
from salus.archive.errors import DamagedError
from salus.archive.log import CHECKPOINT_KEY, LogReader
from salus.archive.replay import ReplayError, SealedRecord, logged_headers, replay
from salus.ledger.block import header_key
from salus.ledger.checkpoint import open_checkpoint


async def logged(ledger: SmallLedger) -> set[bytes]:
    checkpoint = open_checkpoint(await ledger.log.get(CHECKPOINT_KEY, bytes_max=1 << 30), ledger.trust.log)[0]
    return await logged_headers(LogReader(ledger.log), checkpoint, ledger.trust)


async def replayed(ledger: SmallLedger) -> list[SealedRecord]:
    blocks = replay(ledger.ledger, ledger.trust, await logged(ledger))
    return [record async for block in blocks for record in block.records()]


async def test_every_offset_comes_in_turn(small_ledger: SmallLedger) -> None:
    records = await replayed(small_ledger)

    of = {n: [r for r in records if (r.topic, r.partition) == (TOPIC, n)] for n in range(3)}
    assert {n: [r.offset for r in found] for n, found in of.items()} == {
        0: list(range(13)),
        1: list(range(6)),
        2: list(range(8)),
    }
    assert all(r.value and r.signature and r.subject for r in of[1])
    assert [(r.status, r.value, r.digest is None) for r in of[0][8:]] == [
        ("rejected:tombstone", None, False),
        ("", None, True),
        ("", None, True),
        ("rejected:missing-signature", None, False),
        ("rejected:malformed-signature", None, False),
    ]


async def test_blocks_of_shards_come_in_the_order_of_a_partition_that_both_had(
    small_ledger: SmallLedger,
) -> None:
    records = await replayed(small_ledger)

    reached: dict[tuple[str, int], int] = {}
    for record in records:
        assert record.offset == reached.get((record.topic, record.partition), 0)
        reached[record.topic, record.partition] = record.offset + 1


async def test_a_header_under_the_checkpoint_that_is_gone_is_missed(small_ledger: SmallLedger) -> None:
    del small_ledger.ledger.objects[header_key(0, 4)]

    with pytest.raises(ReplayError, match="1 headers under the checkpoint"):
        await replayed(small_ledger)


async def test_a_header_in_the_middle_that_is_gone_stops_it(small_ledger: SmallLedger) -> None:
    del small_ledger.ledger.objects[header_key(0, 1)]

    with pytest.raises(ReplayError):
        await replayed(small_ledger)


@pytest.mark.parametrize("what", ["header", "parquet"])
async def test_a_changed_block_stops_it(small_ledger: SmallLedger, what: str) -> None:
    [key] = [k for k in small_ledger.ledger.objects if k.startswith("shard/1/000000000001") and what in k]
    small_ledger.flip("ledger", key, 40)

    with pytest.raises(DamagedError):
        await replayed(small_ledger)


async def test_entries_that_are_not_under_the_checkpoint_are_not_believed(small_ledger: SmallLedger) -> None:
    [key] = [k for k in small_ledger.log.objects if k.startswith("tile/entries") and k.endswith("/8")]
    small_ledger.flip("log", key, 60)

    with pytest.raises(DamagedError):
        await logged(small_ledger)
