"""Checks of the log name the one object that is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.ledger.network import Following, World

from salus.ledger.block import sign_header
from salus.ledger.check_log import AnchoringChecker, check_log
from salus.ledger.checkpoint import Checkpoint
from salus.ledger.findings import FINDING_CODES, Finding
from salus.ledger.merkle import leaf_hash, root_of
from salus.ledger.tiles import ENTRIES, TileRef, new_tiles, tile_width

SIZE = 700
LOG_ENTRIES = [b"entry %d" % i for i in range(SIZE)]
HEAD = Checkpoint("salus.example/log", SIZE, root_of([leaf_hash(entry) for entry in LOG_ENTRIES]))
OBJECTS = new_tiles(0, LOG_ENTRIES, lambda *_: b"")


def findings_in(objects: dict[str, bytes], head: Checkpoint = HEAD) -> list[Finding]:
    found = [f for step in check_log(head, lambda ref: objects.get(ref.path)) for f in step.findings]
    assert all(finding.code in FINDING_CODES for finding in found)
    return found


def test_a_sound_log_has_nothing_wrong_and_shows_its_entries() -> None:
    steps = list(check_log(HEAD, lambda ref: OBJECTS.get(ref.path)))

    assert [finding for step in steps for finding in step.findings] == []
    assert [entry for step in steps for entry in step.entries] == LOG_ENTRIES
    assert [step.first for step in steps] == [0, 256, 512, SIZE]


@pytest.mark.parametrize("path", sorted(OBJECTS))
def test_a_missing_object_is_named_and_nothing_else(path: str) -> None:
    (finding,) = findings_in({name: data for name, data in OBJECTS.items() if name != path})

    assert finding.where == path
    assert finding.code == ("bundle-missing" if "entries" in path else "tile-missing")


@pytest.mark.parametrize("path", sorted(OBJECTS))
@pytest.mark.parametrize("place", [0, 40, -1])
def test_a_flipped_bit_in_an_object_names_it_and_nothing_else(path: str, place: int) -> None:
    wrong = bytearray(OBJECTS[path])
    wrong[place] ^= 1
    (finding,) = findings_in(OBJECTS | {path: bytes(wrong)})

    assert finding.where.split(" ")[0] == path
    assert finding.code == ("bundle-wrong" if "entries" in path else "tile-wrong")


def test_the_place_within_a_bundle_and_a_tile_is_named() -> None:
    bundle = OBJECTS["tile/entries/001"].replace(b"entry 300", b"entry xxx")
    tile = bytearray(OBJECTS["tile/0/002.p/188"])
    tile[32 * 5] ^= 1

    assert [f.where for f in findings_in(OBJECTS | {"tile/entries/001": bundle})] == [
        "tile/entries/001 entry 300"
    ]
    wrong_tile = findings_in(OBJECTS | {"tile/0/002.p/188": bytes(tile)})
    assert [f.where for f in wrong_tile] == ["tile/0/002.p/188 entry 517"]


def test_a_truncated_object_is_named() -> None:
    for path in OBJECTS:
        assert {f.where for f in findings_in(OBJECTS | {path: OBJECTS[path][:-1]})} == {path}


def test_a_log_that_is_consistent_in_itself_but_not_the_checkpoints_is_found() -> None:
    other = replace(HEAD, root=bytes(32))

    assert [(f.code, f.where) for f in findings_in(OBJECTS, other)] == [("log-root", "checkpoint")]


def test_an_empty_log_has_nothing_to_check() -> None:
    assert findings_in({}, Checkpoint("salus.example/log", 0, root_of([]))) == []


def test_a_history_rewritten_bundle_and_tile_together_is_found() -> None:
    rewritten = new_tiles(0, [b"forged", *LOG_ENTRIES[1:]], lambda *_: b"")
    mixed = OBJECTS | {path: rewritten[path] for path in ("tile/entries/000", "tile/0/000")}

    assert {f.code for f in findings_in(mixed)} == {"tile-wrong", "log-root"}


def test_both_objects_of_one_bundle_missing_leave_the_rest_checked() -> None:
    less = {name: data for name, data in OBJECTS.items() if name not in {"tile/entries/001", "tile/0/001"}}
    less["tile/entries/000"] = less["tile/entries/000"].replace(b"entry 7", b"entry x")

    codes = {f.code for f in findings_in(less)}
    assert codes == {"bundle-missing", "tile-missing", "bundle-wrong"}


def test_a_large_log_has_a_second_level_that_is_checked() -> None:
    count = 65_536 + 300
    head_entries = [b"%d" % i for i in range(count)]
    objects = new_tiles(0, head_entries, lambda *_: b"")
    head = Checkpoint("l", count, root_of([leaf_hash(entry) for entry in head_entries]))
    assert findings_in(objects, head) == []
    path = TileRef(2, 0, tile_width(2, 0, count)).path
    wrong = bytearray(objects[path])
    wrong[3] ^= 8

    assert [(f.code, f.where) for f in findings_in(objects | {path: bytes(wrong)}, head)] == [
        ("tile-wrong", f"{path} hash 0")
    ]
    assert TileRef(ENTRIES, 257, 44).path in objects


def _checked(chains: dict[str, list[bytes | None]], entries: list[bytes | None]) -> list[tuple[str, str]]:
    checker = AnchoringChecker(chains)
    return [(f.code, f.where) for i, entry in enumerate(entries) for f in checker.add(i, entry)]


def test_every_header_is_in_the_log_once_and_in_order(world: World, following: Following) -> None:
    second = sign_header(following(), world.shard)
    notes = [world.header_note, second]
    chains: dict[str, list[bytes | None]] = {world.shard.name: [leaf_hash(note) for note in notes]}

    assert _checked(chains, [*notes]) == []
    assert _checked(chains, [world.header_note]) == []
    assert _checked(chains, [second]) == [("entry-order", "log entry 0")]
    assert _checked(chains, [world.header_note, world.header_note]) == [("entry-order", "log entry 1")]
    assert _checked(chains, [None, world.header_note]) == []


def test_an_entry_that_is_no_header_of_a_known_shard_is_found(world: World) -> None:
    assert _checked({}, [world.header_note]) == [("entry-unknown", "log entry 0")]
    assert _checked({world.shard.name: []}, [b"junk"]) == [("entry-unknown", "log entry 0")]


def test_an_anchored_header_that_the_archive_no_longer_holds_is_found(world: World) -> None:
    chains: list[list[bytes | None]] = [[], [None], [bytes(32)]]
    for chain in chains:
        assert _checked({world.shard.name: chain}, [world.header_note]) == [("entry-wrong", "log entry 0")]
