from __future__ import annotations

import json
import stat
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salus.devkit.errors import DevkitError
from salus.devkit.hand_out import hand_out
from salus.devkit.network import OPERATOR, NetworkFolder, Plan, described_topics, parties
from salus.devkit.store_accounts import access
from salus.events.contexts import CATALOGUE
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

    # The operator's key is no service's: who puts keys/ into a cluster must not put it there (deploy.md).
    assert {key.name for key in keys} == {
        *(f"{name}.pem" for name in (*parties(), "log", "shard-0")),
        "kms",
    }
    private = [*keys, folder.key_file(OPERATOR), *(p for p in (tmp_path / "s3").rglob("*") if p.is_file())]
    assert len(private) == len(keys) + 1 + 2 * len(access())
    assert {stat.S_IMODE(key.stat().st_mode) for key in private} == {0o600}
    assert folder.key_file(OPERATOR).parent not in folder.key_file("audit").parents
    assert "PRIVATE" not in folder.file.read_text()


def test_a_network_file_whose_founders_cannot_hold_their_roles_is_refused(tmp_path):
    folder = NetworkFolder(tmp_path)
    folder.create(Plan())
    written = json.loads(folder.file.read_text())
    for change, why in (("midwife", "no role of that name"), ("clinician", "a service cannot hold")):
        changed = written | {"services": {change: written["services"]["audit"]}}
        folder.file.write_text(json.dumps(changed))

        with pytest.raises(ValueError, match=why):
            Network.read(folder.file)


def test_services_and_verifiers_can_read_the_network(tmp_path):
    folder = NetworkFolder(tmp_path)
    folder.create(Plan(shards=2))

    network = Network.read(folder.file)
    policy = Policy.from_network(folder.file.read_bytes())

    assert network.root.did == folder.signer("identity").did
    assert {name: party.did for name, party in network.services.items()} == {
        name: folder.signer(name).did for name in parties()
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
    assert set(sealed) == {(t, p) for t in CATALOGUE.input_topics() for p in range(plan.partitions(t))}


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


def test_each_service_is_handed_its_own_files_and_no_other(tmp_path):
    folder = NetworkFolder(tmp_path / "network")
    folder.create(Plan(shards=2, witnesses=1))
    hand_out(folder, tmp_path / "given")
    given = {
        place.name: {file.name for file in place.iterdir()} - {"network.json"}
        for place in (tmp_path / "given").iterdir()
    }
    store = {"s3-access-key", "s3-secret-key"}

    assert given == {
        "identity": {"identity.pem"},
        "consent": {"consent.pem"},
        "storage": {"storage.pem", "kms", *store},
        "sequencer": {"sequencer.pem", "shard-0.pem", "shard-1.pem", *store},
        "anchoring": {"anchoring.pem", "log.pem", *store},
        "audit": {"audit.pem", *store},
        "witness": {"witness-1.pem"},
    }
    assert (tmp_path / "given/audit/s3-access-key").read_text() == "salus-audit"
    modes = {stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "given").rglob("*.pem")}
    assert modes == {0o600}


def test_handing_out_again_gives_what_changed(tmp_path):
    folder = NetworkFolder(tmp_path / "network")
    folder.create(Plan())
    hand_out(folder, tmp_path / "given")
    folder.add_shard(1)
    hand_out(folder, tmp_path / "given")

    assert (tmp_path / "given/sequencer/shard-1.pem").exists()
    assert (tmp_path / "given/audit/network.json").read_bytes() == folder.file.read_bytes()


@given(shards=st.integers(1, 5), partitions=st.integers(1, 9))
def test_a_network_file_says_which_topics_it_needs(tmp_path_factory, shards, partitions):
    plan = Plan(shards=shards, wide_partitions=partitions)
    network = NetworkFolder(tmp_path_factory.mktemp("network")).create(plan)
    topics = {topic.name: topic.partitions for topic in described_topics(network)}

    assert {name: topics[name] for name in CATALOGUE.input_topics()} == {
        name: plan.partitions(name) for name in CATALOGUE.input_topics()
    }
    assert topics["salus.audit.ocsf"] == 1


def test_a_service_that_the_network_was_made_without_is_new_to_it(tmp_path):  # issue 13
    folder = NetworkFolder(tmp_path)
    network = folder.create(Plan())
    assert folder.new_services() == []
    del network["services"]["storage"]
    folder.file.write_text(json.dumps(network))

    assert [manifest.name for manifest in folder.new_services()] == ["storage"]
    assert folder.ensure_service_key("storage").did == folder.ensure_service_key("storage").did


def test_what_was_restored_is_added_to_what_was_before(tmp_path):
    folder = NetworkFolder(tmp_path)
    folder.create(Plan())
    consent, clinical = ("salus.consent.events", 0), ("salus.clinical.events", 2)

    folder.add_restored({consent: [(0, 5), (7, 9)], clinical: [(4, 4)]})
    folder.add_restored({consent: [(9, 12), (3, 6)]})
    folder.add_restored({clinical: [(0, 3)]})

    restored = Network.read(folder.file).restored_ranges()
    assert restored == {consent: [(0, 6), (7, 12)], clinical: [(0, 3)]}
    assert Network.read(folder.file).shards
