"""What a service says that stands still until somebody acts, and who hears it (case redB8 7)."""

from __future__ import annotations

import json

import pytest

from salus.runtime.halt import HaltedError, halt_in


def answer(**checks: str) -> str:
    return json.dumps({"ready": False, "checks": checks})


def test_the_reason_is_found_among_the_checks() -> None:
    error = HaltedError("ForeignBlockError: block 6 of shard 0")
    said = answer(kafka="ok", sealing=f"{type(error).__name__}: {error}")

    assert halt_in(said) == "ForeignBlockError: block 6 of shard 0"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "ConnectError",
        "[]",
        '{"checks": 1}',
        answer(sealing="RuntimeError: the chain is not read back yet"),
    ],
)
def test_what_may_pass_by_waiting_is_no_halt(said: str) -> None:
    assert halt_in(said) is None
