"""A new user's case: sequencers of idle shards could not be removed, and `up` started them each time."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.pretended import attached, pretend_processes

from salus.devkit.platform import Platform


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was stopped; what is started is no process."""
    return pretend_processes(monkeypatch)


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


async def test_what_other_commands_start_and_remove_meanwhile_is_neither_lost_nor_believed_to_run(
    tmp_path: Path, stopped: list[str]
) -> None:
    # Two `salus shard assign` at once: each wrote down only what it had started, and `down` left the other's.
    first = attached(tmp_path)
    await first.start_services()
    second = Platform.attach(tmp_path)
    await first.add_shards([2])
    await second.add_shards([3])

    assert sequencers(Platform.attach(tmp_path)) == {"sequencer", "sequencer-1", "sequencer-2", "sequencer-3"}

    await first.remove_sequencers([3])
    assert stopped == ["sequencer-3"]
    await second.add_shards([3])
    assert sequencers(Platform.attach(tmp_path)) == {"sequencer", "sequencer-1", "sequencer-2", "sequencer-3"}
