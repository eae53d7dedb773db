"""What a command says of the object store: exit code 3 is for what passes (cases L2, S4)."""

from __future__ import annotations

from salus.cli.exits import Exit
from salus.cli.store_errors import store_error
from salus.objects import RefusedError, StoreAwayError


def test_what_passes_says_how_to_go_on_and_what_does_not_says_that_waiting_is_no_use() -> None:
    away = store_error(StoreAwayError("", "timeout"), later="go on later with --resume")
    refused = store_error(RefusedError("", "there is no such bucket"), later="go on later with --resume")

    assert (away.code, refused.code) == (Exit.NOT_RUNNING, Exit.USAGE)
    assert "go on later" in str(away)
    assert "waiting does not mend this" in str(refused)
    assert "later" not in str(refused)
