"""A platform whose services are no processes, to see which are started and stopped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from salus.devkit import platform as platforms
from salus.devkit.addresses import S3, Addresses
from salus.devkit.network import Plan
from salus.devkit.platform import Platform
from salus.devkit.processes import Place, ProcessRecord
from salus.devkit.run_record import Run, RunningService, StateFolder
from salus.devkit.services import Instance, Surroundings, catalogue_digest

PARTS = Addresses("127.0.0.1:9092", S3("http://127.0.0.1:9000", "key", "secret"))


def pretend_processes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Start and stop no process from now on; return the list of what is stopped."""
    names: list[str] = []

    def start(instance: Instance, _: Surroundings, place: Place) -> RunningService:
        process = ProcessRecord(instance.name, 1, "", str(place.logs))
        return RunningService("http://127.0.0.1:1", process, catalogue=catalogue_digest())

    async def wait(_: Mapping[str, RunningService], **__: bool) -> None: ...

    async def stop(process: ProcessRecord) -> None:
        names.append(process.name)

    monkeypatch.setattr(platforms, "start_service", start)
    monkeypatch.setattr(platforms, "wait_until_ready", wait)
    monkeypatch.setattr(platforms, "stop", stop)
    monkeypatch.setattr(platforms, "free_ports", lambda _, preferred: [*preferred, 1][:1])
    monkeypatch.setattr(platforms, "is_alive", lambda _: True)
    return names


def attached(folder: Path) -> Platform:
    """Return the platform of a folder whose parts run."""
    state = StateFolder(folder)
    Platform(folder).network.create(Plan(shards=2))
    state.write_run(Run("local", PARTS, detached=True))
    return Platform.attach(folder)
