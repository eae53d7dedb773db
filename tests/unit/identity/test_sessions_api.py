"""A person's sessions are seen by who may end them, and by nobody else."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import httpx
import pytest
from tests.asking import UNASKED
from tests.logins import Login
from tests.unit.identity.test_logins import ALPHA, NORA, NORTH, NOW, SOUTH, Identity, network

from salus.events.contexts.identity import KeyRevoked
from salus.identity import sessions_api

LATER = NOW + timedelta(minutes=1)


def with_sessions(number: int) -> tuple[Identity, list[str]]:
    """Return identity, where a person has logged in so often, and the ids of the keys in their order."""
    identity, ids = Identity(ring=network(with_provider=True)), []
    for _ in range(number):
        opened = Login(NORA, NORTH, NOW - timedelta(minutes=5), claims={"acr": "high"}).session()
        identity.ring.apply(opened, at=NOW - timedelta(minutes=4))
        ids.append(opened.key.id)
    return identity, ids


async def listed(identity: Identity, by: str, did: str = NORA, **query: Any) -> httpx.Response:
    identity.caller = by
    return await identity.send("GET", f"/parties/{did}/sessions", params=query)


@pytest.mark.parametrize(("by", "status"), [(NORA, 200), (NORTH, 200), (ALPHA, 200), (SOUTH, 403)])
async def test_a_person_her_member_and_operators_see_her_sessions(by: str, status: int) -> None:
    identity, ids = with_sessions(2)
    answer = await listed(identity, by)

    assert answer.status_code == status
    if status == 200:
        assert [one["key_id"] for one in answer.json()["sessions"]] == ids[::-1]
        assert answer.json()["sessions"][0] | {"opened": "", "authenticated": ""} == {
            "key_id": ids[1],
            "provider": "north-login",
            "opened": "",
            "authenticated": "",
            "acr": "high",
            "ended": None,
            "in_doubt_since": None,
        }
    else:
        assert answer.json()["code"] == "not-permitted"


async def test_who_is_not_registered_has_no_sessions() -> None:
    identity, _ = with_sessions(0)
    answer = await listed(identity, ALPHA, f"{NORTH}:nobody")

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown-party")


async def test_those_that_are_over_are_listed_by_when_they_were_open() -> None:
    identity, (first, second) = with_sessions(2)
    ended = NOW - timedelta(minutes=2)
    identity.ring.apply(KeyRevoked(NORA, first, "left", request=UNASKED), at=ended)

    async def seen(**query: Any) -> list[str]:
        return [one["key_id"] for one in (await listed(identity, NORTH, **query)).json()["sessions"]]

    assert await seen() == [second]
    assert await seen(since=(ended + timedelta(seconds=1)).isoformat()) == [second]
    assert await seen(since=(ended - timedelta(seconds=1)).isoformat()) == [second, first]
    # What lies ahead is asked as of now.
    assert await seen(since=(NOW + timedelta(days=9)).isoformat()) == [second]
    shown = (await listed(identity, NORTH, since=(NOW - timedelta(hours=1)).isoformat())).json()
    assert shown["sessions"][1]["ended"] is not None


async def test_of_many_the_newest_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_api, "LISTED_MAX", 1)
    identity, ids = with_sessions(2)
    shown = (await listed(identity, NORTH)).json()

    assert ([one["key_id"] for one in shown["sessions"]], shown["more"]) == (ids[1:], True)


async def test_a_list_goes_on_before_the_last_that_was_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions_api, "LISTED_MAX", 2)
    identity, ids = with_sessions(5)
    since, shown = (NOW - timedelta(hours=1)).isoformat(), list[list[str]]()
    query: dict[str, str] = {}
    for _ in range(3):
        page = (await listed(identity, NORTH, since=since, **query)).json()
        shown.append([one["key_id"] for one in page["sessions"]])
        # Those that are over by now and those that were opened since shift nothing.
        identity.ring.apply(KeyRevoked(NORA, shown[-1][-1], "left", request=UNASKED), at=NOW)
        opened = Login(NORA, NORTH, NOW - timedelta(minutes=5), claims={"acr": "high"}).session()
        identity.ring.apply(opened, at=NOW)
        query = {"before": shown[-1][-1]}

    assert (shown, page["more"]) == ([ids[:2:-1], ids[2:0:-1], ids[:1]], False)


async def test_a_list_goes_on_before_a_session_of_hers_alone() -> None:
    identity, _ = with_sessions(1)
    for before in (f"{NORA}#other", f"{NORTH}:other#session"):
        answer = await listed(identity, NORTH, before=before)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown-key")
