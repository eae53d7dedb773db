"""Leaves and headers have one form, and a header stands only where it may."""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.ledger.network import SIGNATURE, Following, World

from salus.ledger.block import (
    BLOCK_CODES,
    NO_PREVIOUS,
    Handover,
    Header,
    Leaf,
    Range,
    body_key,
    check_succession,
    format_time,
    header_key,
    leaf_hashes,
    open_header,
    parse_header,
    parse_leaf,
    sign_header,
    whole_milliseconds,
)
from salus.ledger.checkpoint import parse_checkpoint
from salus.ledger.errors import BlockError
from salus.ledger.merkle import leaf_hash
from salus.ledger.note import NoteVerifier, sign_note
from salus.ledger.records import TIMESTAMP_MS_MAX
from salus.ledger.signature_header import path_length

TOPICS = st.from_regex(r"[A-Za-z0-9._-]{1,40}", fullmatch=True)
PARTITIONS = st.integers(0, 2**31 - 1)
OFFSETS = st.integers(0, 2**63 - 1)
HASHES = st.binary(min_size=32, max_size=32)


def signature_header(did: str, index: int, more: int, random: bytes) -> bytes:
    path = random[64:][: 32 * path_length(index=index, size=index + more)]
    words = [b"v1", f"did:key:{did}#{did} {index}/{index + more}".encode(), b64encode(random[:64])]
    return b" ".join([*words, b64encode(path)] if path else words)


SIGNATURE_HEADERS = st.builds(
    signature_header,
    did=st.from_regex(r"[A-Za-z0-9._:%-]{1,20}", fullmatch=True),
    index=st.integers(0, 512),
    more=st.integers(1, 512),
    random=st.binary(min_size=64 + 320, max_size=64 + 320),
)
LEAVES = st.builds(
    Leaf,
    topic=TOPICS,
    partition=PARTITIONS,
    offset=OFFSETS,
    timestamp_ms=st.integers(0, TIMESTAMP_MS_MAX),
    status=st.just("accepted") | st.from_regex(r"rejected:[a-z0-9-]{1,30}", fullmatch=True),
    digest=HASHES,
    signature=st.none() | SIGNATURE_HEADERS,
)
TIMES = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001


@st.composite
def ranges(draw: st.DrawFn) -> tuple[Range, ...]:
    places = draw(st.sets(st.tuples(TOPICS, PARTITIONS), max_size=4))
    bounds = [sorted((draw(OFFSETS), draw(OFFSETS))) for _ in places]
    return tuple(sorted(Range(*place, *pair) for place, pair in zip(places, bounds, strict=True)))


@st.composite
def headers(draw: st.DrawFn) -> Header:
    covered = draw(ranges())
    leaves = draw(st.integers(0, min(sum(r.next - r.first for r in covered), 2**63 - 1)))
    return Header(
        origin=draw(st.from_regex(r"[a-z0-9./]{1,30}", fullmatch=True)),
        height=draw(OFFSETS),
        leaves=leaves,
        root=draw(HASHES) if leaves else sha256(b"").digest(),
        previous=draw(HASHES),
        time=whole_milliseconds(draw(TIMES)),
        accepted=draw(st.integers(0, leaves)),
        body_bytes=draw(OFFSETS),
        body_sha256=draw(HASHES),
        identity=(draw(TOPICS), draw(PARTITIONS), draw(OFFSETS)),
        ranges=covered,
        handovers=draw(handovers(covered)),
    )


@st.composite
def handovers(draw: st.DrawFn, covered: tuple[Range, ...]) -> tuple[Handover, ...]:
    block = f"another.example/shard/9/block/{draw(OFFSETS)}"
    ends = [("took", r.topic, r.partition, r.first, block) for r in covered]
    ends += [("gave", r.topic, r.partition, r.next, "another.example/shard/9") for r in covered]
    chosen = draw(st.sets(st.sampled_from(ends))) if ends else set()
    return tuple(sorted(Handover(*end) for end in chosen))


