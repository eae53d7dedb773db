"""Queries over the archive answer from what is signed and from nothing else (case X1b)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.archive.small_ledger import SHARD_SIGNERS, SmallLedger

from salus.cli.exits import CommandError, Exit
from salus.cli.querying import Opener, ask, committed_bodies, copy_archive
from salus.ledger.block import body_key, header_key
from salus.ledger.key_periods import KeyHistory, KeyPeriod

LEAVES = 'select shard, height, "offset", status from leaves order by shard, height, "offset"'


@pytest.fixture
async def ledger() -> SmallLedger:
    small = SmallLedger()
    await small.fill()
    return small


@pytest.fixture
def opened(ledger):
    return Opener(ledger.policy, {shard: signer.name for shard, signer in SHARD_SIGNERS.items()})


@pytest.fixture
def copied(ledger, opened, tmp_path):
    async def copy():
        return await copy_archive(ledger.ledger, opened, tmp_path)

    return copy


def body_of(ledger: SmallLedger, height: int) -> str:
    [key] = [key for key in ledger.ledger.objects if key.startswith(f"shard/0/{height:012d}/body-")]
    return key


def renamed(data: bytes) -> bytes:
    """As a body that stays readable, with another status."""
    assert b"accepted" in data
    return data.replace(b"accepted", b"acceptXd")


async def test_a_query_sees_every_leaf_with_its_block(copied):
    columns, rows = ask(LEAVES, await copied())

    assert columns == ["shard", "height", "offset", "status"]
    assert {row[:2] for row in rows} >= {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {row[3] for row in rows} >= {"accepted", "rejected:tombstone"}


async def test_a_body_that_lost_its_race_is_not_seen(ledger, copied):
    before = ask(LEAVES, await copied())
    whole = await ledger.ledger.get(body_of(ledger, 0), bytes_max=1 << 30)
    await ledger.ledger.put(body_key(0, 0, b"\x99" * 32), renamed(whole))
    await ledger.ledger.put(body_key(0, 77, b"\x98" * 32), whole)

    assert ask(LEAVES, await copied()) == before


async def test_a_body_that_is_not_as_signed_is_named_and_not_answered_from(ledger, copied):
    """Case X1b: the query printed `acceptXd` for every row, and ended with 0."""
    key = body_of(ledger, 0)
    whole = await ledger.ledger.get(key, bytes_max=1 << 30)
    await ledger.ledger.put(key, renamed(whole))

    with pytest.raises(CommandError, match=key) as error:
        await copied()
    assert error.value.code == Exit.NO

    await ledger.ledger.put(key, whole)
    assert ask("select count(*) from leaves where status = 'acceptXd'", await copied())[1] == [(0,)]


async def test_a_copy_that_is_not_as_signed_is_fetched_anew(copied):
    """Case X1b: what was bad once stayed in the copies, also after the repair."""
    files = await copied()
    before = ask(LEAVES, files)
    for path in files:
        path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    for note in {path.parent / "header" for path in files}:
        note.write_bytes(b"")

    assert ask(LEAVES, await copied()) == before


async def test_what_is_copied_and_as_signed_is_not_fetched_again(ledger, copied):
    before = ask(LEAVES, await copied())
    for key in [key for key in ledger.ledger.objects if "/body-" in key]:
        ledger.ledger.plant(key, b"")

    assert ask(LEAVES, await copied()) == before


async def test_a_missing_body_and_a_header_of_another_height_are_named(ledger, copied):
    del ledger.ledger.objects[body_of(ledger, 0)]
    ledger.ledger.plant(header_key(0, 1), await ledger.ledger.get(header_key(0, 0), bytes_max=1 << 30))

    with pytest.raises(
        CommandError, match=r"body is missing.*000000000001/header: it is the header of height 0"
    ) as error:
        await copied()
    assert error.value.code == Exit.NO


async def test_a_header_of_a_shard_that_the_network_does_not_have_is_named(ledger, copied):
    ledger.ledger.plant(header_key(99, 0), b"x")

    with pytest.raises(CommandError, match="shard/99/000000000000/header"):
        await copied()


async def test_what_lies_behind_the_end_of_a_chain_is_not_asked(ledger, tmp_path):
    # redB7, 2 to 5: what a stolen key sealed counts nowhere
    name = SHARD_SIGNERS[0].name
    keys = KeyHistory(name, (KeyPeriod(SHARD_SIGNERS[0].verifier, 0, 2),))
    policy = replace(ledger.policy, shards={**ledger.policy.shards, name: keys})
    opener = Opener(policy, {shard: signer.name for shard, signer in SHARD_SIGNERS.items()})

    _, rows = ask(LEAVES, await copy_archive(ledger.ledger, opener, tmp_path))

    assert {row[1] for row in rows if row[0] == 0} == {0, 1}
    bodies = await committed_bodies(ledger.ledger, opener)
    assert {key[:20] for key in bodies if key.startswith("shard/0/")} == {
        f"shard/0/{n:012d}" for n in range(2)
    }


async def test_stray_objects_disturb_neither_query_nor_bodies(ledger, copied, opened):
    """Case L2: one key with a line break ended both, for ever."""
    before = ask(LEAVES, await copied()), await committed_bodies(ledger.ledger, opened)
    for key in ("shard/0/note\n.txt", "shard//0", "shard/../x", "shard/0/000000000000/", "shard/0/README"):
        ledger.ledger.plant(key, b"x")

    after = ask(LEAVES, await copied()), await committed_bodies(ledger.ledger, opened)
    assert after == before


async def test_a_wrong_query_and_an_empty_archive_are_said_in_words(copied):
    files = await copied()

    with pytest.raises(CommandError, match="nope") as wrong:
        ask("select nope from leaves", files)
    with pytest.raises(CommandError, match="no blocks") as empty:
        ask("select 1", [])

    assert (wrong.value.code, empty.value.code) == (Exit.USAGE, Exit.NO)
