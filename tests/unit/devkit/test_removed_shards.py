"""A new user's case: sequencers of idle shards could not be removed, and `up` started them each time."""

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
from salus.devkit.services import Instance, Surroundings

PARTS = Addresses("127.0.0.1:9092", S3("http://127.0.0.1:9000", "key", "secret"))


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was stopped; what is started is no process."""
    names: list[str] = []

    def start(instance: Instance, _: Surroundings, place: Place) -> RunningService:
        return RunningService("http://127.0.0.1:1", ProcessRecord(instance.name, 1, "", str(place.logs)))

    async def wait(_: Mapping[str, RunningService]) -> None: ...

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


def sequencers(platform: Platform) -> set[str]:
    return {name for name in platform.services if name.startswith("sequencer")}


async def test_a_sequencer_that_was_removed_stays_away_until_its_shard_is_added(
    tmp_path: Path, stopped: list[str]
) -> None:
    platform = attached(tmp_path)
    await platform.start_services()
    assert sequencers(platform) == {"sequencer", "sequencer-1"}

    await platform.remove_sequencers([1])

    assert stopped == ["sequencer-1"]
    run = platform.state.run()
    assert run is not None
    assert "sequencer-1" not in run.services
    again = attached(tmp_path)
    await again.start_services()
    assert sequencers(again) == {"sequencer"}
    await again.add_shards([1, 2])
    assert sequencers(again) == {"sequencer", "sequencer-1", "sequencer-2"}
    later = attached(tmp_path)
    await later.start_services()
    assert sequencers(later) == {"sequencer", "sequencer-1", "sequencer-2"}
