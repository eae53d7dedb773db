"""docker-compose.yml is what Docker Compose itself accepts, and starts every service with its settings."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., subprocess.CompletedProcess[str]]
ROOT = Path(__file__).parents[2]
SERVICES = {"identity", "consent", "storage", "sequencer", "anchoring", "audit"}


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
