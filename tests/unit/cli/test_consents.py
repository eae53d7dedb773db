"""`salus consent link`, `unlink` and `review` ask for what they say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from salus.cli import consents

PATIENT, PARTY = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a", "did:web:h.example%3A8443"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return the list of what was asked: service, method, path and body."""
    found: list[tuple[Any, ...]] = []

    async def call(_: Any, *line: Any, body: Any = None, **__: Any) -> httpx.Response:
        found.append((*line, body))
        return httpx.Response(204)

    nothing: Callable[..., None] = lambda *_: None  # noqa: E731  # nothing is asked of it
    monkeypatch.setattr(consents, "call", call)
    monkeypatch.setattr(consents, "running_platform", nothing)
    monkeypatch.setattr(consents, "signer_of", nothing)
    return found


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["link", PATIENT, PARTY], ("POST", f"/patients/{PATIENT}/parties", {"did": PARTY})),
        (
            ["unlink", PATIENT, PARTY],
            ("DELETE", f"/patients/{PATIENT}/parties/did:web:h.example%253A8443", None),
        ),
        (["review", "x.1", "justified"], ("POST", "/glass-breaks/x.1/review", {"outcome": "justified"})),
    ],
)
def test_a_command_asks_for_what_it_says(
    words: list[str], line: tuple[Any, ...], asked: list[tuple[Any, ...]]
) -> None:
    told = CliRunner().invoke(consents.app, words)

    assert (told.exit_code, asked) == (0, [("consent", *line)]), told.output