@given(LEAVES)
def test_parsing_a_leaf_undoes_formatting(leaf: Leaf) -> None:
    assert parse_leaf(leaf.data()) == leaf
    assert leaf.hash() == leaf_hash(leaf.data())


@given(st.lists(LEAVES, max_size=20))
def test_the_fast_leaf_hashes_are_the_plain_ones(leaves: list[Leaf]) -> None:
    rows = [(x.topic, x.partition, x.offset, x.timestamp_ms, x.status, x.digest, x.signature) for x in leaves]

    assert leaf_hashes(rows) == [leaf.hash() for leaf in leaves]


@given(LEAVES, LEAVES)
def test_no_two_leaves_have_the_same_bytes(one: Leaf, other: Leaf) -> None:
    assert (one == other) == (one.data() == other.data())


@given(LEAVES, st.data())
def test_a_changed_leaf_is_refused_or_is_another_leaf(leaf: Leaf, data: st.DataObject) -> None:
    changed = bytearray(leaf.data())
    bit = data.draw(st.integers(0, len(changed) * 8 - 1))
    changed[bit // 8] ^= 1 << bit % 8

    with suppress(BlockError):
        assert parse_leaf(bytes(changed)) != leaf


@given(st.binary(max_size=100))
def test_arbitrary_bytes_are_refused_or_are_a_leaf(junk: bytes) -> None:
    for data in (
        junk,
        b"salus.health/leaf/v1\n" + junk,
        b"salus.health/leaf/v1\na 0 0 0 accepted -\n" + junk,
    ):
        with suppress(BlockError):
            assert parse_leaf(data).data() == data


GOOD_LEAF = Leaf("salus.lab.events", 3, 99, 1_795_359_600_000, "accepted", bytes(range(32)), SIGNATURE)


@pytest.mark.parametrize(
    "data",
    [
        GOOD_LEAF.data()[:-1],
        GOOD_LEAF.data() + b"x",
        replace(GOOD_LEAF, signature=None).data()[:-1],
        replace(GOOD_LEAF, signature=None).data() + b"x",
        GOOD_LEAF.data().replace(b" 107\n", b" 0107\n"),
        GOOD_LEAF.data().replace(b" 107\n", b" -\n"),
        GOOD_LEAF.data().replace(b" 99 ", b" 099 "),
        GOOD_LEAF.data().replace(b" 99 ", b" -1 "),
        GOOD_LEAF.data().replace(b" 3 ", b" 2147483648 "),
        GOOD_LEAF.data().replace(b"accepted", b"Accepted"),
        GOOD_LEAF.data().replace(b"accepted", b"rejected:"),
        GOOD_LEAF.data().replace(b"leaf/v1", b"leaf/v2"),
        GOOD_LEAF.data().replace(b"salus.lab", b"salus/lab"),
        GOOD_LEAF.data().replace(b" 107\n", b" 107\r\n"),
    ],
)
def test_what_is_not_exactly_a_leaf_is_malformed(data: bytes) -> None:
    with pytest.raises(BlockError, match="malformed-leaf"):
        parse_leaf(data)


def test_an_absent_signature_is_not_an_empty_one() -> None:
    absent, empty = replace(GOOD_LEAF, signature=None), replace(GOOD_LEAF, signature=b"")

    assert absent.hash() != empty.hash()
    with pytest.raises(BlockError, match="malformed-leaf"):
        parse_leaf(empty.data())


@pytest.mark.parametrize(
    "signature",
    [
        b"v1 sig",
        SIGNATURE + b" ",
        SIGNATURE + b"\n",
        SIGNATURE + b"x",
        SIGNATURE.replace(b"v1", b"v2"),
        SIGNATURE.replace(b"0/1", b"1/1"),
        SIGNATURE.replace(b"0/1", b"00/1"),
        SIGNATURE.replace(b"0/1", b"0/1025"),
        SIGNATURE.replace(b"A==", b"B=="),
        SIGNATURE.replace(b"A==", b"AA="),
        SIGNATURE.replace(b"did:key:", b"key:"),
        SIGNATURE + b" AB==",
        SIGNATURE + b" " + b"A" * 1024,
    ],
)
def test_a_leaf_keeps_no_signature_but_one_of_the_grammar(signature: bytes) -> None:
    with pytest.raises(BlockError, match="signature header"):
        parse_leaf(replace(GOOD_LEAF, signature=signature).data())


@given(headers())
def test_parsing_a_header_undoes_formatting(made: Header) -> None:
    assert parse_header(made.text()) == made
    assert parse_checkpoint(made.text()).size == made.leaves


@given(st.data())
def test_a_changed_header_text_is_refused_or_is_another_header(header: Header, data: st.DataObject) -> None:
    text = header.text()
    at = data.draw(st.integers(0, len(text) - 1))
    changed = text[:at] + data.draw(st.text(max_size=2)) + text[at + 1 :]
    if changed == text:
        return

    with suppress(BlockError):
        assert parse_header(changed) != header
        assert parse_header(changed).text() == changed


@given(st.text(max_size=200))
def test_arbitrary_text_is_no_header(text: str) -> None:
    with pytest.raises(BlockError, match="malformed-header"):
        parse_header(text)


def test_every_line_of_a_header_is_needed_and_in_its_place(header: Header) -> None:
    lines = header.text().splitlines(keepends=True)

    for i in range(len(lines) - len(header.ranges)):
        for wrong in (lines[:i] + lines[i + 1 :], lines[:i] + lines[i : i + 1] + lines[i:], lines[: i + 1]):
            with pytest.raises(BlockError, match="malformed-header"):
                parse_header("".join(wrong) if wrong != lines else "")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("time 2026-11-22T15:00:00.123Z", "time 2026-11-22T15:00:00.123+00:00"),
        ("time 2026-11-22T15:00:00.123Z", "time 2026-11-22T15:00:00Z"),
        ("time 2026-11-22T15:00:00.123Z", "time 2026-11-22T15:00:00.123456Z"),
        ("time 2026-11-22T15:00:00.123Z", "time 2026-02-30T15:00:00.123Z"),
        ("time 2026-11-22T15:00:00.123Z", "time 2026-11-22t15:00:00.123Z"),
        ("accepted 2", "accepted 4"),
        ("accepted 2", "accepted 02"),
        ("accepted 2", "accepted  2"),
        ("body 4096", "body -1"),
        (sha256(b"body").hexdigest(), "00"),
        (sha256(b"body").hexdigest(), sha256(b"body").hexdigest().upper()),
        ("100 103\nrange salus.clinical.events 1 0 0", "103 100\nrange salus.clinical.events 1 0 9"),
        ("/block/0\n", "/block/00\n"),
        ("/block/0\n", "/block/\n"),
        ("range salus.clinical.events 0 100 103", "range salus.clinical.events 0 103 100"),
        ("range salus.clinical.events 0 100 103", "range salus.clinical.events 2 100 103"),
        ("range salus.clinical.events 0 100 103", "range salus.clinical.events 1 100 103"),
        ("range salus.clinical.events 0 100 103", "range salus.clinical.events 0 100 102"),
        ("range salus.clinical.events 0 100 103", "range salus/clinical/events 0 100 103"),
        ("range salus.clinical.events 0 100", "range salus.clinical.events 0 100 100"),
        ("identity salus.identity.events 0 17", "identity salus.identity.events 2147483648 17"),
    ],
)
def test_a_header_that_cannot_be_true_is_malformed(header: Header, old: str, new: str) -> None:
    assert old in header.text()
    with pytest.raises(BlockError, match="malformed-header"):
        parse_header(header.text().replace(old, new))


