"""What `salus bench decisions` asks with is allowed, in process and by Cedar alone, with many policies."""

from __future__ import annotations

import pytest

from salus.cli.bench import decisions_alone
from salus.cli.bench.decision_load import BATCH_QUESTIONS, batch_body, policies_of


def test_what_is_measured_in_process_is_a_decision_that_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions_alone, "_per_s", lambda work: float(work()))

    figures = decisions_alone.in_process(30)

    assert figures["in_process_ratio"] == figures["in_process_ratio_all_policies"] == 1


def test_a_batch_asks_about_different_records() -> None:
    asked = batch_body(7, grants=400)["questions"]

    assert len({one["object"] for one in asked}) == len({one["patient"] for one in asked}) == BATCH_QUESTIONS
    assert policies_of(3)["own.cedar"].count(b"@id") == 3
