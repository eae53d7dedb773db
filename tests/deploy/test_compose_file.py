"""docker-compose.yml is what Docker Compose itself accepts, and starts every service with its settings."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from salus.crypto.keys import load_ed25519
from salus.devkit.network import NetworkFolder, Plan
from salus.devkit.store_accounts import access
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.policy import Policy
from salus.runtime.manifests import services as manifests

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
SERVICES = {manifest.name for manifest in manifests()}


def test_compose_accepts_the_file(compose: Run) -> None:
    environment = {**os.environ, "SALUS_S3_SECRET_KEY": "secret-for-the-test"}
    result = compose("config", "--format", "json", cwd=ROOT, env=environment)

    assert result.returncode == 0, result.stderr
    services = json.loads(result.stdout)["services"]
    assert set(services) == SERVICES | {"kafka", "minio", "setup", "witness-state"}
    for name in SERVICES:
        assert services[name]["command"] == ["python", "-m", f"salus.{name}"]
        assert services[name]["environment"]["SALUS_SERVICE_NAME"] == name
        assert services[name]["depends_on"]["setup"]["condition"] == "service_completed_successfully"


def test_anchoring_and_the_witness_agree_on_the_network_that_setup_makes(
    compose: Run, tmp_path: Path
) -> None:
    environment = {**os.environ, "SALUS_S3_SECRET_KEY": "secret-for-the-test"}
    services = json.loads(compose("config", "--format", "json", cwd=ROOT, env=environment).stdout)["services"]
    setup, witness, anchoring = (services[name] for name in ("setup", "witness", "anchoring"))
    (told,) = [word.partition("=")[2] for word in setup["command"] if word.startswith("--witnesses=")]
    folder = NetworkFolder(tmp_path)
    folder.create(Plan(witnesses=int(told)))
    quorum = Policy.from_network(folder.file.read_bytes()).quorum

    name = witness["environment"]["SALUS_WITNESS_NAME"]
    assert json.loads(anchoring["environment"]["SALUS_WITNESSES"]) == {name: "http://witness:8080"}
    assert quorum.required == name == quorum.verifiers[0].name
    key = Path(witness["environment"]["SALUS_NOTE_KEY_FILE"])
    assert CosignatureSigner(name, load_ed25519(folder.key_file(key.stem))).vkey == quorum.verifiers[0].vkey
    state = witness["environment"]["SALUS_STATE_FILE"]
    assert {"witness": "/var/lib/salus"}.items() <= {
        volume["source"]: volume["target"] for volume in witness["volumes"]
    }.items()
    assert state.startswith("/var/lib/salus/")
    assert not [one for one in witness["environment"] if "KAFKA" in one or "S3" in one]


def test_every_setting_that_a_service_requires_is_given(
    compose: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret-key").write_text("handed out by setup")
    environment = {**os.environ, "SALUS_S3_SECRET_KEY": "secret-for-the-test"}
    services = json.loads(compose("config", "--format", "json", cwd=ROOT, env=environment).stdout)["services"]
    for name in SERVICES:
        with monkeypatch.context() as patched:
            for variable, value in services[name]["environment"].items():
                patched.setenv(variable, value)
            if name in access():
                patched.setenv("SALUS_S3_SECRET_KEY_FILE", str(tmp_path / "secret-key"))
            # The image sets it for all of them.
            patched.setenv("SALUS_HTTP_PORT", "8080")
            built = importlib.import_module(f"salus.{name}.settings").Settings()
        assert built.service_name == name


def configured(compose: Run, *files: str) -> dict[str, Any]:
    environment = {**os.environ, "SALUS_S3_SECRET_KEY": "secret-for-the-test"}
    result = compose(*files, "config", "--format", "json", cwd=ROOT, env=environment)
    assert result.returncode == 0, result.stderr
    services: dict[str, Any] = json.loads(result.stdout)["services"]
    return services


def volumes_of(service: dict[str, Any]) -> dict[str, str]:
    return {volume["target"]: volume["source"] for volume in service["volumes"] if volume["type"] == "volume"}


def test_kafka_keeps_its_data_in_its_volume(compose: Run) -> None:
    kafka = configured(compose)["kafka"]
    # Case deploy.md, 2: Kafka wrote elsewhere, so that `down` and `up` lost every record.
    folders = [Path(folder) for folder in kafka["environment"]["KAFKA_LOG_DIRS"].split(",")]

    assert [folder for folder in folders if Path("/var/lib/kafka/data") not in folder.parents] == []
    assert volumes_of(kafka) == {"/var/lib/kafka/data": "kafka"}


def test_everything_that_is_written_outlives_its_container(compose: Run) -> None:
    for name, service in configured(compose).items():
        kept = set(volumes_of(service))
        told = service["environment"]
        database = told.get("SALUS_DATABASE_URL", "").removeprefix("sqlite+aiosqlite:///")
        written = [file for file in (database, told.get("SALUS_STATE_FILE", "")) if file]

        assert all(str(Path(file).parent) in kept for file in written), name


def test_the_witness_gets_a_state_once_and_none_when_it_was_lost(compose: Run, tmp_path: Path) -> None:
    services = configured(compose)
    made, witness = services["witness-state"], services["witness"]
    state = Path(witness["environment"]["SALUS_STATE_FILE"])
    places = {"/var/lib/salus": tmp_path / "witness", "/run/salus": tmp_path / "network"}
    for folder in places.values():
        folder.mkdir()

    def here(word: str) -> str:
        for place, folder in places.items():
            word = word.replace(place, str(folder))
        return word

    def run() -> None:
        module, *words = map(here, made["command"][2:])
        importlib.import_module(module).main(words)

    assert witness["environment"]["SALUS_CREATE_STATE"] == "false"
    assert services["setup"]["depends_on"]["witness-state"]["condition"] == "service_completed_successfully"
    assert volumes_of(made)["/var/lib/salus"] == volumes_of(witness)["/var/lib/salus"]
    assert volumes_of(made)["/run/salus"] == volumes_of(services["setup"])["/run/salus"]

    run()
    NetworkFolder(places["/run/salus"]).create(Plan(witnesses=1))
    run()
    kept = Path(here(str(state)))
    assert kept.exists()

    kept.unlink()
    run()
    assert not kept.exists()


def test_each_service_is_given_its_own_folder_and_account(compose: Run) -> None:
    services = configured(compose)
    handed_out = volumes_of(services["setup"])
    root = {name for name, service in services.items() if "SALUS_S3_SECRET_KEY" in service["environment"]}

    for name in SERVICES:
        assert volumes_of(services[name])["/run/salus"] == handed_out[f"/run/hand-out/{name}"]
        account = services[name]["environment"].get("SALUS_S3_ACCESS_KEY")
        assert account == (f"salus-{name}" if name in access() else None)
    assert len(set(handed_out.values())) == len(SERVICES) + 1
    assert root == {"setup"}


def test_everything_has_a_health_check_and_limits(compose: Run) -> None:
    for name, service in configured(compose).items():
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] > 0, name
        if name in SERVICES:
            assert service["healthcheck"]["test"][-2:] == ["salus.runtime.healthcheck", "/readyz"]
            assert service["read_only"] is True
        if name not in {"setup", "witness-state"}:
            assert service["healthcheck"]["start_period"] in {"2m0s", "3m0s"}, name


def test_parts_of_this_machine_take_the_place_of_images(
    compose: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KAFKA_FOLDER", "MINIO_FOLDER", "DOCKERFILES"):
        monkeypatch.setenv(name, f"/{name}")
    files = ("--file", "docker-compose.yml", "--file", "deploy/docker/parts/compose.yml")
    services = configured(compose, *files)
    usual = configured(compose)

    assert {name for name in services if services[name] != usual[name]} == {"kafka", "minio"}
    for name in ("kafka", "minio"):
        assert services[name]["build"]["context"] == f"/{name.upper()}_FOLDER"
        assert services[name]["environment"] == usual[name]["environment"]
        assert (ROOT / "deploy/docker/parts" / f"{name}.Dockerfile").exists()


def test_compose_has_no_default_for_a_secret(compose: Run) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "SALUS_S3_SECRET_KEY"}
    result = compose("config", cwd=ROOT, env=environment)

    assert result.returncode != 0
    assert "set SALUS_S3_SECRET_KEY" in result.stderr


def test_nothing_is_published_beyond_this_machine(compose: Run) -> None:
    environment = {**os.environ, "SALUS_S3_SECRET_KEY": "secret-for-the-test"}
    result = compose("config", "--format", "json", cwd=ROOT, env=environment)

    published = [
        port
        for service in json.loads(result.stdout)["services"].values()
        for port in service.get("ports", [])
    ]
    assert published
    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
