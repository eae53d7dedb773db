"""POST /shards: who has no right costs nothing, and rights are those of the command's turn (red team 4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from tests.asking import NETWORK, FixedCallers
from tests.unit.events.test_sharding import TOPIC, Founder

from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import ShardsAssigned
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.identity.shards import ShardingState, evolve
from salus.identity.shards_api import ASSIGNMENTS, AssignBody, shard_routes
from salus.runtime import problems

OPERATOR = Party("did:web:salus.example", "person", frozenset({"operator"}), None)
MEMBER = Party("did:web:hospital.example", "member", frozenset(), None)
WHOLE = {"id": 0, "topics": {TOPIC: [0, 1, 2]}}
MORE = {"id": 0, "topics": {TOPIC: [0, 1, 2, 3]}}


@dataclass
class Network:
    origin: str = "net"
    shards: tuple[Founder, ...] = (Founder(),)


@dataclass
class Host:
    """The aggregate, Kafka and the ring; `before_turn` happens while a command waits for its turn."""

    caller: Party = OPERATOR
    ring: KeyRing = field(
        default_factory=lambda: KeyRing(CATALOGUE, NETWORK, parties={OPERATOR.did: OPERATOR})
    )
    asked: list[list[str]] = field(default_factory=list)
    stated: ShardingState = field(default_factory=ShardingState)
    before_turn: Callable[[], None] = lambda: None

    async def state(self, _: str) -> ShardingState:
        return self.stated

    async def execute(self, _: str, rule: Callable[[ShardingState], Awaitable[ShardsAssigned]]) -> None:
        self.before_turn()
        self.stated = evolve(self.stated, await rule(self.stated))

    async def catch_up(self) -> KeyRing:
        return self.ring

    async def partitions_of(self, topics: Iterable[str]) -> Mapping[str, Collection[int]]:
        self.asked.append(sorted(topics))
        return {topic: range(5) for topic in topics}

    async def assign(self, *bodies: dict[str, Any] | bytes) -> list[tuple[int, str]]:
        """Send these bodies one after the other; return status and code of each."""
        app, network, host = FastAPI(), Network(), self
        problems.install(app)
        stands: Any = (host, network)
        app.include_router(
            shard_routes(
                *stands,
                authenticate=FixedCallers(lambda _: self.caller),
                partitions_of=self.partitions_of,
                ring=self,
                now=lambda: datetime.now(UTC),
            )
        )
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://identity") as client:
            answers = [
                await client.post("/shards", **({"content": b} if isinstance(b, bytes) else {"json": b}))
                for b in bodies
            ]
        return [(answer.status_code, answer.json().get("code", "")) for answer in answers]


def body(epoch: int, *shards: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": epoch, "shards": list(shards)}


@pytest.mark.parametrize("wrong", [False, True])
async def test_of_who_is_no_operator_neither_body_nor_topics_are_looked_at(*, wrong: bool) -> None:
    host = Host(caller=MEMBER)
    topics = {f"t{number}": ["a"] if wrong else [0] for number in range(20_000)}

    assert await host.assign(body(1, {"id": 0, "topics": topics})) == [(403, "not-permitted")]
    assert host.asked == []


async def test_kafka_is_asked_for_topics_that_grow_and_no_others() -> None:
    host = Host()
    strange = {"id": 0, "topics": {TOPIC: [0, 1, 2], "strange": [0]}}

    assert await host.assign(body(1, WHOLE), body(1, strange), body(1, MORE)) == [
        (422, "nothing-moves"),
        (422, "unknown-partition"),
        (201, ""),
    ]
    assert host.asked == [[TOPIC]]


async def test_a_right_that_ends_while_an_assignment_waits_is_none() -> None:
    host = Host()

    def withdraw() -> None:
        host.ring.parties[OPERATOR.did] = replace(OPERATOR, roles=frozenset())

    host.before_turn = withdraw

    assert await host.assign(body(1, MORE)) == [(403, "not-permitted")]


async def test_an_operator_assigns_so_often() -> None:
    bodies = [body(1, WHOLE) for _ in range(ASSIGNMENTS.burst)]
    answers = await Host().assign(*bodies, body(1, MORE))

    assert answers[-2:] == [(422, "nothing-moves"), (429, "too-many-requests")]


def test_of_many_wrong_partitions_the_first_is_told() -> None:
    # 19,000 lists with one wrong number each took 0.1 s; each is an error of its own.
    shards = [{"id": number, "topics": {TOPIC: ["a"] * 1000}} for number in range(100)]
    with pytest.raises(ValidationError) as refused:
        AssignBody.model_validate(body(1, *shards))

    assert refused.value.error_count() == 1


def test_what_is_kept_of_an_assignment_is_without_its_request() -> None:
    # Requests of one operator, 250 KB each, stood in the key ring of every service and verifier for ever.
    state = evolve(ShardingState(), ShardsAssigned("net", 1, (), request=None))  # type: ignore[arg-type]  # nobody looks

    assert [hasattr(kept, "request") for kept in state.assigned] == [False]
