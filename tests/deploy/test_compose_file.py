"""docker-compose.yml is what Docker Compose itself accepts, and starts every service with its settings."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from salus.crypto.keys import load_ed25519
from salus.devkit.network import NetworkFolder, Plan
from salus.ledger.cosignature import CosignatureSigner
from salus.ledger.policy import Policy

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
SERVICES = {"identity", "consent", "storage", "sequencer", "anchoring", "audit", "witness"}


def test_compose_accepts_the_file(compose: Run) -> None:
    environment = {**os.environ, "SALUS_S3_SECRET_KEY": "secret-for-the-test"}
    result = compose("config", "--format", "json", cwd=ROOT, env=environment)

    assert result.returncode == 0, result.stderr
    services = json.loads(result.stdout)["services"]
    assert set(services) == SERVICES | {"kafka", "minio", "setup"}
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
    told = setup["command"][setup["command"].index("--witnesses") + 1]
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
    compose: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, "SALUS_S3_SECRET_KEY": "secret-for-the-test"}
    services = json.loads(compose("config", "--format", "json", cwd=ROOT, env=environment).stdout)["services"]
    for name in SERVICES:
        with monkeypatch.context() as patched:
            for variable, value in services[name]["environment"].items():
                patched.setenv(variable, value)
            # The image sets it for all of them.
            patched.setenv("SALUS_HTTP_PORT", "8080")
            built = importlib.import_module(f"salus.{name}.settings").Settings()
        assert built.service_name == name


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
