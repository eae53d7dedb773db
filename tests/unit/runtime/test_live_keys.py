"""Keys that change while a process runs: what the files say counts, and what they cannot say does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.crypto.errors import InvalidKeyError, KmsAwayError
from salus.crypto.keys import save_ed25519
from salus.crypto.signing_keys import SigningKey, key_place
from salus.devkit.key_files import KeyFiles, Owner
from salus.devkit.network import NetworkFolder, Plan
from salus.runtime import live_keys
from salus.runtime.live_keys import HeldSigners, WatchedNetwork

LOG, SHARD = Owner("log"), Owner("sequencer", 0)


@pytest.fixture
def folder(tmp_path: Path) -> NetworkFolder:
    made = NetworkFolder(tmp_path)
    made.create(Plan())
    return made


def signers_of(folder: NetworkFolder, watched: WatchedNetwork) -> HeldSigners:
    return HeldSigners(watched.log(), key_place(str(folder.key_file("log"))))


def test_a_process_signs_with_both_keys_and_then_with_the_new_one(
    folder: NetworkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_keys, "LOOK_EVERY_S", 0.0)
    watched, files = WatchedNetwork(folder.file), KeyFiles(folder)
    signers = signers_of(folder, watched)
    signers.require_one()
    (old,) = files.of(LOG)
    assert [signer.vkey for signer in signers.at(7)] == [old.verifier_key]

    new = files.add(LOG, first=10)
    assert watched.look()
    assert [[s.vkey for s in signers.at(at)] for at in (9, 10)] == [
        [old.verifier_key],
        [old.verifier_key, new.verifier_key],
    ]

    files.retire(old, end=11)
    assert watched.look()
    assert [[s.vkey for s in signers.at(at)] for at in (10, 11)] == [
        [old.verifier_key, new.verifier_key],
        [new.verifier_key],
    ]


def test_a_process_without_a_key_that_counts_signs_nothing(folder: NetworkFolder) -> None:
    watched, files = WatchedNetwork(folder.file), KeyFiles(folder)
    held = folder.key_file("log").read_bytes()
    (old,) = files.of(LOG)
    files.add(LOG, first=5)
    files.retire(old, end=6)
    folder.key_file("log").write_bytes(held)
    watched.look()
    signers = signers_of(folder, watched)

    assert len(signers.at(5)) == 1
    with pytest.raises(InvalidKeyError, match="signs at 6"):
        signers.at(6)


def test_a_strangers_key_is_refused_at_the_start(folder: NetworkFolder) -> None:
    save_ed25519(folder.key_file("log"), Ed25519PrivateKey.generate())

    with pytest.raises(InvalidKeyError, match="we hold no key"):
        signers_of(folder, WatchedNetwork(folder.file)).require_one()


def test_a_place_that_is_away_stops_nobody_who_can_still_sign(
    folder: NetworkFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Place:
        away = False

        def read(self) -> Sequence[SigningKey]:
            if self.away:
                raise KmsAwayError("the token does not serve")
            return key_place(str(folder.key_file("log"))).read()

    monkeypatch.setattr(live_keys, "LOOK_EVERY_S", 0.0)
    watched, place = WatchedNetwork(folder.file), Place()
    signers = HeldSigners(watched.log(), place)
    signers.require_one()
    (old,) = KeyFiles(folder).of(LOG)
    place.away = True
    new = KeyFiles(folder).add(LOG, first=3)
    watched.look()

    assert [signer.vkey for signer in signers.at(3)] == [old.verifier_key]
    place.away = False
    assert [signer.vkey for signer in signers.at(3)] == [old.verifier_key, new.verifier_key]
    place.away = True
    with pytest.raises(KmsAwayError):
        HeldSigners(watched.log(), place).at(3)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda network: network["log"].update(
            keys=[{"verifier_key": network["log"]["verifier_key"], "from": 9}]
        ),
        lambda network: network["shards"][0].update(keys=[{"verifier_key": "x"}]),
        lambda network: network.pop("log"),
    ],
)
def test_a_network_file_that_makes_no_sense_changes_nothing(folder: NetworkFolder, spoil: Any) -> None:
    watched = WatchedNetwork(folder.file)
    keys = watched.log()
    before = keys.history
    network = folder.read()
    spoil(network)
    folder.write(network)

    assert not watched.look()
    assert keys.history is before
    folder.file.unlink()
    assert not watched.look()


def test_a_change_of_the_policy_alone_is_noticed(folder: NetworkFolder) -> None:
    watched = WatchedNetwork(folder.file)
    assert not watched.look()
    folder.write(folder.read() | {"policy": ["# the same", "quorum none"]})

    assert watched.look()


def test_a_shards_keys_are_followed_and_stay_if_the_file_forgets_it(folder: NetworkFolder) -> None:
    watched = WatchedNetwork(folder.file)
    keys = watched.shards()[0]
    new = KeyFiles(folder).add(SHARD, first=4)
    watched.look()
    known = keys.history
    folder.file.write_text(json.dumps(folder.read() | {"shards": []}))
    watched.look()

    assert new.key_id in {verifier.key_id.hex() for verifier in known.verifiers}
    assert keys.history is known
    with pytest.raises(LookupError):
        watched.shard(7)


async def test_whoever_follows_is_told(folder: NetworkFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_keys, "LOOK_EVERY_S", 0.01)
    told = asyncio.Event()
    task = asyncio.create_task(WatchedNetwork(folder.file).follow(told.set))
    await asyncio.sleep(0)
    KeyFiles(folder).add(LOG, first=2)

    await asyncio.wait_for(told.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
