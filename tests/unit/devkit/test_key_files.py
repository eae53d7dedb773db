"""The signing keys of a network folder: one takes over from another, and every step makes sense by itself."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from salus.crypto.file_lock import changing_now
from salus.crypto.keys import load_all_ed25519
from salus.devkit.errors import DevkitError
from salus.devkit.key_files import KeyFiles, Owner, with_key
from salus.devkit.network import NetworkFolder, Plan
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.note import NoteSigner
from salus.ledger.policy import Policy
from salus.ledger.quorum import Quorum

OWNERS = [Owner("sequencer", 1), Owner("log"), Owner("witness", 2)]


@pytest.fixture
def folder(tmp_path: Path) -> NetworkFolder:
    made = NetworkFolder(tmp_path)
    made.create(Plan(shards=2, witnesses=3))
    return made


@pytest.mark.parametrize("owner", OWNERS)
def test_a_key_takes_over_and_the_old_one_is_forgotten(folder: NetworkFolder, owner: Owner) -> None:
    keys = KeyFiles(folder)
    (old,) = keys.of(owner)
    new = keys.add(owner, first=10)

    assert [(e.verifier_key, e.first, e.end, e.held) for e in keys.of(owner)] == [
        (old.verifier_key, 0, None, True),
        (new.verifier_key, 10, None, True),
    ]
    keys.retire(old, end=12)
    assert [(e.verifier_key, e.first, e.end, e.held) for e in keys.of(owner)] == [
        (old.verifier_key, 0, 12, False),
        (new.verifier_key, 10, None, True),
    ]
    assert len(load_all_ed25519(folder.key_file(owner.file_name))) == 1


@pytest.mark.parametrize("owner", OWNERS)
def test_keys_rotate_again_and_again(folder: NetworkFolder, owner: Owner) -> None:
    keys = KeyFiles(folder)
    for turn in range(1, 4):
        current = keys.of(owner)[-1]
        keys.add(owner, first=turn * 10)
        keys.retire(current, end=turn * 10 + 1)

    assert [(e.first, e.end) for e in keys.of(owner)] == [(0, 11), (10, 21), (20, 31), (30, None)]
    assert folder.witnesses == 3
    assert len(keys.entries()) == 6 + 3


def test_a_third_key_waits_until_one_is_retired_and_the_only_one_stays(folder: NetworkFolder) -> None:
    keys = KeyFiles(folder)
    (only,) = keys.of(Owner("log"))
    before = folder.file.read_bytes()

    with pytest.raises(DevkitError, match="signs at 5"):
        keys.retire(only, end=5)
    assert folder.file.read_bytes() == before
    keys.add(Owner("log"), first=5)
    with pytest.raises(DevkitError, match="retire one first"):
        keys.add(Owner("log"), first=6)
    with pytest.raises(DevkitError, match="no shard 7"):
        keys.of(Owner("sequencer", 7))
    with pytest.raises(DevkitError, match="no witness 4"):
        keys.of(Owner("witness", 4))


def test_what_a_retired_witness_cosigned_stays_final(folder: NetworkFolder) -> None:
    keys = KeyFiles(folder)
    log = NoteSigner("salus.local/dev/log", load_all_ed25519(folder.key_file("log"))[0])
    old = [_witness(folder, number) for number in (1, 2)]
    (before,) = keys.of(Owner("witness", 2))
    keys.add(Owner("witness", 2), first=10)
    keys.retire(before, end=12)
    new = [old[0], _witness(folder, 2)]
    policy = Policy.from_network(folder.file.read_bytes())

    def is_final(size: int, witnesses: list[CosignatureSigner]) -> bool:
        head = Checkpoint(log.name, size, bytes(32))
        lines = [witness.cosign(head, seconds=1).line() for witness in witnesses]
        return policy.open_checkpoint(sign_checkpoint(head, [log]) + "".join(lines).encode()).is_final

    assert [is_final(size, old) for size in (1, 11, 12)] == [True, True, False]
    assert [is_final(size, new) for size in (9, 10, 12)] == [False, True, True]


@settings(max_examples=50)
@given(
    witnesses=st.integers(1, 4),
    data=st.data(),
    turns=st.lists(st.integers(0, 3), min_size=1, max_size=5),
)
def test_two_keys_of_one_witness_never_count_twice(
    witnesses: int, data: st.DataObject, turns: list[int]
) -> None:
    threshold = data.draw(st.integers(1, witnesses))
    keys = {n: [_cosigner(n, 0)] for n in range(witnesses)}
    quorum = Quorum.of(threshold, [mine[0].verifier for mine in keys.values()])
    for turn in turns:
        mine = keys[turn % witnesses]
        mine.append(_cosigner(turn % witnesses, len(mine)))
        quorum = with_key(quorum, mine[-2].vkey, mine[-1].vkey)
    everyone = [(n, key) for n, mine in keys.items() for key in mine]
    chosen = data.draw(st.sets(st.sampled_from(range(len(everyone)))))
    cosigned = [everyone[at] for at in chosen]
    known = {(key.verifier.name, key.verifier.key_id) for _, key in cosigned}

    assert quorum.is_met(known) == (len({n for n, _ in cosigned}) >= threshold)


def _witness(folder: NetworkFolder, number: int) -> CosignatureSigner:
    key = load_all_ed25519(folder.key_file(f"witness-{number}"))[-1]
    return CosignatureSigner(f"salus.local/dev/witness/{number}", key)


def _cosigner(number: int, age: int) -> CosignatureSigner:
    return CosignatureSigner(f"w{number}", Ed25519PrivateKey.from_private_bytes(bytes([number, age]) * 16))


# case F10, sibling: network.json is loaded, changed and saved by every command that changes the folder.
def test_changes_at_the_same_moment_lose_none(tmp_path: Path) -> None:
    folder = NetworkFolder(tmp_path)
    folder.create(Plan(shards=4, witnesses=2))
    owners = [
        *(Owner("sequencer", n) for n in range(4)),
        Owner("log"),
        Owner("witness", 1),
        Owner("witness", 2),
    ]

    with ThreadPoolExecutor(len(owners) + 1) as pool:
        shard = pool.submit(folder.add_shard, 4)
        list(pool.map(lambda owner: KeyFiles(folder).add(owner, first=10), owners))
        shard.result()

    assert {owner: len(KeyFiles(folder).of(owner)) for owner in owners} == dict.fromkeys(owners, 2)
    assert len(KeyFiles(folder).of(Owner("sequencer", 4))) == 1


# case F10, sibling
def test_who_finds_the_folder_locked_changes_nothing_and_says_so(
    folder: NetworkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder.file.read_bytes()
    monkeypatch.setattr("salus.devkit.network.changing_now", partial(changing_now, wait_s=0))

    with changing_now(folder.file), pytest.raises(DevkitError, match="another process has been changing"):
        KeyFiles(folder).add(Owner("log"), first=10)
    assert folder.file.read_bytes() == before
    assert len(load_all_ed25519(folder.key_file("log"))) == 1


# case F10, sibling
def test_of_two_ends_of_one_key_the_first_stands(folder: NetworkFolder) -> None:
    keys = KeyFiles(folder)
    (old,) = keys.of(Owner("log"))
    keys.add(Owner("log"), first=10)

    assert keys.retire(old, end=12) == 12
    assert keys.retire(old, end=30) == 12
    assert keys.of(Owner("log"))[0].end == 12
