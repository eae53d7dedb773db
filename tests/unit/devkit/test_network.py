from __future__ import annotations

import json
import stat
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.devkit.errors import DevkitError
from salus.devkit.network import OPERATOR, SERVICES, NetworkFolder, Plan
from salus.events.catalogue import input_topics
from salus.ledger.policy import Policy
from salus.runtime.network import Network


def test_making_a_network_twice_changes_nothing(tmp_path):
    first = NetworkFolder(tmp_path).create(Plan())
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    second = NetworkFolder(tmp_path).create(Plan())

    assert first == second
    assert files == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_a_crash_before_network_json_keeps_the_keys(tmp_path):
    first = NetworkFolder(tmp_path).create(Plan())
    (tmp_path / "network.json").unlink()

    assert NetworkFolder(tmp_path).create(Plan()) == first


def test_private_keys_are_their_owners_alone_and_network_json_has_none(tmp_path):
    folder = NetworkFolder(tmp_path)
    folder.create(Plan())
    keys = sorted((tmp_path / "keys").iterdir())

    names = {*(f"{name}.pem" for name in (*SERVICES, OPERATOR, "log", "shard-0")), "kms"}
    assert {key.name for key in keys} == names
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert "PRIVATE" not in folder.file.read_text()


def test_services_and_verifiers_can_read_the_network(tmp_path):
    folder = NetworkFolder(tmp_path)
    folder.create(Plan(shards=2))

    network = Network.read(folder.file)
    policy = Policy.from_network(folder.file.read_bytes())

    assert network.root.did == folder.signer("identity").did
    assert {name: party.did for name, party in network.services.items()} == {
        name: folder.signer(name).did for name in SERVICES
    }
    assert [(party.did, party.roles) for party in network.founders] == [
        (folder.signer(OPERATOR).did, (OPERATOR,))
    ]
    assert set(policy.shards) == {"salus.local/dev/shard/0", "salus.local/dev/shard/1"}
    assert policy.logs[0].name == "salus.local/dev/log"


@given(shards=st.integers(1, 9), partitions=st.integers(1, 20))
def test_every_input_partition_belongs_to_exactly_one_shard(shards, partitions):
    plan = Plan(shards=shards, wide_partitions=partitions)
    sealed = Counter(
        (topic, partition)
        for shard in range(shards)
        for topic, own in plan.shard_topics(shard).items()
        for partition in own
    )

    assert set(sealed.values()) == {1}
    assert set(sealed) == {(t, p) for t in input_topics() for p in range(plan.partitions(t))}


def test_a_key_that_is_not_one_is_named(tmp_path):
    folder = NetworkFolder(tmp_path)
    folder.create(Plan())
    folder.key_file("audit").write_text("not a key")

    with pytest.raises(DevkitError, match=r"audit\.pem holds no PEM private key"):
        folder.signer("audit")
    with pytest.raises(DevkitError, match=r"nobody\.pem cannot be read"):
        folder.signer("nobody")


def test_network_json_is_as_documented(tmp_path):
    network = NetworkFolder(tmp_path).create(Plan())

    assert json.loads((tmp_path / "network.json").read_text()) == network
    assert network["policy"] == ["quorum none"]
    assert network["root"]["key"]["valid_from"] == "2026-01-01T00:00:00Z"
    assert network["shards"][0]["topics"]["salus.clinical.events"] == [0, 1, 2, 3]
    assert network["shards"][0]["topics"]["salus.consent.events"] == [0]
