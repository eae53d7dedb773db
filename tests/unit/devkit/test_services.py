from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from msgspec.structs import replace

from salus.devkit import services as devkit_services
from salus.devkit.addresses import S3, Addresses
from salus.devkit.errors import DevkitError, NotRunningError, StateFileError
from salus.devkit.network import NetworkFolder, Plan
from salus.devkit.platform import Platform
from salus.devkit.processes import Place, ProcessRecord
from salus.devkit.run_record import Run, RunningService, StateFolder
from salus.devkit.services import Surroundings, instances, start_service
from salus.ledger.policy import Policy

PARTS = Addresses("127.0.0.1:9092", S3("http://127.0.0.1:9000", "key", "secret"))


def surroundings(tmp_path: Path) -> Surroundings:
    urls = {name: f"http://127.0.0.1:{8000 + n}" for n, name in enumerate(instances(2))}
    return Surroundings(NetworkFolder(tmp_path), PARTS, urls, {"SALUS_BLOCK_AGE_MS_MAX": "50"})


def test_a_service_is_told_everything_and_inherits_no_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("SALUS_KAFKA_BOOTSTRAP", "elsewhere:1")
    monkeypatch.setenv("SALUS_LEDGER_BUCKET", "elsewhere")
    monkeypatch.setenv("SALUS_LOG_LEVEL", "debug")
    place = Place(tmp_path / "data", tmp_path / "logs", detached=False)

    around = surroundings(tmp_path)
    told = around.environment(instances(2)["anchoring"], place)

    assert told["SALUS_KAFKA_BOOTSTRAP"] == "127.0.0.1:9092"
    assert "SALUS_LEDGER_BUCKET" not in told
    assert told["SALUS_LOG_LEVEL"] == "debug"
    assert told["SALUS_NOTE_KEY_FILE"] == str(tmp_path / "keys" / "log.pem")
    assert told["SALUS_BLOCK_AGE_MS_MAX"] == "50"
    assert told["SALUS_HTTP_PORT"] == around.urls["anchoring"].rpartition(":")[2]


def test_each_service_has_an_account_of_its_own_at_a_kafka_that_asks_for_one(tmp_path):
    place = Place(tmp_path / "data", tmp_path / "logs", detached=False)
    parts = replace(PARTS, kafka_accounts=str(tmp_path / "accounts"))
    NetworkFolder(tmp_path).store_secrets.create()
    around = Surroundings(NetworkFolder(tmp_path), parts, surroundings(tmp_path).urls, {}, own_accounts=True)

    told = {name: around.environment(instances(1)[name], place) for name in ("audit", "storage")}

    for name, settings in told.items():
        assert settings["SALUS_KAFKA_PROTOCOL"] == "SSL"
        assert settings["SALUS_KAFKA_KEY_FILE"] == str(tmp_path / "accounts" / name / "key.pem")
        assert Path(settings["SALUS_KAFKA_CERTIFICATE_FILE"]).exists()


def test_an_account_in_the_environment_is_for_a_kafka_that_was_given(tmp_path, monkeypatch):
    monkeypatch.setenv("SALUS_KAFKA_PROTOCOL", "SASL_SSL")
    monkeypatch.setenv("SALUS_KAFKA_USER", "me")
    place = Place(tmp_path / "data", tmp_path / "logs", detached=False)
    urls = surroundings(tmp_path).urls
    NetworkFolder(tmp_path).store_secrets.create()

    given, ours = (
        Surroundings(NetworkFolder(tmp_path), PARTS, urls, {}, own_accounts=own).environment(
            instances(1)["audit"], place
        )
        for own in (False, True)
    )

    assert (given["SALUS_KAFKA_PROTOCOL"], given["SALUS_KAFKA_USER"]) == ("SASL_SSL", "me")
    assert {name for name in ours if name.startswith("SALUS_KAFKA")} == {"SALUS_KAFKA_BOOTSTRAP"}