def test_a_header_is_signed_by_its_shard_and_opened_with_its_key(world: World) -> None:
    assert open_header(world.header_note, world.shard.verifier) == world.header
    with pytest.raises(BlockError, match="header-signature"):
        open_header(world.header_note, world.log.verifier)
    with pytest.raises(BlockError, match="malformed-header"):
        sign_header(replace(world.header, origin="salus.example/shard/1"), world.shard)
    with pytest.raises(BlockError, match="malformed-header"):
        sign_header(replace(world.header, time=world.header.time.replace(microsecond=1)), world.shard)


def test_a_shards_key_cannot_speak_for_another_shard(world: World) -> None:
    text = replace(world.header, origin="salus.example/shard/1").text()

    with pytest.raises(BlockError, match="origin"):
        open_header(sign_note(text, [world.shard]), world.shard.verifier)


def test_no_flipped_bit_of_a_header_verifies(world: World) -> None:
    for bit in range(0, len(world.header_note) * 8, 7):
        flipped = bytearray(world.header_note)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BlockError):
            open_header(bytes(flipped), world.shard.verifier)


def test_a_header_is_never_too_long_for_a_log_entry(world: World) -> None:
    many = tuple(Range("t" * 249, partition, 0, 1) for partition in range(300))

    with pytest.raises(BlockError, match="malformed-header"):
        sign_header(replace(world.header, ranges=many), world.shard)
    with pytest.raises(BlockError, match="malformed-header"):
        open_header(bytes(65_536), world.shard.verifier)


