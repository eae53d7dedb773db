"""Checks of blocks name exactly what is wrong, and nothing where nothing is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ledger.network import Following, World

from salus.ledger.block import Header, Leaf, Range, sign_header
from salus.ledger.check_blocks import (
    ChainChecker,
    Row,
    block_place,
    check_block,
    check_body,
    check_chain,
    check_columns,
    is_sound,
)
from salus.ledger.findings import FINDING_CODES, Finding
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.records import appended_at

PLACE = block_place(0, 42)


def _row(i: int) -> Row:
    value = b'{"id":"%d","source":"did:key:z","type":"t.v1","subject":"p","time":"2026-11-22T15:00:00Z"}' % i
    leaf = Leaf("salus.lab.events", 0, i, 1_795_359_600_123, "accepted", leaf_hash(value), b"v1 sig")
    time = datetime(2026, 11, 22, 15, tzinfo=UTC)
    return Row(
        *leaf_columns(leaf), str(i), "did:key:z", "t.v1", "p", time, leaf.hash(), None, b"v1 sig", value
    )


def leaf_columns(leaf: Leaf) -> tuple[str, int, int, datetime, str]:
    return leaf.topic, leaf.partition, leaf.offset, appended_at(leaf.timestamp_ms), leaf.status


def _rejected(i: int) -> Row:
    leaf = Leaf("salus.lab.events", 0, i, 1_795_359_600_123, "rejected:malformed-json", leaf_hash(b"junk"))
    nothing = (None,) * 5
    return Row(*leaf_columns(leaf), *nothing, leaf.hash(), leaf.digest, None, None)


ROWS = [*(_row(i) for i in range(5)), _rejected(5), _row(6)]


@pytest.fixture(scope="session")
def block_of_rows(header: Header) -> Header:
    return _block(header)


@pytest.fixture
def block(header: Header) -> Header:
    return _block(header)


def _block(header: Header) -> Header:
    return replace(
        header,
        leaves=7,
        accepted=6,
        root=root_of([row.leaf_hash for row in ROWS]),
        ranges=(Range("salus.lab.events", 0, 0, 7),),
    )


def _found(block: Header, rows: list[Row]) -> list[tuple[str, str]]:
    findings = check_block(block, rows, place=PLACE)
    assert all(finding.code in FINDING_CODES for finding in findings)
    return [(finding.code, finding.where) for finding in findings]


def _with(index: int, **changes: Any) -> list[Row]:
    return [*ROWS[:index], ROWS[index]._replace(**changes), *ROWS[index + 1 :]]


def _place(index: int) -> str:
    return f"shard 0 block 42 row {index} (salus.lab.events 0 {index})"


def test_a_sound_block_has_nothing_wrong(block: Header) -> None:
    assert _found(block, ROWS) == []
    assert check_columns(ROWS, place=PLACE) == []


@given(st.sampled_from([0, 1, 4, 6]), st.integers(0, 8 * 80))
def test_a_flipped_bit_of_a_value_names_its_row(index: int, bit: int) -> None:
    block = Header(
        origin="s",
        height=42,
        leaves=7,
        root=root_of([row.leaf_hash for row in ROWS]),
        previous=bytes(32),
        time=datetime(2026, 1, 1, tzinfo=UTC),
        accepted=6,
        body_bytes=0,
        body_sha256=bytes(32),
        identity=("i", 0, 0),
        ranges=(Range("salus.lab.events", 0, 0, 7),),
    )
    value = bytearray(ROWS[index].value or b"")
    value[bit // 8] ^= 1 << bit % 8

    assert _found(block, _with(index, value=bytes(value))) == [("row-wrong", _place(index))]


MUTATIONS = st.dictionaries(
    st.sampled_from(Row._fields),
    st.none()
    | st.integers(-1, 9)
    | st.binary(max_size=40)
    | st.sampled_from(["accepted", "rejected:x", "a"]),
    max_size=2,
)


@given(st.integers(0, 6), MUTATIONS, st.sampled_from(["keep", "drop", "repeat", "swap"]))
def test_the_quick_look_and_the_slow_one_agree(
    block_of_rows: Header, index: int, changes: dict[str, Any], how: str
) -> None:
    rows = [*ROWS]
    typed = {
        "offset": int,
        "partition": int,
        "timestamp": datetime,
        "topic": str,
        "status": str,
        "leaf_hash": bytes,
    }
    sane: dict[str, Any] = {
        k: v for k, v in changes.items() if isinstance(v, typed.get(k, (bytes, type(None))))
    }
    rows[index] = rows[index]._replace(**sane)
    if how == "drop":
        del rows[index]
    elif how != "keep":
        rows.insert(0 if how == "swap" else index, rows[index])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("salus.ledger.check_blocks.is_sound", lambda *_: False)
        findings = check_block(block_of_rows, rows, place=PLACE)

    assert is_sound(block_of_rows, rows) == (not findings)


def test_a_changed_signature_names_its_row(block: Header) -> None:
    assert _found(block, _with(3, signature=b"v1 sih")) == [("row-wrong", _place(3))]


def test_a_changed_digest_of_a_rejected_record_names_its_row(block: Header) -> None:
    assert _found(block, _with(5, digest=bytes(32))) == [("row-wrong", _place(5))]


def test_a_wrong_leaf_hash_is_told_from_a_wrong_record(block: Header) -> None:
    assert _found(block, _with(2, leaf_hash=bytes(32))) == [("leaf-hash-wrong", _place(2))]


def test_if_record_and_leaf_hash_are_changed_together_the_root_tells(block: Header) -> None:
    forged = _row(2)._replace(
        value=b"{}",
        leaf_hash=Leaf(*ROWS[2][:3], 1_795_359_600_123, "accepted", leaf_hash(b"{}"), b"v1 sig").hash(),
    )

    assert _found(block, [*ROWS[:2], forged, *ROWS[3:]]) == [("block-root", PLACE)]


def test_a_missing_an_added_and_a_swapped_row_are_found(block: Header) -> None:
    assert ("leaf-count", PLACE) in _found(block, ROWS[:-1])
    assert ("leaf-count", PLACE) in _found(block, [*ROWS, _row(7)])
    assert ("row-outside-range", _place(7)) in _found(block, [*ROWS, _row(7)])
    assert ("row-order", _place(0).replace("row 0", "row 1")) in _found(block, [ROWS[1], ROWS[0], *ROWS[2:]])


def test_a_row_beyond_the_headers_range_is_found(block: Header) -> None:
    for narrow in (Range("salus.lab.events", 0, 0, 6), Range("salus.lab.events", 0, 1, 7)):
        outside = 6 if narrow.first == 0 else 0

        assert _found(replace(block, ranges=(narrow,)), ROWS) == [("row-outside-range", _place(outside))]


def test_a_row_that_its_status_does_not_allow_is_malformed(block: Header) -> None:
    for changed in (
        _with(1, digest=bytes(32)),
        _with(1, signature=None),
        _with(5, value=b"junk"),
        _with(5, subject="somebody"),
        _with(5, digest=None),
        _with(5, digest=b"short"),
        _with(5, status="unknown"),
        _with(5, status="rejected:"),
        _with(5, status="rejected:x\n"),
        _with(5, status="rejected:" + "x" * 65),
    ):
        assert "row-malformed" in {code for code, _ in _found(block, changed)}


def test_a_status_that_was_changed_later_is_found(block: Header) -> None:
    codes = {code for code, _ in _found(block, _with(5, status="accepted"))}

    assert {"accepted-count", "row-malformed", "row-wrong"} <= codes


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "x"},
        {"source": None},
        {"type": "u"},
        {"subject": "q"},
        {"time": datetime(2026, 1, 1, tzinfo=UTC)},
    ],
)
def test_a_descriptive_column_that_lies_is_found(changes: dict[str, Any]) -> None:
    (finding,) = check_columns(_with(4, **changes), place=PLACE)

    assert (finding.code, finding.where) == ("row-columns", _place(4))
    assert next(iter(changes)) in finding.detail


def test_a_value_that_is_no_event_is_found_by_its_columns() -> None:
    for value in (b"", b"[]", b"5", b"\xff", b"[" * 100_000, b'{"time":5}'):
        assert [f.code for f in check_columns(_with(0, value=value), place=PLACE)] == ["row-columns"]


def test_a_body_is_the_one_its_header_names(header: Header) -> None:
    body = b"PAR1 and so on"
    named = replace(header, body_bytes=len(body), body_sha256=sha256(body).digest())

    assert check_body(named, body, place=PLACE) == []
    for wrong, why in ((body[:-1], "13 bytes instead of 14"), (b"Q" + body[1:], "SHA-256")):
        (finding,) = check_body(named, wrong, place=PLACE)
        assert finding.code == "body-hash"
        assert why in finding.detail


def _chain(world: World, following: Callable[..., Header], length: int) -> list[bytes]:
    notes = [world.header_note]
    while len(notes) < length:
        height = len(notes)
        spans = (
            Range("salus.clinical.events", 0, 16 + height, 17 + height),
            Range("salus.clinical.events", 1, 0, 0),
        )
        header = following(height=height, previous=leaf_hash(notes[-1]), ranges=spans)
        notes.append(sign_header(header, world.shard))
    return notes


def test_a_sound_chain_has_nothing_wrong(world: World, following: Following) -> None:
    assert check_chain(_chain(world, following, 5), world.shard.verifier, shard=0) == []


def test_a_missing_header_is_named_once(world: World, following: Following) -> None:
    notes: list[bytes | None] = [*_chain(world, following, 5)]
    notes[2] = None

    (finding,) = check_chain(notes, world.shard.verifier, shard=0)
    assert (finding.code, finding.where) == ("header-missing", "shard 0 block 2")


def test_a_flipped_bit_of_a_header_is_named_once(world: World, following: Following) -> None:
    notes = _chain(world, following, 5)
    for bit in range(0, len(notes[2]) * 8, 11):
        flipped = bytearray(notes[2])
        flipped[bit // 8] ^= 1 << bit % 8
        (finding,) = check_chain([*notes[:2], bytes(flipped), *notes[3:]], world.shard.verifier, shard=0)

        assert finding.where == "shard 0 block 2"
        assert finding.code in {"header-signature", "header-unreadable"}


def test_a_validly_signed_header_that_does_not_follow_is_found(world: World, following: Following) -> None:
    notes = _chain(world, following, 3)
    rewritten = sign_header(following(accepted=0), world.shard)

    (finding,) = check_chain([notes[0], rewritten, notes[2]], world.shard.verifier, shard=0)
    assert (finding.code, finding.where) == ("chain-broken", "shard 0 block 2")


def test_a_header_with_a_wrong_signature_can_still_be_read(world: World) -> None:
    header, findings = ChainChecker(0, world.log.verifier).add(world.header_note)

    assert header == world.header
    assert [finding.code for finding in findings] == ["header-signature"]


def test_a_finding_reads_as_a_sentence() -> None:
    assert str(Finding("row-wrong", _place(3), "why")) == f"{_place(3)}: row-wrong: why"
