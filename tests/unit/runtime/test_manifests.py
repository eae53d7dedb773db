"""One manifest a service: the reader is strict, and whoever lists services lists a new one too."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from tests.supply import ROOT, SUPPLY

from salus.devkit.addresses import S3, Addresses
from salus.devkit.hand_out import hand_out
from salus.devkit.network import NetworkFolder, Plan, described_topics, parties
from salus.devkit.processes import Place
from salus.devkit.services import Surroundings, instances, start_service
from salus.devkit.store_accounts import access, bucket_names, locked_buckets, policy_of
from salus.runtime.errors import ManifestError
from salus.runtime.manifests import manifests_in, services


def package(folder: Path, name: str, text: str) -> Path:
    """Make a package of that name which holds nothing but a manifest; return the folder of packages."""
    file = folder / "salus" / name / "service.toml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file.parent.parent


@pytest.fixture
def supply(tmp_path, monkeypatch):
    """One service more: a folder on the path, and nothing else."""
    package(tmp_path / "src", "supply", SUPPLY)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "src")])


def test_each_service_has_a_manifest_and_they_are_found_by_their_ports():
    manifests = services()

    assert {manifest.name for manifest in manifests} == {
        path.name for path in (ROOT / "services").iterdir() if path.is_dir()
    }
    assert [manifest.port for manifest in manifests] == sorted(manifest.port for manifest in manifests)


@pytest.mark.usefixtures("supply")
def test_a_new_service_is_in_the_dev_kit_with_its_key_settings_topic_and_bucket(tmp_path):
    """Issue 13, section 2: nothing lists services by hand."""
    network = NetworkFolder(tmp_path / "network")
    described = network.create(Plan())
    (tmp_path / "network/keys/supply-seal").write_text("secret")
    hand_out(network, tmp_path / "given")
    known = instances(1)
    urls = {name: f"http://127.0.0.1:{8000 + n}" for n, name in enumerate(known)}
    parts = Addresses("127.0.0.1:9092", S3("http://127.0.0.1:9000", "key", "secret"))
    around = Surroundings(network, parts, urls, {}, own_accounts=True)
    place = Place(tmp_path / "data", tmp_path / "logs", detached=False)
    told = around.environment(known["supply"], place)
    # It ends at once, for there is no such module.
    started = start_service(known["supply"], around, place)

    assert parties()[-1] == "supply"
    assert described["services"]["supply"]["roles"] == ["supply"]
    assert {file.name for file in (tmp_path / "given/supply").iterdir()} == {
        *("supply.pem", "supply-seal", "s3-access-key", "s3-secret-key", "network.json")
    }
    assert "salus.supply.events" in {topic.name for topic in described_topics(described)}
    assert bucket_names()["cargo"] == "salus-cargo"
    assert "cargo" in locked_buckets()
    assert set(access()["supply"]) == {"cargo"}
    assert "arn:aws:s3:::m/*" in str(policy_of("supply", {"cargo": "m"}))
    assert told["SALUS_SIGNING_KEY_FILE"].endswith("keys/supply.pem")
    assert told["SALUS_SEAL_FILE"].endswith("keys/supply-seal")
    assert told["SALUS_LOG_URL"] == f"{urls['anchoring']}/log"
    assert told["SALUS_DATABASE_URL"].startswith("sqlite")
    assert told["SALUS_S3_ACCESS_KEY"] == "salus-supply"
    assert (started.ready_path, started.start_s_max) == ("/fit", 300)


def test_a_service_is_told_nothing_that_its_manifest_does_not_say(tmp_path):
    network = NetworkFolder(tmp_path)
    network.create(Plan(witnesses=1))
    known = instances(1, 1)
    urls = {name: f"http://127.0.0.1:{8000 + n}" for n, name in enumerate(known)}
    parts = Addresses("127.0.0.1:9092", S3("http://127.0.0.1:9000", "key", "secret"))
    place = Place(tmp_path / "data", tmp_path / "logs", detached=False)
    told = {
        name: Surroundings(network, parts, urls, {}).environment(one, place) for name, one in known.items()
    }
    having = {
        setting: {name for name in told if f"SALUS_{setting}" in told[name]}
        for setting in (
            "KAFKA_BOOTSTRAP",
            "DATABASE_URL",
            "S3_SECRET_KEY",
            "KMS",
            "NOTE_KEY_FILE",
            "SHARD",
        )
    }

    assert having == {
        "KAFKA_BOOTSTRAP": set(known) - {"witness-1"},
        "DATABASE_URL": {"identity", "consent", "storage", "audit"},
        "S3_SECRET_KEY": {"storage", "sequencer", "anchoring", "audit"},
        "KMS": {"storage"},
        "NOTE_KEY_FILE": {"sequencer", "anchoring", "witness-1"},
        "SHARD": {"sequencer"},
    }
    values = [value for one in told.values() for name, value in one.items() if name.startswith("SALUS_")]
    assert not [value for value in values if re.search(r"\{[a-z_]+\}", value)]


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("port = 18099", "port = 80", r"port"),
        ("port = 18099", "prot = 18099", r"prot"),
        ('role = "contract"', 'role = "helper"', r"role"),
        ('name = "supply"', 'name = "chain"', r"name is chain, and the package is supply"),
        ('name = "supply"', 'name = "a b"', r"name"),
        ('disk = "2Gi"', 'disk = "much"', r"disk"),
        ('disk = "2Gi"', "", r"supply: database needs disk"),
        ("database = true", "", r"supply: database is False"),
        ("layers = [", "others = [", r"others"),
        ('layers = ["__main__", "api | settings", "domain | routes"]', "", r"supply: layers is empty"),
        ('cargo = "append"', 'cargo = "own"', r"buckets"),
        ("{anchoring_url}", "{moon_url}", r"settings.LOG_URL names \{moon_url\}"),
        ("[topics]", "[topics", r"is not a manifest"),
    ],
)
def test_a_manifest_that_is_none_is_named_with_its_field(tmp_path, before, after, says):
    assert before in SUPPLY
    anchoring = SUPPLY.replace("supply", "anchoring").replace("18099", "18085")
    folders = {
        package(tmp_path, "anchoring", anchoring),
        package(tmp_path, "supply", SUPPLY.replace(before, after)),
    }

    with pytest.raises(ManifestError, match=says):
        manifests_in(folders)


def test_no_two_services_own_a_topic_or_listen_on_a_port(tmp_path):
    other = SUPPLY.replace('name = "supply"', 'name = "chain"')
    anchoring = SUPPLY.replace("supply", "anchoring").replace("18099", "18085")
    for name, text in (("anchoring", anchoring), ("supply", SUPPLY), ("chain", other)):
        folder = package(tmp_path, name, text)

    with pytest.raises(
        ManifestError,
        match=r"port: 18099 is taken by chain \(.*/service\.toml\) and supply \(.*supply/service\.toml\); "
        r"topics\.owns: salus\.supply\.events is taken by chain",
    ):
        manifests_in([folder])
