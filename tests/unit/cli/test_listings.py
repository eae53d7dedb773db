"""Security, medium: names and ids of others neither crash a listing nor colour, hide or fake a line of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from salus.cli import auditing, network_access, parties
from salus.cli.network_access import NetworkAccess
from salus.devkit.network import NetworkFolder

NASTY = ["scan [/] one", "[black on black]hidden[/]", "[link=https://x]y[/link]", "a\u202eb\u200bc\u2028d\ne"]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """Return what lets every call of a command be answered with a document."""

    def with_(content: dict[str, Any]) -> None:
        async def call(*_: Any, **__: Any) -> httpx.Response:
            return httpx.Response(200, json=content)

        monkeypatch.setattr(auditing, "call", call)
        monkeypatch.setattr(auditing, "running_platform", lambda: None)
        monkeypatch.setattr(auditing, "signer_of", lambda *_: None)
        monkeypatch.setattr(network_access, "send", call)
        access = NetworkAccess(NetworkFolder(Path()), "http://identity")
        monkeypatch.setattr(NetworkAccess, "of", lambda *_: access)

    return with_


@pytest.mark.parametrize("text", NASTY)
def test_the_trail_and_the_parties_show_what_others_wrote(
    text: str, answers: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    place = {"topic": text, "partition": 0, "offset": 0}
    entry = {"time": "2026-11-22T15:00:00Z", "outcome": "success", "summary": text, "severity": 4}
    answers({"entries": [{**entry, "rules": [text], "ledger": place}], "next": "x"})
    auditing.search(limit=1)
    party = {"kind": "member", "name": text, "roles": [text], "did": "did:web:a", "keys": []}
    answers({"parties": [party], "next": None})
    parties.list_parties()

    printed = capsys.readouterr().out
    shown = text.replace("\u202e", "\\u202e").replace("\u200b", "\\u200b").replace("\u2028", "\\u2028")
    assert printed.count(shown.replace("\n", "\\u000a")) == 5
    assert len(printed.split("\n")) == 6


def test_a_party_is_shown_with_its_did(
    answers: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    # A new user's case: `party show clinic` printed no DID, which other commands take.
    answers({"kind": "member", "name": "Clinic", "roles": [], "did": "did:web:a", "keys": []})

    parties.show("did:web:a")

    assert "did did:web:a" in capsys.readouterr().out


ACTOR, OTHER = "did:key:z6MkfetRHfYZ8ERUNGizSLGiDHR9gGDB7MJRHE9GC7CYNu7P", "did:web:h.example"


@pytest.mark.parametrize(
    ("actor", "summary", "what"),
    [
        (ACTOR, "Consent c was taken back.", "… back. By did:key:z6Mkf…CYNu7P."),
        (ACTOR, "did:key:z6Mkf…CYNu7P may read.", "… may read."),
        (OTHER, "A document is on record.", "… on record. By did:web:h.example."),
        (OTHER, "did:web:h.example may read.", "… may read."),
        (None, "A record was rejected.", "… rejected."),
    ],
)
def test_the_trail_says_who_did_it(actor: str | None, summary: str, what: str) -> None:
    # "The patient took consent back", where her steward had.
    assert auditing.what_of({"summary": summary, "actor": actor}).endswith(what.removeprefix("… "))
    assert auditing.what_of({"summary": summary, "actor": actor}).startswith(summary)