def test_a_block_may_be_empty(world: World) -> None:
    still = (Range("salus.clinical.events", 0, 5, 9),)
    empty = replace(world.header, leaves=0, accepted=0, root=sha256(b"").digest(), ranges=still)

    assert open_header(sign_header(empty, world.shard), world.shard.verifier) == empty


def test_a_header_may_follow_the_one_before(world: World, following: Following) -> None:
    check_succession(None, world.header)
    check_succession((world.header, world.header_note), following())
    # Behind a forged position, which the topic never had, the chain must go on.
    check_succession((world.header, world.header_note), following(identity=("salus.identity.events", 0, 16)))


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("origin", {"origin": "salus.example/shard/1"}),
        ("height", {"height": 2}),
        ("height", {"height": 0}),
        ("previous", {"previous": NO_PREVIOUS}),
        ("time", {"time": datetime(2026, 11, 22, 15, 0, 0, 122000, tzinfo=UTC)}),
        ("identity", {"identity": ("salus.identity.events", 1, 17)}),
        ("identity", {"identity": ("salus.other.events", 0, 17)}),
        ("range-missing", {"ranges": (Range("salus.clinical.events", 0, 17, 18),)}),
        (
            "range-gap",
            {"ranges": (Range("salus.clinical.events", 0, 18, 19), Range("salus.clinical.events", 1, 0, 0))},
        ),
        (
            "range-gap",
            {"ranges": (Range("salus.clinical.events", 0, 16, 18), Range("salus.clinical.events", 1, 0, 0))},
        ),
    ],
)
def test_a_header_that_may_not_follow_is_refused(
    world: World, following: Following, code: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(BlockError) as refused:
        check_succession((world.header, world.header_note), following(**changes))

    assert refused.value.code == code
    assert code in BLOCK_CODES


def test_a_chain_begins_with_height_zero_and_nothing_before(world: World, following: Following) -> None:
    with pytest.raises(BlockError, match="height"):
        check_succession(None, following())
    with pytest.raises(BlockError, match="previous"):
        check_succession(None, replace(world.header, previous=bytes(31) + b"x"))


def test_a_new_partition_may_join_a_shard(world: World, following: Following) -> None:
    joined = (*following().ranges, Range("salus.lab.events", 0, 40, 41))

    check_succession((world.header, world.header_note), following(ranges=joined, leaves=2))


CLINICAL = Range("salus.clinical.events", 0, 17, 18)
OTHER = Range("salus.clinical.events", 1, 0, 0)
OTHER_SHARD = "salus.example/shard/1"
OTHER_BLOCK = f"{OTHER_SHARD}/block/7"
GAVE = Handover("gave", "salus.clinical.events", 1, 0, OTHER_SHARD)
TOOK = Handover("took", "salus.lab.events", 0, 40, OTHER_BLOCK)


def test_a_partition_may_be_given_to_another_shard_and_taken_back(world: World, following: Following) -> None:
    giving = following(handovers=(GAVE,))
    check_succession((world.header, world.header_note), giving)
    note = sign_header(giving, world.shard)
    later = Range("salus.clinical.events", 0, 18, 18)
    without = following(height=2, previous=leaf_hash(note), leaves=0, accepted=0, ranges=(later,))
    without = replace(without, root=sha256(b"").digest())

    assert giving.next_offsets == {("salus.clinical.events", 0): 18}
    check_succession((giving, note), without)
    back = Range("salus.clinical.events", 1, 7, 7)
    taken = replace(
        without, ranges=(later, back), handovers=(replace(GAVE, way="took", offset=7, other=OTHER_BLOCK),)
    )
    check_succession((giving, note), taken)
    with pytest.raises(BlockError, match="handover"):
        check_succession((giving, note), replace(taken, handovers=()))


def test_what_a_shard_covers_already_it_cannot_take(world: World, following: Following) -> None:
    again = Handover("took", "salus.clinical.events", 0, 17, OTHER_BLOCK)

    with pytest.raises(BlockError, match="handover"):
        check_succession((world.header, world.header_note), following(handovers=(again,)))


def test_a_partition_may_be_taken_and_given_on_in_one_block(world: World) -> None:
    lab = Range("salus.lab.events", 0, 40, 40)
    on = replace(TOOK, way="gave", other="salus.example/shard/2")
    ranges = (CLINICAL, OTHER, lab)
    passing = replace(world.header, ranges=ranges, leaves=1, accepted=1, handovers=(on, TOOK))

    assert parse_header(passing.text()) == passing
    assert ("salus.lab.events", 0) not in passing.next_offsets


def test_a_handover_stands_at_an_end_of_its_range_and_names_another_shard(world: World) -> None:
    lab = Range("salus.lab.events", 0, 40, 41)
    sound = replace(world.header, ranges=(CLINICAL, OTHER, lab), leaves=2, accepted=2, handovers=(GAVE, TOOK))
    assert parse_header(sound.text()) == sound

    for wrong in (
        (TOOK, GAVE),
        (GAVE, GAVE),
        (replace(TOOK, offset=41),),
        (replace(GAVE, offset=1),),
        (replace(GAVE, partition=2),),
        (replace(GAVE, way="lent"),),
        (replace(GAVE, other=world.shard.name),),
        (replace(GAVE, other=""),),
        (replace(TOOK, other=OTHER_SHARD),),
        (replace(TOOK, other=f"{OTHER_SHARD}/block/07"),),
        (replace(TOOK, other=f"{world.shard.name}/block/7"),),
    ):
        with pytest.raises(BlockError, match="malformed-header"):
            parse_header(replace(sound, handovers=wrong).text())


def test_times_are_utc_in_whole_milliseconds() -> None:
    time = datetime(2026, 1, 2, 3, 4, 5, 6789, tzinfo=timezone(timedelta(hours=1)))

    assert format_time(time) == "2026-01-02T02:04:05.006Z"
    assert whole_milliseconds(time) == datetime(2026, 1, 2, 2, 4, 5, 6000, tzinfo=UTC)


def test_keys_sort_as_heights_do() -> None:
    assert header_key(0, 42) == "shard/0/000000000042/header"
    assert body_key(7, 42, bytes(32)) == f"shard/7/000000000042/body-{'00' * 32}.parquet"
    assert header_key(0, 9) < header_key(0, 10)


def test_a_header_is_read_by_whoever_holds_the_shards_vkey(world: World) -> None:
    assert open_header(world.header_note, NoteVerifier.from_vkey(world.shard.vkey)) == world.header