def test_each_shard_has_a_sequencer_with_its_own_key(tmp_path):
    place = Place(tmp_path / "data", tmp_path / "logs", detached=False)
    known = instances(2)
    told = [surroundings(tmp_path).environment(known[n], place) for n in ("sequencer", "sequencer-1")]

    assert [one["SALUS_SHARD"] for one in told] == ["0", "1"]
    assert [Path(one["SALUS_NOTE_KEY_FILE"]).name for one in told] == ["shard-0.pem", "shard-1.pem"]
    assert {one["SALUS_SIGNING_KEY_FILE"] for one in told} == {str(tmp_path / "keys" / "sequencer.pem")}


def test_witnesses_have_keys_of_their_own_and_anchoring_is_told_where_they_are(tmp_path):
    network = NetworkFolder(tmp_path)
    network.create(Plan(witnesses=3))
    quorum = Policy.from_network(network.file.read_bytes()).quorum
    known = instances(1, 3)
    urls = {name: f"http://127.0.0.1:{8000 + n}" for n, name in enumerate(known)}
    place = Place(tmp_path / "data", tmp_path / "logs", detached=False)
    told = {name: Surroundings(network, PARTS, urls, {}).environment(known[name], place) for name in known}

    names = [verifier.name for verifier in quorum.verifiers]
    assert [(group.threshold, list(group.members)) for group in quorum.groups] == [(2, names)]
    assert json.loads(told["anchoring"]["SALUS_WITNESSES"]) == {
        name: urls[f"witness-{n}"] for n, name in enumerate(names, 1)
    }
    assert told["witness-2"]["SALUS_WITNESS_NAME"] == names[1]
    assert Path(told["witness-2"]["SALUS_NOTE_KEY_FILE"]).name == "witness-2.pem"
    assert "SALUS_WITNESSES" not in told["sequencer"]


def test_what_a_killed_service_left_in_its_temporary_folder_is_gone_at_its_next_start(tmp_path, monkeypatch):
    monkeypatch.setattr(devkit_services, "spawn", lambda *_, **__: None)
    place = Place(tmp_path / "data" / "anchoring", tmp_path / "logs", detached=False)
    around, instance = surroundings(tmp_path), instances(1)["anchoring"]
    scratch = Path(around.environment(instance, place)["TMPDIR"])
    (scratch / "salus-anchoring-x").mkdir(parents=True)
    start_service(instance, around, place)

    assert place.folder in scratch.parents
    assert list(scratch.iterdir()) == []
    assert stat.S_IMODE(scratch.stat().st_mode) == 0o700


def test_a_run_is_remembered_by_its_owner_alone(tmp_path):
    state = StateFolder(tmp_path / "state")
    record = ProcessRecord("identity", 4, "then", "identity.log")
    run = Run("local", PARTS, detached=True, services={"identity": RunningService("http://a:1", record)})
    state.write_run(run)
    state.remember(PARTS, {"identity": 1})

    assert state.run() == run
    assert state.remembered().service_ports == {"identity": 1}
    for name in ("run.json", "addresses.json"):
        assert stat.S_IMODE((state.folder / name).stat().st_mode) == 0o600

    state.write_run(None)
    assert state.run() is None


def test_erasing_removes_all_but_the_lock(tmp_path):
    state = StateFolder(tmp_path)
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "network.json").touch()
    state.lock.touch()

    state.erase()
    StateFolder(tmp_path / "none").erase()

    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_a_platform_that_does_not_run_says_so(tmp_path):
    with pytest.raises(NotRunningError, match="start one with `salus up`"):
        Platform.attach(tmp_path)

    platform = Platform(tmp_path)
    with pytest.raises(NotRunningError):
        _ = platform.kafka_bootstrap
    with pytest.raises(NotRunningError):
        platform.service_url("audit")
    with pytest.raises(DevkitError, match="no process is called kafka"):
        platform.kill("kafka")


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff"])
def test_a_damaged_run_record_is_named_with_what_to_do(tmp_path, content):
    """Case L1, sibling: it was a traceback of the JSON reader."""
    state = StateFolder(tmp_path)
    for name, read in (("run.json", state.run), ("addresses.json", state.remembered)):
        (tmp_path / name).write_bytes(content)

        with pytest.raises(StateFileError, match=f"{name} cannot be read.*remove it"):
            read()
        assert (tmp_path / name).read_bytes() == content
