"""What a part's error is called: it passes, or somebody must act (case L2)."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from salus.messaging import MessagingError, PermanentError
from salus.objects import RefusedError, StoreAwayError
from salus.sequencer.adapters.patience import Patience


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (StoreAwayError("k", "timeout"), "warning"),
        (RefusedError("k", "no permission"), "error"),
        (MessagingError("away"), "warning"),
        (PermanentError("not a topic of ours"), "error"),
    ],
)
async def test_only_what_passes_is_waited_for_without_calling_anybody(error: Exception, level: str) -> None:
    outcomes = [error, error, None]

    async def attempt() -> str:
        if (outcome := outcomes.pop(0)) is not None:
            raise outcome
        return "done"

    with capture_logs() as told:
        answer = await Patience(pause_first_s=0).outlast("a part", attempt, errors=(type(error),))

    assert answer == "done"
    assert [(line["event"], line["log_level"]) for line in told][:1] == [
        (
            "a part needs somebody, waiting does not help"
            if level == "error"
            else "waiting for a part that is away",
            level,
        )
    ]
