"""Whoever checks a ledger reads no object that is larger than one of its kind (case F8)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from tests.unit.archive.small_ledger import SmallLedger

from salus.anchoring.log_bucket import LogBucket
from salus.archive.blocks import BlockArchive
from salus.archive.errors import DamagedError, HeadError
from salus.archive.fsck import Stores, fsck
from salus.archive.head import HEAD_BYTES_MAX, HEAD_KEY
from salus.archive.log import CHECKPOINT_KEY, LogReader
from salus.ledger.block import HEADER_BYTES_MAX, body_key, header_key
from salus.ledger.note import NOTE_BYTES_MAX
from salus.ledger.tiles import ENTRY_BYTES_MAX, TILE_WIDTH, TileRef
from salus.objects.memory import MemoryObjects

TILE_BYTES = TILE_WIDTH * 32
BUNDLE_BYTES = TILE_WIDTH * (2 + ENTRY_BYTES_MAX)


@dataclass
class MeasuredObjects(MemoryObjects):
    """A bucket that notes the largest object that it handed out."""

    largest: int = field(default=0)

    async def get(self, key: str, *, bytes_max: int) -> bytes:
        data = await super().get(key, bytes_max=bytes_max)
        self.largest = max(self.largest, len(data))
        return data


async def codes_after(ledger: SmallLedger, bucket: str, key: str, size: int) -> set[tuple[str, str]]:
    """Put an object of this size there, and return what fsck says; it has read nothing that is as large."""
    stores = {"ledger": MeasuredObjects(), "log": MeasuredObjects()}
    for name, measured in stores.items():
        measured.objects = dict(ledger.bucket(name).objects)
    stores[bucket].plant(key, bytes(size))

    report = await fsck(Stores(stores["ledger"], stores["log"]), ledger.trust)

    assert stores[bucket].largest < size
    return {(f.code, f.key) for f in report.errors}


@pytest.mark.parametrize(
    ("key", "bytes_max", "code"),
    [
        (CHECKPOINT_KEY, NOTE_BYTES_MAX, "checkpoint-unreadable"),
        (HEAD_KEY, HEAD_BYTES_MAX, "head-wrong"),
        # One that no tree of this size has.
        ("tile/0/x999/999", TILE_BYTES, "tile-wrong"),
        ("tile/0/000", TILE_BYTES, "tile-wrong"),
        ("tile/entries/000", BUNDLE_BYTES, "bundle-wrong"),
    ],
)
async def test_an_object_of_the_log_is_not_read_beyond_its_size(
    small_ledger: SmallLedger, key: str, bytes_max: int, code: str
) -> None:
    assert await codes_after(small_ledger, "log", key, bytes_max + 1) == {(code, key)}


async def test_a_header_is_not_read_beyond_its_size(small_ledger: SmallLedger) -> None:
    key = header_key(0, 1)

    found = await codes_after(small_ledger, "ledger", key, HEADER_BYTES_MAX + 1)

    assert found == {("header-unreadable", key)}


async def test_a_body_is_not_read_beyond_what_its_header_says(small_ledger: SmallLedger) -> None:
    header = small_ledger.chains[0].headers[1]
    key = body_key(0, 1, header.root)

    assert await codes_after(small_ledger, "ledger", key, header.body_bytes + 10**6) == {("body-hash", key)}

    small_ledger.ledger.plant(key, bytes(header.body_bytes + 1))
    archive = BlockArchive(small_ledger.ledger)
    with pytest.raises(DamagedError, match="at most"):
        await archive.body(0, header)
    small_ledger.ledger.objects[key] = (Endless(), "etag")  # type: ignore[assignment]  # a size alone
    with pytest.raises(DamagedError, match="at most 268435456"):
        await archive.body(0, replace(header, body_bytes=1 << 40))


class Endless:
    """As long as any header could say."""

    def __len__(self) -> int:
        return 1 << 40


async def test_a_log_reader_takes_no_larger_tile_or_checkpoint(small_ledger: SmallLedger) -> None:
    reader = LogReader(small_ledger.log)
    small_ledger.log.plant("tile/0/000.p/8", bytes(8 * 32 + 1))
    small_ledger.log.plant(CHECKPOINT_KEY, bytes(NOTE_BYTES_MAX + 1))

    with pytest.raises(DamagedError, match="at most 256"):
        await reader.tile(TileRef(0, 0, 8))
    with pytest.raises(DamagedError, match="at most"):
        await reader.checkpoint()


@pytest.mark.parametrize("key", [HEAD_KEY, CHECKPOINT_KEY])
async def test_anchoring_does_not_stand_on_a_head_that_is_too_large(
    small_ledger: SmallLedger, key: str
) -> None:
    bucket = LogBucket(small_ledger.log, small_ledger.anchor._bucket._keys)
    loaded = await bucket.load_head()
    assert loaded is not None
    small_ledger.log.plant(key, bytes(HEAD_BYTES_MAX + 1))

    with pytest.raises(HeadError, match="at most"):
        await (bucket.load_head() if key == HEAD_KEY else bucket.shows(loaded[0]))
