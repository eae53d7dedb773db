"""`salus prohibition` asks for what it says and shows what there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from salus.cli import prohibitions
from salus.cli.service_answers import AnswerError

PATIENT, PARTY = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a", "did:web:h.example%3A8443"
ONE = {
    "prohibition": "x.1",
    "party": None,
    "actions": [],
    "purposes": ["HRESCH"],
    "valid_until": None,
    "lifted": False,
}


# What the service answers otherwise than it was asked.
ANSWERED: dict[str, Any] = {}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return the list of what was asked: service, method, path and body."""
    found: list[tuple[Any, ...]] = []

    async def call(_: Any, *line: Any, body: Any = None, **__: Any) -> httpx.Response:
        found.append((*line, body))
        if line[1] == "GET":
            return httpx.Response(200, json={"prohibitions": [ONE]})
        return httpx.Response(200, json={**ONE, **(body or {"lifted": True}), **ANSWERED})

    nothing: Callable[..., None] = lambda *_: None  # noqa: E731  # nothing is asked of it
    monkeypatch.setattr(prohibitions, "call", call)
    monkeypatch.setattr(prohibitions, "running_platform", nothing)
    monkeypatch.setattr(prohibitions, "signer_of", nothing)
    return found


ALL = {"patient": PATIENT, "actions": [], "purposes": []}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["add", PATIENT], ("POST", "/prohibitions", ALL)),
        (
            ["add", PATIENT, PARTY, "--action", "read", "--purpose", "TREAT", "--purpose", "ETREAT"],
            (
                "POST",
                "/prohibitions",
                {
                    "patient": PATIENT,
                    "party": PARTY,
                    "actions": ["read"],
                    "purposes": ["TREAT", "ETREAT"],
                },
            ),
        ),
        (["lift", "x.1"], ("POST", "/prohibitions/x.1/lift", None)),
        (["list", PATIENT], ("GET", f"/patients/{PATIENT}/prohibitions", None)),
    ],
)
def test_a_command_asks_for_what_it_says(
    words: list[str], line: tuple[Any, ...], asked: list[tuple[Any, ...]]
) -> None:
    told = CliRunner().invoke(prohibitions.app, words)

    assert (told.exit_code, asked) == (0, [("consent", *line)]), told.output


def test_a_prohibition_has_an_end_only_if_days_are_given(asked: list[tuple[Any, ...]]) -> None:
    assert CliRunner().invoke(prohibitions.app, ["add", PATIENT, "--days", "3"]).exit_code == 0

    assert set(asked[0][-1]) == {*ALL, "valid_until"}


def test_the_list_says_who_and_what_is_forbidden(asked: list[tuple[Any, ...]]) -> None:
    told = CliRunner().invoke(prohibitions.app, ["list", PATIENT])

    assert asked
    assert {"everybody", "all", "HRESCH", "x.1"} <= set(told.stdout.split())


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["add", PATIENT], {"lifted": True}),
        (["add", PATIENT], {"party": PARTY}),
        (["add", PATIENT], {"purposes": ["TREAT"]}),
        (["add", PATIENT], {"actions": ["read"]}),
        (["add", PATIENT], {"valid_until": "2026-11-30T00:00:00Z"}),
        (["add", PATIENT, "--days", "3"], {"valid_until": None}),
        (["lift", "x.1"], {"lifted": False}),
        (["lift", "x.1"], {"prohibition": "x.2"}),
    ],
)
def test_what_was_not_done_is_not_said_to_be_done(
    words: list[str], answer: dict[str, Any], asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in answer.items():
        monkeypatch.setitem(ANSWERED, name, value)
    told = CliRunner().invoke(prohibitions.app, words)

    assert asked
    assert isinstance(told.exception, AnswerError), told.output
