"""The window of duplicates as it is read back from bodies."""

from __future__ import annotations

import asyncio

import pyarrow as pa
import pytest
from tests.unit.sequencer.world import CLINICAL, World, document

from salus.archive.body import SCHEMA, decode_body, encode_table
from salus.ledger.block import body_key
from salus.ledger.records import cells_of
from salus.sequencer.duplicates import DuplicateWindow, fingerprints
from salus.sequencer.errors import ArchiveDamagedError
from salus.sequencer.handlers import run
from salus.sequencer.restoring import restore


async def test_the_window_has_the_pairs_of_accepted_rows_and_no_others() -> None:
    world = World.with_hospital()
    for number in (1, 2, 1, 3):
        world.publish(document(number))
    world.publish(b"not an event")
    await world.seal_everything()
    window = DuplicateWindow(100, 10)

    await restore(world.sequencer().archive, world.shard, window=window)

    rows = [row for row in world.rows() if row["status"] == "accepted"]
    texts = [[str(row[name]).encode() for row in rows] for name in ("source", "id")]
    assert len([row for row in rows if row["topic"] == CLINICAL]) == 3
    assert len(window) == len(rows)
    assert window.admit(fingerprints(*map(cells_of, texts))) == bytes(len(rows))


@pytest.mark.parametrize("name", ["source", "id"])
async def test_an_accepted_row_without_source_or_id_stops_the_sequencer(name: str) -> None:
    world = World.with_hospital()
    await world.seal_everything()
    key = body_key(0, 0, world.headers()[0].root)
    body, etag = world.store.objects[key]
    table = decode_body(body)
    none = pa.nulls(len(table), pa.string())
    damaged = encode_table(table.set_column(SCHEMA.get_field_index(name), SCHEMA.field(name), none))
    world.store.objects[key] = (damaged, etag)

    with pytest.raises(ArchiveDamagedError, match="lacks its id"):
        await run(world.sequencer(), asyncio.Event())
