"""Receipts out of the archive verify; what is damaged never becomes one."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.archive.small_ledger import SHARD_SIGNERS

from salus.archive.blocks import BlockArchive
from salus.archive.building import TOPIC
from salus.archive.errors import DamagedError, MissingError, NoSuchRecordError
from salus.archive.log import LogReader
from salus.archive.receipts import BLOCKS_AT_ONCE_MAX, Anchored, ReceiptMaker, RecordPosition
from salus.ledger.block import header_key, open_header, sign_header
from salus.ledger.receipt import VerifiedReceipt, verify_receipt


def maker_of(ledger: Any, *, leaves_cached_max: int = 1000) -> ReceiptMaker:
    return ReceiptMaker(
        BlockArchive(ledger.ledger),
        LogReader(ledger.log),
        open_note=lambda shard, note: open_header(note, SHARD_SIGNERS[shard].verifier),
        leaves_cached_max=leaves_cached_max,
    )


async def receipt_of(ledger: Any, maker: ReceiptMaker, record: RecordPosition) -> VerifiedReceipt:
    standing = ledger.anchor.published
    entry = ledger.anchor.index.find(record.topic, record.partition, record.offset)
    shard, height = ledger.anchor.index.block_at(entry)
    at = Anchored(shard, height, entry)
    note = standing.head.checkpoint.encode()
    data = await maker.receipt(record, at, checkpoint=standing.checkpoint, checkpoint_note=note)
    return verify_receipt(data, ledger.policy)


async def test_every_record_of_the_ledger_has_a_receipt_that_verifies(small_ledger: Any) -> None:
    maker = maker_of(small_ledger)
    rows = [(p, o) for p, count in ((0, 8), (1, 6), (2, 8)) for o in range(count)] + [
        (0, 8),
        (0, 11),
        (0, 12),
    ]

    for partition, offset in rows:
        verified = await receipt_of(small_ledger, maker, RecordPosition(TOPIC, partition, offset))

        assert (verified.leaf.partition, verified.leaf.offset) == (partition, offset)


async def test_the_receipt_of_a_rejected_record_says_why_it_was_rejected(small_ledger: Any) -> None:
    verified = await receipt_of(small_ledger, maker_of(small_ledger), RecordPosition(TOPIC, 0, 11))

    assert verified.leaf.status == "rejected:missing-signature"


async def test_an_offset_that_no_record_has_is_told_apart(small_ledger: Any) -> None:
    with pytest.raises(NoSuchRecordError):
        await receipt_of(small_ledger, maker_of(small_ledger), RecordPosition(TOPIC, 0, 9))


async def test_a_block_is_read_once_for_many_callers(small_ledger: Any) -> None:
    reads: list[str] = []
    get = small_ledger.ledger.get

    async def counted(key: str, *, bytes_max: int) -> bytes:
        reads.append(key)
        await asyncio.sleep(0)
        return bytes(await get(key, bytes_max=bytes_max))

    small_ledger.ledger.get = counted
    maker = maker_of(small_ledger)

    await asyncio.gather(
        *(receipt_of(small_ledger, maker, RecordPosition(TOPIC, 0, offset)) for offset in (0, 1, 2, 0))
    )

    assert len(reads) == 2


async def test_the_cache_keeps_what_was_used_last_and_no_more_leaves_than_allowed(small_ledger: Any) -> None:
    maker = maker_of(small_ledger, leaves_cached_max=6)
    for offset in (0, 3, 4):
        await receipt_of(small_ledger, maker, RecordPosition(TOPIC, 0, offset))

    assert list(maker._cached) == [(0, 2)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_receipt_is_made_of_a_damaged_block(small_ledger: Any, data: Any) -> None:
    key = next(k for k in small_ledger.ledger.objects if k.startswith("shard/0/000000000002/body"))
    kept = small_ledger.ledger.objects[key]
    place = data.draw(st.integers(0, len(kept[0]) - 1))
    small_ledger.flip("ledger", key, place)

    try:
        with pytest.raises(DamagedError):
            asyncio.run(receipt_of(small_ledger, maker_of(small_ledger), RecordPosition(TOPIC, 0, 4)))
    finally:
        small_ledger.ledger.objects[key] = kept


async def test_no_receipt_is_made_of_a_damaged_header(small_ledger: Any) -> None:
    small_ledger.flip("ledger", header_key(0, 2), 200)

    with pytest.raises(DamagedError, match="header"):
        await receipt_of(small_ledger, maker_of(small_ledger), RecordPosition(TOPIC, 0, 4))


async def test_no_receipt_is_made_of_a_signed_header_that_is_not_in_the_log(small_ledger: Any) -> None:
    chain = small_ledger.chains[0]
    later = replace(chain.headers[2], time=chain.headers[2].time.replace(hour=23))
    small_ledger.ledger.objects[header_key(0, 2)] = (sign_header(later, chain.note_signer), '"x"')

    with pytest.raises(DamagedError, match="checkpoint"):
        await receipt_of(small_ledger, maker_of(small_ledger), RecordPosition(TOPIC, 0, 4))


async def test_no_receipt_is_made_over_a_damaged_tile(small_ledger: Any) -> None:
    small_ledger.flip("log", "tile/0/000.p/8", 5)

    with pytest.raises(DamagedError, match="tiles"):
        await receipt_of(small_ledger, maker_of(small_ledger), RecordPosition(TOPIC, 0, 4))


async def test_a_damaged_tile_is_not_kept_once_it_was_repaired(small_ledger: Any) -> None:
    """Case X1b, sibling: the cache of tiles kept what was bad, until anchoring was started anew."""
    maker = maker_of(small_ledger)
    tiles = [key for key in small_ledger.log.objects if key.startswith("tile/0/")]
    for key in tiles:
        small_ledger.flip("log", key, 40)
    with pytest.raises(DamagedError, match="not those that the checkpoint covers"):
        await receipt_of(small_ledger, maker, RecordPosition(TOPIC, 0, 0))
    for key in tiles:
        small_ledger.flip("log", key, 40)

    assert await receipt_of(small_ledger, maker, RecordPosition(TOPIC, 0, 0))


@pytest.mark.parametrize("kind", ["header", "body"])
async def test_a_missing_object_is_named(small_ledger: Any, kind: str) -> None:
    key = next(k for k in small_ledger.ledger.objects if k.startswith(f"shard/0/000000000002/{kind}"))
    del small_ledger.ledger.objects[key]

    with pytest.raises(MissingError) as raised:
        await receipt_of(small_ledger, maker_of(small_ledger), RecordPosition(TOPIC, 0, 4))

    assert raised.value.key == key


async def test_a_block_that_could_not_be_read_is_tried_again(small_ledger: Any) -> None:
    maker = maker_of(small_ledger)
    small_ledger.ledger.away = True
    with pytest.raises(Exception, match="away"):
        await receipt_of(small_ledger, maker, RecordPosition(TOPIC, 0, 4))
    small_ledger.ledger.away = False

    assert (await receipt_of(small_ledger, maker, RecordPosition(TOPIC, 0, 4))).leaf.offset == 4


# case F19
async def test_whoever_asks_for_many_blocks_at_once_has_a_few_read_at_a_time() -> None:
    now, most, asked = 0, 0, 50

    class Blocks:
        async def header(self, shard: int, height: int) -> None:  # noqa: ARG002  # what the archive takes
            nonlocal now, most
            now += 1
            most = max(most, now)
            for _ in range(asked):
                await asyncio.sleep(0)
            now -= 1

    maker = ReceiptMaker(Blocks(), cast("Any", None), open_note=cast("Any", None))  # type: ignore[arg-type]
    made = await asyncio.gather(
        *(maker.block(Anchored(0, n, n)) for n in range(asked)), return_exceptions=True
    )

    assert {type(error) for error in made} == {MissingError}
    assert most == BLOCKS_AT_ONCE_MAX
