"""A platform comes up beside a sequencer that stands still, which an operator has to end (case redB8 7)."""

from __future__ import annotations

import json

import pytest

from salus.devkit import services as devkit_services
from salus.devkit.errors import StartError
from salus.devkit.processes import ProcessRecord
from salus.devkit.run_record import RunningService
from salus.devkit.services import wait_until_ready

WHY = "ForeignBlockError: block 6 of shard 0 was sealed by another process"


@pytest.fixture
def sequencer(monkeypatch: pytest.MonkeyPatch) -> dict[str, RunningService]:
    """A sequencer that reads its chain back, and then stands still."""
    lines = iter(["RuntimeError: the chain is not read back yet", f"HaltedError: {WHY}"])

    async def readiness(_: RunningService) -> tuple[bool, str]:
        return False, json.dumps({"ready": False, "checks": {"kafka": "ok", "sealing": next(lines)}})

    monkeypatch.setattr(devkit_services, "readiness", readiness)
    monkeypatch.setattr(devkit_services, "is_alive", lambda _: True)
    return {"sequencer": RunningService("http://127.0.0.1:1", ProcessRecord("sequencer", 1, "", "no.log"))}


async def test_who_can_do_with_a_halted_service_waits_no_longer_than_until_it_says_so(
    sequencer: dict[str, RunningService],
) -> None:
    await wait_until_ready(sequencer, with_halted=True)


async def test_for_everybody_else_it_has_not_started_and_says_why(
    sequencer: dict[str, RunningService],
) -> None:
    with pytest.raises(StartError, match=f"sequencer stands still until somebody acts: {WHY}"):
        await wait_until_ready(sequencer)
