"""`salus consent` asks for what it says, and says what a revocation leaves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from salus.cli import consents, prohibitions
from salus.cli.exits import CommandError, Exit

PATIENT, PARTY = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a", "did:web:h.example%3A8443"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return the list of what was asked: service, method, path and body."""
    found: list[tuple[Any, ...]] = []

    async def call(_: Any, *line: Any, body: Any = None, **__: Any) -> httpx.Response:
        found.append((*line, body))
        if line[1:] == ("POST", f"/patients/{PATIENT}/parties"):
            return httpx.Response(201, json={"patient": PATIENT, **body})
        if line[2] == "/cases/x.1/decide":
            return httpx.Response(200, json={"case": "x.1", **body})
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
        (
            ["review", "x.1", "unjustified", "--ground", "no-emergency"],
            ("POST", "/glass-breaks/x.1/review", {"outcome": "unjustified", "ground": "no-emergency"}),
        ),
        (
            ["case", "x.1", "approved", "--ground", "needed"],
            ("POST", "/cases/x.1/decide", {"outcome": "approved", "ground": "needed"}),
        ),
    ],
)
def test_a_command_asks_for_what_it_says(
    words: list[str], line: tuple[Any, ...], asked: list[tuple[Any, ...]]
) -> None:
    told = CliRunner().invoke(consents.app, words)

    assert (told.exit_code, asked) == (0, [("consent", *line)]), told.output


def test_a_grant_and_a_prohibition_name_a_role_at_a_member(
    asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def call(_: Any, *line: Any, body: Any = None, **__: Any) -> httpx.Response:
        asked.append((*line, body))
        return httpx.Response(
            201, json={"consent": "x.1", "prohibition": "x.1", "valid_until": None, "lifted": False, **body}
        )

    for module in (consents, prohibitions):
        monkeypatch.setattr(module, "call", call)
        monkeypatch.setattr(module, "running_platform", lambda: None)
        monkeypatch.setattr(module, "signer_of", lambda *_: None)
    runs = [
        (app, CliRunner().invoke(app, [verb, PATIENT, *more]))
        for app, verb, more in (
            (consents.app, "grant", [PARTY, "--role", "clinician"]),
            (prohibitions.app, "add", [PARTY, "--role", "researcher"]),
            (consents.app, "grant", [PARTY, "--role", "nurse"]),
            (prohibitions.app, "add", ["--role", "researcher"]),
        )
    ]

    assert [told.exit_code for _, told in runs] == [0, 0, 2, 2], [told.output for _, told in runs]
    assert [body["role"] for *_, body in asked] == ["clinician", "researcher"]
    assert "nurse is none of clinician, researcher" in " ".join(runs[2][1].output.replace("│", " ").split())
    assert "name it as PARTY" in runs[3][1].output


@pytest.fixture
def consent(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[dict[str, Any]] | None], None]:
    """Return what makes consent revoke `x.1`, and tell these consents, or nothing."""
    monkeypatch.setattr(consents, "running_platform", lambda: None)
    monkeypatch.setattr(consents, "signer_of", lambda *_: None)

    def tells(found: list[dict[str, Any]] | None) -> None:
        async def call(_: Any, *line: Any, **__: Any) -> httpx.Response:
            if line[1] == "POST":
                return httpx.Response(200, json={"patient": PATIENT, "grantee": PARTY})
            if found is None:
                raise CommandError(Exit.NO, "consent refused (not-permitted): no")
            return httpx.Response(200, json={"consents": found})

        monkeypatch.setattr(consents, "call", call)

    return tells


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_a_revocation_names_the_consents_that_the_grantee_still_has(
    as_json: list[str], consent: Callable[[list[dict[str, Any]] | None], None]
) -> None:
    # "`salus consent grant`, given twice and revoked once, said `is revoked`, and the next read went on".
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    one = {"consent": "x.1", "grantee": PARTY, "actions": ["read"], "purposes": ["TREAT"], "revoked": False}
    one["valid_until"] = later
    over = {"valid_until": "2026-01-01T00:00:00Z"}
    differ: tuple[dict[str, Any], ...] = ({"revoked": True}, {}, {"grantee": "did:web:other"}, over)
    consent([{**one, "consent": f"x.{number}", **each} for number, each in enumerate(differ, 1)])
    told = CliRunner().invoke(consents.app, ["revoke", "x.1", *as_json])

    assert told.exit_code == 0
    assert told.stderr.strip() == f"{PARTY} has other consents of this patient in force: x.2"


@pytest.mark.parametrize("found", [[], None])
def test_a_revocation_stands_whatever_is_told_of_others(
    found: list[dict[str, Any]] | None, consent: Callable[[list[dict[str, Any]] | None], None]
) -> None:
    consent(found)
    told = CliRunner().invoke(consents.app, ["revoke", "x.1"])

    assert (told.exit_code, told.stdout.strip(), told.stderr) == (0, "x.1 is revoked", "")
