"""What cannot be read of a topic, or nobody reads, is no reason to answer from the rest of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient

from salus.contracts.fold import Follower
from salus.messaging import (
    CorruptBatchError,
    PartitionMismatchError,
    PermanentError,
    Reader,
    RefusedByBrokerError,
)
from salus.runtime import problems
from salus.runtime.identity_view import IDENTITY_TOPIC, IdentityView

CONSENT = "salus.consent.events"
WRONG = [
    PartitionMismatchError(unread=[(CONSENT, 1)]),
    CorruptBatchError(CONSENT, 0, 17),
    RefusedByBrokerError("TopicAuthorizationFailedError"),
]


class Topics:
    """A reader of topics in which something is wrong."""

    def __init__(self, wrong: PermanentError, end: int = 0) -> None:
        self._wrong = wrong
        self._end = end

    @property
    def partitions(self) -> list[tuple[str, int]]:
        return [(IDENTITY_TOPIC, 0)]

    async def end_offsets(self) -> dict[tuple[str, int], int]:
        return {(IDENTITY_TOPIC, 0): self._end}

    async def position(self, topic: str, partition: int) -> int:
        return len(topic) * partition

    async def poll(self, *, max_records: int, timeout_ms: int) -> list[Any]:
        pytest.fail(f"{max_records} more are waited for {timeout_ms} ms at a time, for ever")

    def require_whole(self, _: Any) -> None:
        """Nothing is gone."""

    def require_whole_topics(self) -> None:
        raise self._wrong


@pytest.mark.parametrize("wrong", WRONG)
async def test_a_service_neither_answers_nor_is_ready(wrong: PermanentError) -> None:
    # cases K1, K3
    nothing: Any = None
    follower = Follower(cast("Reader", Topics(wrong)), store=nothing, identity=nothing, contracts=[])

    for ask in (follower.catch_up, follower.check):
        with pytest.raises(type(wrong), match=str(wrong)):
            await ask()


@pytest.mark.parametrize("end", [0, 5])
@pytest.mark.parametrize("wrong", WRONG)
async def test_nobodys_keys_are_known_and_nobody_waits_for_ever(wrong: PermanentError, end: int) -> None:
    network: Any = type(
        "Network", (), {"new_ring": lambda _: SimpleNamespace(position=0), "restored_ranges": lambda _: {}}
    )()
    view = IdentityView(cast("Reader", Topics(wrong, end)), network)

    with pytest.raises(type(wrong), match=str(wrong)):
        await view.catch_up()


@pytest.mark.parametrize("wrong", WRONG)
async def test_the_answer_says_what_an_operator_has_to_mend(wrong: PermanentError) -> None:
    app = FastAPI()
    problems.install(app)

    @app.get("/")
    async def answer() -> None:
        raise wrong

    async with AsyncClient(transport=ASGITransport(app), base_url="http://service") as http:
        response = await http.get("/")

    assert (response.status_code, response.json()["code"]) == (503, "kafka-needs-operator")
    assert str(wrong) in response.json()["detail"]
    assert "away" not in response.json()["detail"]
