"""`salus party end-sessions` ends all that are open, those as well that are opened meanwhile."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
import pytest

from salus.cli.exits import CommandError, Exit
from salus.cli.party_commands import PartyCommand
from salus.cli.party_sessions import LOOKS_MAX, SessionFacts, end_all
from salus.client.auth import RequestLine
from salus.events.did import LocalSigner

NORA = "did:web:north.example:nora"
NOON = datetime(2026, 11, 30, 12, tzinfo=UTC)


@dataclass
class Network:
    """Identity, as the command speaks to it; after each look a thief opens another session.

    It lists the newest first, `page` at a time, unless it `is_older` than the cursor. What a session signs
    after it was ended is refused.
    """

    sessions: list[SessionFacts]
    opens: int = 0
    page: int = 500
    is_older: bool = False
    sent: list[dict[str, Any]] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)

    async def ask(self, path: str, *, query: Any, signer: LocalSigner) -> bytes:
        assert path == f"/parties/{NORA}/sessions"
        self._require_open(signer)
        self.asked.append(query)
        ids, before = [one.key_id for one in self.sessions], dict(query).get("before")
        rest = self.sessions if before is None or self.is_older else self.sessions[ids.index(before) + 1 :]
        more = len(rest) > self.page
        told = msgspec.json.encode({"did": NORA, "sessions": rest[: self.page], "more": more})
        if self.opens:
            self.opens -= 1
            self.sessions.insert(0, session(10 + self.opens))
        return told

    async def command(self, line: RequestLine, *, signer: LocalSigner) -> dict[str, Any]:
        assert (line.method, line.target) == ("POST", f"/parties/{NORA}/keys/revoke")
        self._require_open(signer)
        body = json.loads(line.body or b"")
        self.sent.append(body)
        place = [one.key_id for one in self.sessions].index(body["key_id"])
        was = self.sessions.pop(place)
        if "since" in body:
            self.sessions.insert(place, msgspec.structs.replace(was, in_doubt_since=body["since"]))
        return {}

    def _require_open(self, signer: LocalSigner) -> None:
        if signer.verification_method in {body["key_id"] for body in self.sent}:
            raise CommandError(Exit.NO, "identity refused: unauthenticated")


def session(number: int, **facts: Any) -> SessionFacts:
    moment = NOON.isoformat()
    return SessionFacts(f"{NORA}#session-{number}", "north", moment, moment, **facts)


async def ended(
    network: Network, *, reason: str = "left", since: datetime | None = None, within: str | None = None
) -> list[str]:
    """`within` is the key's id of the session in which this is asked."""
    signer = LocalSigner.from_seed(b"c" * 32, within)
    command = PartyCommand(cast("Any", network), signer, None, as_json=True)
    done = await end_all(command, NORA, reason=reason, since=since)
    return [key_id.rpartition("-")[2] for key_id in done]


async def test_all_sessions_are_ended_and_those_that_come_meanwhile() -> None:
    network = Network([session(2), session(1)], opens=1)

    assert await ended(network) == ["2", "1", "10"]
    assert network.sessions == []
    assert {body["reason"] for body in network.sent} == {"left"}
    assert network.asked[0] == ()


async def test_who_ends_her_own_sessions_ends_the_one_she_asks_in_when_no_other_is_left() -> None:
    # review B9, finding 2: her own, the newest, was ended first, and all that she asked after it was refused
    own = session(3)
    network = Network([own, session(2), session(1)], opens=1)

    assert await ended(network, within=own.key_id) == ["2", "1", "10", "3"]
    assert network.sessions == []
    assert await ended(Network([own]), within=own.key_id) == ["3"]


async def test_with_since_those_that_do_not_fit_on_one_page_are_put_in_doubt_too() -> None:
    # review B9, finding 3: "500 sessions are over", and the older ones were neither ended nor in doubt
    own = session(9)
    known = [own, *(session(number, ended=NOON.isoformat()) for number in range(8, 0, -1))]
    network = Network(known, page=3)

    done = await ended(network, reason="compromised", since=NOON, within=own.key_id)
    assert done == ["8", "7", "6", "5", "4", "3", "2", "1", "9"]
    assert all(one.in_doubt_since for one in network.sessions)


async def test_an_identity_that_lists_the_newest_alone_does_not_pass_for_all() -> None:
    with pytest.raises(CommandError, match="does not list the older sessions"):
        await ended(Network([session(2), session(1)], page=1, is_older=True), since=NOON)


async def test_who_opens_sessions_as_fast_is_named() -> None:
    with pytest.raises(CommandError, match="withdraw"):
        await ended(Network([session(1)], opens=LOOKS_MAX + 1))


async def test_with_since_those_that_are_over_are_put_in_doubt_once() -> None:
    earlier, later = (NOON - timedelta(hours=hours) for hours in (2, 1))
    known = [
        session(1),
        session(2, ended=NOON.isoformat()),
        session(3, ended=NOON.isoformat(), in_doubt_since=earlier.isoformat()),
        session(4, ended=NOON.isoformat(), in_doubt_since=NOON.isoformat()),
    ]
    network = Network(known)

    assert await ended(network, reason="compromised", since=later) == ["1", "2", "4"]
    assert {body["since"] for body in network.sent} == {later.isoformat()}
    assert network.asked[0] == (("since", later.isoformat()),)
