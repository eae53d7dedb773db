"""`salus permit` asks for what it says, shows what there is, and computes what is approved by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from msgspec import structs
from typer.testing import CliRunner

from salus.cli import permits
from salus.cli.exits import CommandError
from salus.cli.service_answers import AnswerError
from salus.events.contexts.consent_permits import Terms

PERMIT = f"permit-{'0' * 20}"
OWNER, RESEARCHER = "did:web:h.example", "did:web:u.example:r"
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)
TERMS = Terms(OWNER, "cohort-1", "did:web:u.example", RESEARCHER, "HRESCH", NOON, NOON + timedelta(days=3), 2)
ONE = {
    "permit": PERMIT,
    **{name: getattr(TERMS, name) for name in TERMS.__struct_fields__},
    "valid_from": TERMS.valid_from.isoformat(),
    "valid_until": TERMS.valid_until.isoformat(),
    "used": 1,
    "standing": "granted",
    "terms": TERMS.digest,
    "approver": None,
    "ground": None,
}
USE = {"permit": PERMIT, "allowed": True, "reasons": [], "explanation": [], "number": 2, "left": 0}
USED = {"owner": OWNER, "data_set": "cohort-1", "purpose": "HRESCH"}
# What the service answers otherwise than it should.
ANSWERED: dict[str, Any] = {}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Return the list of what was asked: service, method, path and body."""
    found: list[tuple[Any, ...]] = []

    async def call(_: Any, *line: Any, body: Any = None, **__: Any) -> httpx.Response:
        found.append((*line, body))
        path = line[2].partition("?")[0]
        if path.endswith("/uses"):
            return httpx.Response(200, json=USE | ANSWERED)
        if line[1:] == ("POST", "/permits"):
            return httpx.Response(201, json=ONE | body | ANSWERED)
        if path == "/permits":
            return httpx.Response(200, json={"permits": [ONE], "next": "more"})
        return httpx.Response(200, json=ONE | ANSWERED)

    monkeypatch.setattr(permits, "call", call)
    monkeypatch.setattr(permits, "running_platform", lambda: None)
    monkeypatch.setattr(permits, "signer_of", lambda *_: SimpleNamespace(did="did:web:me"))
    ANSWERED.clear()
    return found


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (
            ["approve", PERMIT, TERMS.digest],
            [("POST", f"/permits/{PERMIT}/approve", {"terms": TERMS.digest})],
        ),
        (
            ["withdraw", PERMIT, "--ground", "misused"],
            [("POST", f"/permits/{PERMIT}/withdraw", {"ground": "misused"})],
        ),
        (["show", PERMIT], [("GET", f"/permits/{PERMIT}", None)]),
        (["list", "--status", "proposed"], [("GET", "/permits?limit=50&status=proposed", None)]),
        (
            ["use", PERMIT],
            [("GET", f"/permits/{PERMIT}", None), ("POST", f"/permits/{PERMIT}/uses", USED)],
        ),
    ],
)
def test_a_command_asks_for_what_it_says(
    words: list[str], lines: list[tuple[Any, ...]], asked: list[tuple[Any, ...]]
) -> None:
    if words[0] == "withdraw":
        ANSWERED["standing"] = "withdrawn"
    told = CliRunner().invoke(permits.app, words)

    assert (told.exit_code, asked) == (0, [("consent", *line) for line in lines]), told.output


@pytest.mark.parametrize(
    "words", [["approve", PERMIT, TERMS.digest], ["withdraw", PERMIT, "--ground", "other"]]
)
def test_nothing_is_called_done_that_the_answer_does_not_say(
    words: list[str], asked: list[tuple[Any, ...]]
) -> None:
    ANSWERED["standing"] = "proposed"
    unchanged = CliRunner().invoke(permits.app, words)
    ANSWERED["standing"] = "granted"
    granted = CliRunner().invoke(permits.app, words)
    elsewhere = CliRunner().invoke(permits.app, [words[0], f"{PERMIT}/../x", *words[2:]])

    assert isinstance(unchanged.exception, AnswerError)
    assert granted.exit_code == (0 if words[0] == "approve" else 1)
    assert (elsewhere.exit_code, len(asked)) == (2, 2)


def test_a_proposal_names_all_terms_and_no_other_permit_is_taken_for_it(asked: list[tuple[Any, ...]]) -> None:
    words = ["propose", "cohort-1", OWNER, RESEARCHER, "--days", "3", "--uses", "2"]
    told = CliRunner().invoke(permits.app, words)
    ANSWERED["uses_max"] = 3
    other = CliRunner().invoke(permits.app, words)

    assert (told.exit_code, told.stdout) == (0, f"{PERMIT}\n")
    [(_, _, _, body), _] = asked
    assert set(body) == {"owner", "data_set", "recipient", "purpose", "valid_until", "uses_max"}
    assert isinstance(other.exception, AnswerError)


def test_the_digest_that_is_shown_is_of_what_is_shown(asked: list[tuple[Any, ...]]) -> None:
    told = CliRunner().invoke(permits.app, ["show", PERMIT])
    # Case "other terms are shown than those that the digest is of", by whoever answers in consent's place.
    ANSWERED["uses_max"] = 9999
    forged = CliRunner().invoke(permits.app, ["show", PERMIT])
    approved = CliRunner().invoke(permits.app, ["approve", PERMIT, TERMS.digest])

    assert asked
    assert {TERMS.digest, "HRESCH", "1", "granted"} <= set(told.stdout.split())
    assert structs.replace(TERMS, uses_max=9999).digest != TERMS.digest
    assert isinstance(forged.exception, AnswerError)
    assert isinstance(approved.exception, AnswerError)


def test_a_use_that_is_denied_ends_with_1_and_says_why(asked: list[tuple[Any, ...]]) -> None:
    ANSWERED.update(allowed=False, reasons=["permit-over"], explanation=["It has ended."], number=None)
    told = CliRunner().invoke(permits.app, ["use", PERMIT])

    assert asked
    assert isinstance(told.exception, CommandError)
    assert (told.exception.code, str(told.exception)) == (1, "denied: permit-over: It has ended.")


def test_the_list_says_how_often_each_was_used_and_where_it_goes_on(asked: list[tuple[Any, ...]]) -> None:
    told = CliRunner().invoke(permits.app, ["list"])

    assert asked
    assert {PERMIT, "cohort-1", "1/2", "granted"} <= set(told.stdout.split())
    assert "--after more" in told.output
