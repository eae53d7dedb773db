from __future__ import annotations

import pytest

from salus.archive.body import BodyColumns, encode_body
from salus.cli.exits import CommandError, Exit
from salus.cli.querying import ask, copy_archive
from salus.ledger.block import body_key, header_key
from salus.objects.memory import MemoryObjects

TOPIC = "salus.clinical.events"


def body(offset: int) -> bytes:
    columns = BodyColumns()
    columns.topic.append(TOPIC)
    columns.partition.append(0)
    columns.offset.append(offset)
    columns.status.append("accepted")
    for name in ("id", "source", "type", "subject", "time", "digest", "signature", "value"):
        getattr(columns, name).append(None)
    columns.leaf_hash.append(bytes(32))
    return encode_body(columns)


class Named:
    """A header of which only the root matters here."""

    def __init__(self, root: bytes) -> None:
        self.root = root


@pytest.fixture
async def store():
    objects = MemoryObjects()
    for height in range(2):
        await objects.put(body_key(0, height, bytes([height]) * 32), body(height))
        await objects.put(header_key(0, height), bytes([height]))
    return objects


def open_header(_shard, note):
    return Named(note * 32)


async def test_a_query_sees_every_leaf_with_its_block(store, tmp_path):
    files = await copy_archive(store, open_header, tmp_path)

    columns, rows = ask('select shard, height, "offset" from leaves order by height', files)

    assert columns == ["shard", "height", "offset"]
    assert rows == [(0, 0, 0), (0, 1, 1)]


async def test_a_body_that_lost_its_race_is_not_seen(store, tmp_path):
    await store.put(body_key(0, 1, b"\x99" * 32), body(77))
    await store.put(body_key(0, 2, b"\x98" * 32), body(78))

    files = await copy_archive(store, open_header, tmp_path)

    assert ask('select "offset" from leaves order by 1', files)[1] == [(0,), (1,)]


async def test_what_was_copied_once_is_not_fetched_again(store, tmp_path):
    first = await copy_archive(store, open_header, tmp_path)
    for path in first:
        path.write_bytes(body(5))

    again = await copy_archive(store, open_header, tmp_path)

    assert ask('select distinct "offset" from leaves', again)[1] == [(5,)]


async def test_a_wrong_query_and_an_empty_archive_are_said_in_words(store, tmp_path):
    files = await copy_archive(store, open_header, tmp_path)

    with pytest.raises(CommandError, match="nope") as wrong:
        ask("select nope from leaves", files)
    with pytest.raises(CommandError, match="no blocks") as empty:
        ask("select 1", [])

    assert (wrong.value.code, empty.value.code) == (Exit.USAGE, Exit.NO)
