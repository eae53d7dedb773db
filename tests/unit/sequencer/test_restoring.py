"""The window of duplicates as it is read back from bodies."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pyarrow as pa
import pytest
from tests.unit.sequencer.world import CLINICAL, NOTE_KEY, World, document

from salus.archive.body import SCHEMA, decode_body, encode_table
from salus.archive.duplicates import DuplicateWindow, fingerprints
from salus.ledger.block import body_key, sign_header
from salus.ledger.records import cells_of
from salus.sequencer.adapters.memory import SilentObserver
from salus.sequencer.domain import Tip
from salus.sequencer.errors import ArchiveDamagedError
from salus.sequencer.handlers import restored
from salus.sequencer.rejections import SINGLE_MAX, split
from salus.sequencer.restoring import announcement_of, restore_window
from salus.sequencer.same_log import last_leaves


async def test_the_window_has_the_pairs_of_accepted_rows_and_no_others() -> None:
    world = World.with_hospital()
    for number in (1, 2, 1, 3):
        world.publish(document(number))
    world.publish(b"not an event")
    await world.seal_everything()
    window = DuplicateWindow(100, 10)

    tip = Tip(world.headers()[-1], world.notes()[-1])
    await restore_window(world.sequencer().archive, world.shard, tip, window)

    rows = [row for row in world.rows() if row["status"] == "accepted"]
    texts = [[str(row[name]).encode() for row in rows] for name in ("source", "id")]
    assert len([row for row in rows if row["topic"] == CLINICAL]) == 3
    assert len(window) == len(rows)
    assert window.admit(fingerprints(*map(cells_of, texts))) == bytes(len(rows))


def altered(body: bytes, **columns: list[object] | pa.Array) -> bytes:
    """Return the body with other columns, as somebody with write access to the bucket may put it there."""
    table = decode_body(body)
    for name, values in columns.items():
        cells = pa.array(values, SCHEMA.field(name).type)
        table = table.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), cells)
    return encode_table(table)


def replace_last_body(world: World, column: str, *, of: str, with_: object) -> None:
    """Put another cell into the row of an event in the last body; header and key stay."""
    header = world.headers()[-1]
    key = body_key(0, header.height, header.root)
    body, etag = world.store.objects[key]
    rows = decode_body(body, columns=["id", column]).to_pylist()
    cells = [with_ if row["id"] == of else row[column] for row in rows]
    world.store.objects[key] = (altered(body, **{column: cells}), etag)


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        # The event would be accepted a second time; ...
        pytest.param("id", "x", id="forgotten"),
        # ... one that nobody accepted would be a duplicate; ...
        pytest.param("id", "id-777", id="invented"),
        # ... a rejection that never was would be announced; ...
        pytest.param("status", "rejected:key-revoked", id="rejected"),
        # ... and the log would not be the one that was sealed.
        pytest.param("value", b"{}", id="replaced"),
    ],
)
async def test_a_body_that_its_header_does_not_name_stops_the_sequencer(column: str, cell: object) -> None:
    # case F1
    world = World.with_hospital()
    world.publish(document(1))
    world.publish(b"not an event")
    await world.seal_everything()
    announced, sealed = len(world.announcements.announced), len(world.headers())
    replace_last_body(world, column, of="id-1", with_=cell)
    world.publish(document(1))
    world.publish(document(777))

    with pytest.raises(ArchiveDamagedError, match=r"header names|at most"):
        await world.seal_everything()

    assert len(world.announcements.announced) == announced
    assert len(world.headers()) == sealed


@pytest.mark.parametrize("column", ["id", "status", "value"])
async def test_each_reader_of_a_body_compares_it(column: str) -> None:
    # case F1: whichever of them comes first
    world = World.with_hospital()
    world.publish(b"not an event")
    world.publish(document(1))
    await world.seal_everything()
    replace_last_body(world, column, of="id-1", with_=b"{}" if column == "value" else "rejected:x")
    archive, shard, header = world.sequencer().archive, world.shard, world.headers()[-1]
    tip = Tip(header, world.notes()[-1])
    readers = (
        restore_window(archive, shard, tip, DuplicateWindow(100, 10)),
        last_leaves(archive, shard, tip),
        announcement_of(archive, shard, header),
    )

    for reader in readers:
        with pytest.raises(ArchiveDamagedError, match=r"header names|at most"):
            await reader


@pytest.mark.parametrize("name", ["source", "id"])
async def test_an_accepted_row_without_source_or_id_stops_the_sequencer(name: str) -> None:
    world = World.with_hospital()
    await world.seal_everything()
    header = world.headers()[0]
    key = body_key(0, 0, header.root)
    body, etag = world.store.objects[key]
    damaged = altered(body, **{name: pa.nulls(header.leaves, pa.string())})
    signed = replace(header, body_bytes=len(damaged), body_sha256=sha256(damaged).digest())
    world.store.objects[key] = (damaged, etag)
    tip = Tip(signed, sign_header(signed, NOTE_KEY))

    with pytest.raises(ArchiveDamagedError, match="lacks its id"):
        await restore_window(world.sequencer().archive, world.shard, tip, DuplicateWindow(100, 10))


@pytest.mark.parametrize(("back_s", "said"), [(60, []), (840, [(0, 840.0)])])
async def test_a_start_says_that_the_last_block_is_dated_in_the_future(
    back_s: int, said: list[tuple[int, float]]
) -> None:
    # case B4 of red team B: one block of a wrong clock dates all that come after it
    world = World.with_hospital()
    await world.seal_everything()
    sealed = world.headers()[-1]
    world.clock.time = sealed.time - timedelta(seconds=back_s)
    world.clock.elapsed_ms = 0
    sequencer = world.sequencer()

    await restored(sequencer)

    assert isinstance(sequencer.observer, SilentObserver)
    assert sequencer.observer.ahead == said


async def test_a_block_that_is_announced_again_tells_each_rejection_where_it_was_told_before() -> None:
    # Of the second half the source is known while the block is sealed, and not from the archive.
    world = World.with_hospital()
    half = SINGLE_MAX * 2 // 3
    for _ in range(half):
        world.publish(b"not an event")
    for _ in range(half + 1):
        world.publish(document(1))
    await world.seal_everything()
    first = world.announcements.announced[-1]
    again = await announcement_of(world.sequencer().archive, world.shard, world.headers()[-1])

    assert len(again.rejections) == 2 * half
    (single, groups), (single_again, groups_again) = split(first.rejections), split(again.rejections)
    assert [one.offset for one in single_again] == [one.offset for one in single]
    assert {one.reason for one in single} == {"duplicate"}
    assert groups_again == groups
