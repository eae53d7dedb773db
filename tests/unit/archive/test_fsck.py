"""fsck finds every damage, names the object that is damaged, and accuses no other."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.effort import tries
from tests.unit.archive.small_ledger import (
    LOG_ORIGIN,
    LOG_SIGNER,
    SHARD_SIGNERS,
    SmallLedger,
    note_key,
    rejected_records,
)

from salus.archive.body import SCHEMA, BodyColumns, decode_body, encode_body
from salus.archive.building import TOPIC, columns_of, sample_records
from salus.archive.fsck import Stores, fsck
from salus.archive.log import CHECKPOINT_KEY
from salus.archive.report import CODES, NOTES, Progress
from salus.archive.trust import Trust
from salus.ledger.block import body_key, header_key, sign_header
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.note import NoteSigner
from salus.ledger.tiles import new_tiles
from salus.objects import StoreAwayError
from salus.objects.memory import MemoryObjects


async def test_a_whole_ledger_is_clean(small_ledger: Any) -> None:
    report = await fsck(small_ledger.stores, small_ledger.trust)

    assert report.ok
    assert report.findings == []
    assert report.size == report.counts.log_entries == report.counts.blocks == 8
    assert report.counts.rows == 3 + 1 + 4 + 6 + 3 + 1 + 4 + 3
    assert report.counts.tiles > 0


def keys_of(ledger: Any) -> list[tuple[str, str]]:
    return [("ledger", key) for key in sorted(ledger.ledger.objects)] + [
        ("log", key) for key in sorted(ledger.log.objects)
    ]


@settings(
    max_examples=tries(40, long=20_000),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_one_flipped_bit_anywhere_is_found_and_blamed_on_its_object(small_ledger: Any, data: Any) -> None:
    damaged = copy.deepcopy(small_ledger)
    bucket, key = data.draw(st.sampled_from(keys_of(damaged)), label="object")
    size = len(damaged.bucket(bucket).objects[key][0])
    byte = data.draw(st.integers(0, size - 1), label="byte")
    bit = data.draw(st.integers(0, 7), label="bit")
    damaged.flip(bucket, key, byte, bit)

    report = asyncio.run(fsck(damaged.stores, damaged.trust))

    assert {(f.bucket, f.key) for f in report.errors} == {(bucket, key)}
    assert {f.code for f in report.errors} <= CODES.keys()


async def test_every_single_object_is_missed_when_its_middle_byte_is_changed(small_ledger: Any) -> None:
    for bucket, key in keys_of(small_ledger):
        damaged = copy.deepcopy(small_ledger)
        damaged.flip(bucket, key, len(damaged.bucket(bucket).objects[key][0]) // 2)

        report = await fsck(damaged.stores, damaged.trust)

        assert {(f.bucket, f.key) for f in report.errors} == {(bucket, key)}


async def test_every_single_object_is_missed_when_it_is_gone(small_ledger: Any) -> None:
    older = {"tile/0/000.p/2", "tile/0/000.p/4", "tile/0/000.p/6"}
    replaced = older | {path.replace("/0/", "/entries/") for path in older}
    for bucket, key in keys_of(small_ledger):
        damaged = copy.deepcopy(small_ledger)
        del damaged.bucket(bucket).objects[key]

        report = await fsck(damaged.stores, damaged.trust)

        # Partial tiles of earlier checkpoints may go: a wider one is there.
        expected = set() if key in replaced else {(bucket, key)}
        assert {(f.bucket, f.key) for f in report.errors} == expected


def reseal_body(ledger: Any, height: int, **changes: tuple[int, object]) -> str:
    """Write a body again in which some cells are others; return its key."""
    key: str = next(k for k in ledger.ledger.objects if k.startswith(f"shard/0/{height:012d}/body"))
    columns = decode_body(ledger.ledger.objects[key][0]).to_pydict()
    for name, (row, value) in changes.items():
        columns[name][row] = value
    ledger.ledger.objects[key] = (encode_body(BodyColumns(**columns)), '"changed"')
    return key


async def test_a_changed_value_is_named_with_its_row_and_event(small_ledger: Any) -> None:
    key = reseal_body(small_ledger, 1, value=(0, b"{}"))

    report = await fsck(small_ledger.stores, small_ledger.trust)

    codes = {f.code for f in report.errors}
    assert codes == {"body-hash", "row-wrong", "row-columns"}
    row = next(f for f in report.errors if f.code == "row-wrong")
    assert (row.key, row.shard, row.height, row.row) == (key, 0, 1, 0)
    assert (row.topic, row.partition, row.offset, row.event) == (TOPIC, 0, 3, "event-3")
    assert "event-3" in str(row)


@pytest.mark.parametrize(
    ("column", "cell", "code"),
    [
        ("status", "rejected:duplicate", "row-wrong"),
        ("signature", b"v1 another", "row-wrong"),
        ("offset", 10, "row-wrong"),
        ("partition", 7, "row-wrong"),
        ("topic", "salus.lab.events", "row-wrong"),
        ("leaf_hash", bytes(32), "leaf-hash-wrong"),
        ("id", "another", "row-columns"),
        ("source", "did:key:zAnother", "row-columns"),
        ("type", "salus.lab.result-released.v1", "row-columns"),
        ("subject", None, "row-columns"),
        ("time", None, "row-columns"),
        ("digest", bytes(32), "row-malformed"),
    ],
)
async def test_a_changed_cell_is_named(small_ledger: Any, column: str, cell: object, code: str) -> None:
    reseal_body(small_ledger, 2, **{column: (1, cell)})

    report = await fsck(small_ledger.stores, small_ledger.trust)

    assert code in {f.code for f in report.errors if f.row == 1}
    assert {f.row for f in report.errors} <= {1, None}


async def test_a_page_that_cannot_be_decoded_is_named_by_column_and_rows(small_ledger: Any) -> None:
    key = next(k for k in small_ledger.ledger.objects if k.startswith("shard/0/000000000000/body"))
    body = small_ledger.ledger.objects[key][0]
    column = pq.ParquetFile(pa.BufferReader(body)).metadata.row_group(0).column(SCHEMA.names.index("value"))
    small_ledger.flip("ledger", key, column.data_page_offset + column.total_compressed_size - 9)

    report = await fsck(small_ledger.stores, small_ledger.trust)

    changed = next(f for f in report.errors if f.code == "body-hash")
    assert "column value of rows 0 to 4" in changed.detail


async def test_values_kept_of_a_rejected_record_are_an_error_even_if_signed(small_ledger: Any) -> None:
    chain = small_ledger.chains[0]
    rows = rejected_records(first=20)
    columns = columns_of(rows)
    columns.value[1] = rows[1].value
    with patch("salus.archive.building.columns_of", return_value=columns):
        await chain.seal(rows)

    report = await fsck(small_ledger.stores, small_ledger.trust)

    assert [(f.code, f.row) for f in report.errors] == [("row-malformed", 1)]


async def test_a_block_sealed_with_other_rows_than_its_root_says_is_found_though_it_is_signed(
    small_ledger: Any,
) -> None:
    with patch("salus.archive.building.root_of", return_value=bytes(32)):
        await small_ledger.chains[0].seal_samples(2)

    report = await fsck(small_ledger.stores, small_ledger.trust)

    assert [f.code for f in report.errors] == ["block-root"]


async def test_offsets_that_no_shard_covers_or_two_cover_are_found(small_ledger: Any) -> None:
    signer = small_ledger.chains[0].event_signer
    await small_ledger.chains[1].seal(
        [
            *sample_records(1, signer=signer, partition=0, first=3),
            *sample_records(1, signer=signer, partition=5, first=2),
        ]
    )

    report = await fsck(small_ledger.stores, small_ledger.trust)

    assert [f.code for f in report.errors] == ["coverage-overlap", "coverage-gap"]
    assert "offsets 0 to 1" in report.errors[1].detail
    block = (1, len(small_ledger.chains[1].headers) - 1)
    assert [(f.shard, f.height, f.key) for f in report.errors] == [(*block, header_key(*block))] * 2


async def test_a_shard_that_network_json_does_not_name_is_said(small_ledger: Any) -> None:
    trust = replace(small_ledger.trust, shard_keys={0: small_ledger.trust.shard_keys[0]})

    report = await fsck(small_ledger.stores, trust)

    (unknown,) = [f for f in report.errors if f.code == "unknown-shard"]
    assert (unknown.shard, "network.json" in unknown.detail) == (1, True)


async def test_two_signed_headers_of_one_height_are_found(small_ledger: Any) -> None:
    chain = small_ledger.chains[0]
    other = sign_header(
        replace(chain.headers[4], time=chain.headers[4].time.replace(hour=23)), chain.note_signer
    )
    small_ledger.ledger.objects[header_key(0, 4)] = (other, '"other"')

    report = await fsck(small_ledger.stores, small_ledger.trust)

    assert [f.code for f in report.errors] == ["entry-wrong"]
    assert "index 7" in report.errors[0].detail


async def test_blocks_newer_than_the_checkpoint_and_bodies_without_a_header_are_no_errors(
    small_ledger: Any,
) -> None:
    await small_ledger.chains[0].seal_samples(2)
    await small_ledger.chains[0].seal_samples(2)
    small_ledger.ledger.objects[body_key(0, 7, bytes(32))] = (b"left behind", '"x"')

    report = await fsck(small_ledger.stores, small_ledger.trust)

    assert report.ok
    assert {f.code for f in report.findings} == {"not-anchored", "unreferenced-body"} <= NOTES.keys()
    assert report.counts.blocks == 10


async def test_a_header_that_is_gone_together_with_its_body_is_missed(small_ledger: Any) -> None:
    gone = [k for k in small_ledger.ledger.objects if k.startswith("shard/1/000000000002/")]
    for key in gone:
        del small_ledger.ledger.objects[key]

    report = await fsck(small_ledger.stores, small_ledger.trust)

    assert {f.code for f in report.errors} == {"header-missing", "body-missing"}
    assert {f.key for f in report.errors} == set(gone)


async def test_a_log_signed_over_other_entries_is_found(small_ledger: Any) -> None:
    other = sign_checkpoint(Checkpoint(LOG_ORIGIN, 8, bytes(32)), (LOG_SIGNER,))
    small_ledger.log.objects[CHECKPOINT_KEY] = (other, '"x"')

    report = await fsck(small_ledger.stores, small_ledger.trust)

    assert {(f.code, f.key) for f in report.errors} == {
        ("head-wrong", "_salus/head"),
        ("log-root", "checkpoint"),
    }


async def test_a_log_that_holds_a_chain_out_of_order_is_found(small_ledger: Any) -> None:
    notes = small_ledger.chains[0].notes + small_ledger.chains[1].notes
    order = [notes[1], notes[0], *notes[2:]]
    objects = new_tiles(0, order, lambda *_: b"")
    root = root_of([leaf_hash(note) for note in order])
    objects[CHECKPOINT_KEY] = sign_checkpoint(Checkpoint(LOG_ORIGIN, 8, root), (LOG_SIGNER,))
    small_ledger.log.objects = {key: (data, '"x"') for key, data in objects.items()}

    report = await fsck(small_ledger.stores, small_ledger.trust)

    assert {f.code for f in report.errors} == {"entry-order", "head-missing"}
    assert "entry 0 is block 1 of shard 0, where 0 is next" in str(report.errors)


async def test_the_wrong_network_file_is_not_a_clean_ledger(small_ledger: Any) -> None:
    strangers = {n: signer.vkey for n, signer in SHARD_SIGNERS.items()}
    trust = Trust(NoteSigner(LOG_ORIGIN, note_key(99)).vkey, strangers)

    report = await fsck(small_ledger.stores, trust)

    assert {f.code for f in report.errors} == {"checkpoint-unreadable", "head-wrong"}


async def test_an_empty_store_is_not_a_clean_ledger() -> None:
    report = await fsck(Stores(MemoryObjects(), MemoryObjects()), SmallLedger().trust)

    assert {f.code for f in report.errors} == {"checkpoint-unreadable", "head-missing"}


async def test_a_store_that_is_away_leads_to_no_conclusion(small_ledger: Any) -> None:
    small_ledger.ledger.away = True

    with pytest.raises(StoreAwayError):
        await fsck(small_ledger.stores, small_ledger.trust)


async def test_objects_that_do_not_belong_are_told_but_are_no_errors(small_ledger: Any) -> None:
    small_ledger.ledger.objects["shard/0/notes.txt"] = (b"", '"x"')
    small_ledger.log.objects["tile/0/1"] = (b"", '"x"')

    report = await fsck(small_ledger.stores, small_ledger.trust)

    assert report.ok
    assert {f.code for f in report.findings} == {"unknown-object"}


STRAYS = ("shard/0/note\n.txt", "shard//0", "shard/0/000000000000/header/", "\x1b[31m", "shard/../x")


async def test_stray_keys_are_infos_of_their_own_and_everything_else_is_checked(small_ledger: Any) -> None:
    """Case L2: one key with a line break ended every fsck with 3, for ever, and nothing named it."""
    for key in STRAYS:
        small_ledger.ledger.plant(key, b"x")
    small_ledger.log.plant("tile/note\n.txt", b"x")

    report = await fsck(small_ledger.stores, small_ledger.trust)

    assert report.ok
    assert {f.code for f in report.findings} == {"unknown-object"}
    assert {f.severity for f in report.findings} == {"info"}
    assert len(report.findings) == len(STRAYS) + 1
    assert all(str(finding).isprintable() for finding in report.findings)

    small_ledger.flip("ledger", "shard/0/000000000001/header", 40)
    assert not (await fsck(small_ledger.stores, small_ledger.trust)).ok


async def test_progress_is_told_and_the_report_is_json(small_ledger: Any) -> None:
    told: list[Progress] = []

    report = await fsck(small_ledger.stores, small_ledger.trust, on_progress=told.append)

    assert told[-1] == Progress("blocks", 8, 8, report.counts.rows)
    assert msgspec.json.decode(msgspec.json.encode(report), type=type(report)) == report
