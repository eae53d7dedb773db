"""A newcomer's case: the URL of a service that was added changed each time the platform was started."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.pretended import PARTS, attached, pretend_processes


async def test_a_service_that_starts_after_the_others_keeps_its_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_processes(monkeypatch)
    platform = attached(tmp_path)
    platform.state.require_version()
    platform.state.remember(PARTS, {"identity": 4711, "coldchain": 4712})
    await platform.start_services()
    ports = platform.state.remembered().service_ports

    assert "coldchain" not in platform.services
    assert ports["coldchain"] == 4712
    assert ports.keys() > platform.services.keys()


async def test_where_a_service_is_now_counts_and_not_where_it_was(tmp_path: Path) -> None:
    state = attached(tmp_path).state
    state.remember(PARTS, {"identity": 4711, "audit": 4712})
    state.remember(PARTS, {"identity": 4713})

    assert state.remembered().service_ports == {"identity": 4713, "audit": 4712}
