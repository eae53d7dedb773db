"""`salus consent reviews` asks for a page, shows what is overdue, and says how to go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from salus.cli import consents, review_list

REVIEW = {
    "kind": "emergency",
    "decision": "x.1",
    "patient": "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a",
    "principal": "did:web:h.example:c",
    "reason": "other",
    "action": "read",
    "purpose": "ETREAT",
    "since": "2026-11-20T12:00:00Z",
    "review_due": "2026-11-23T12:00:00Z",
    "overdue": True,
}


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], list[tuple[Any, ...]]]:
    """Return what makes consent answer this, and returns the list of what it was asked."""
    monkeypatch.setattr(review_list, "running_platform", lambda: None)
    monkeypatch.setattr(review_list, "signer_of", lambda *_: None)

    def answers(page: Any) -> list[tuple[Any, ...]]:
        asked: list[tuple[Any, ...]] = []

        async def call(_: Any, *line: Any, **__: Any) -> httpx.Response:
            asked.append(line)
            return httpx.Response(200, json=page)

        monkeypatch.setattr(review_list, "call", call)
        return asked

    return answers


def test_the_list_shows_what_is_overdue_and_how_to_go_on(
    answering: Callable[[Any], list[tuple[Any, ...]]],
) -> None:
    asked = answering({"reviews": [REVIEW], "next": "abc"})
    told = CliRunner().invoke(
        consents.app, ["reviews", "--overdue", "--after", "z", "--limit", "1"], env={"COLUMNS": "250"}
    )

    assert asked == [("consent", "GET", "/reviews?overdue=true&limit=1&after=z")]
    assert told.exit_code == 0, told.output
    assert "2026-11-23 12:00:00 UTC, overdue" in told.stdout
    assert "--after abc" in told.stderr


def test_an_empty_list_says_so(answering: Callable[[Any], list[tuple[Any, ...]]]) -> None:
    answering({"reviews": [], "next": None})

    assert "nothing waits" in CliRunner().invoke(consents.app, ["reviews"]).stderr


def test_an_answer_without_a_due_time_is_not_shown(
    answering: Callable[[Any], list[tuple[Any, ...]]],
) -> None:
    answering({"reviews": [{**REVIEW, "review_due": None}], "next": None})
    told = CliRunner().invoke(consents.app, ["reviews"])

    assert told.exit_code != 0
    assert told.stdout == ""
