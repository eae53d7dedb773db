from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel, ValidationError

from salus.runtime.database import DATABASE_AWAY, DatabaseAwayError
from salus.runtime.problems import ProblemError
from salus.runtime.service import Check, create_app
from salus.runtime.settings import ServiceSettings

SETTINGS = ServiceSettings(
    service_name="runtime",
    kafka_bootstrap="127.0.0.1:1",
    network_file=Path("network.json"),
    signing_key_file=Path("key.pem"),
    http_port=0,
)


class Person(BaseModel):
    age: int


@asynccontextmanager
async def nothing(_: FastAPI) -> AsyncIterator[None]:
    yield


async def well() -> None:
    pass


async def unwell() -> None:
    raise ConnectionError("no broker answers at kafka:9092")


def app_with(**checks: Check) -> httpx.AsyncClient:
    app = create_app(SETTINGS, title="test", lifespan=nothing, checks=checks)

    @app.post("/people")
    async def people(person: Person) -> None:
        if person.age > 150:
            raise ProblemError(409, "too-old", "nobody is that old", limit=150)
        raise RuntimeError("the patient's name")

    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
async def test_what_is_for_operators_has_one_spelling(path: str) -> None:
    """Case: an ingress that goes by raw paths lets `/%6detrics` through."""
    async with app_with() as http:
        plain = [await http.get(path), await http.get(f"{path}?x=1")]
        others = [
            await http.get(path.replace(letter, f"%{ord(letter):02{case}}", 1))
            for letter in path
            for case in "xX"
        ]
        others += [await http.get(path + tail) for tail in ("/", "%3F", "%00", "%2F", ";x")]

    assert [answer.status_code for answer in plain] == [200, 200]
    assert {answer.status_code for answer in others} == {404}


@pytest.mark.parametrize(
    ("away", "status", "code"), [(DATABASE_AWAY, 503, "unavailable"), ((), 500, "internal-error")]
)
async def test_a_database_that_is_away_is_no_fault_of_the_service(
    away: tuple[type[Exception], ...], status: int, code: str
) -> None:
    app = create_app(SETTINGS, title="test", lifespan=nothing, checks={}, away=away)

    @app.get("/people")
    async def people() -> None:
        raise DatabaseAwayError("ConnectionDoesNotExistError") from Exception("the patient's name")

    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.get("/people")

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "name" not in answer.text


async def test_a_service_with_all_its_parts_is_ready() -> None:
    async with app_with(kafka=well) as http:
        ready = await http.get("/readyz")
        alive = await http.get("/healthz")

    assert (ready.status_code, ready.json()) == (200, {"ready": True, "checks": {"kafka": "ok"}})
    assert alive.status_code == 200


async def test_a_service_says_which_part_is_away_and_stays_alive() -> None:
    async with app_with(kafka=unwell, database=well) as http:
        ready = await http.get("/readyz")
        alive = await http.get("/healthz")

    assert ready.status_code == 503
    assert ready.json()["checks"] == {
        "kafka": "ConnectionError: no broker answers at kafka:9092",
        "database": "ok",
    }
    assert alive.status_code == 200


async def test_what_somebody_should_look_at_is_told_and_makes_no_service_unready() -> None:
    async def noted() -> str:
        return "1 of 2 open obligations are parked"

    async with app_with(obligations=noted, database=well) as http:
        ready = await http.get("/readyz")

    assert (ready.status_code, ready.json()["checks"]) == (
        200,
        {"obligations": "ok: 1 of 2 open obligations are parked", "database": "ok"},
    )


async def test_metrics_are_in_prometheus_form() -> None:
    async with app_with() as http:
        answer = await http.get("/metrics")

    assert "# TYPE process_cpu_seconds_total counter" in answer.text


async def test_a_problem_carries_its_code_and_facts() -> None:
    async with app_with() as http:
        answer = await http.post("/people", json={"age": 151})

    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code == 409
    assert answer.json() == {
        "type": "urn:salus:problem:too-old",
        "title": "Conflict",
        "status": 409,
        "code": "too-old",
        "detail": "nobody is that old",
        "limit": 150,
    }


async def test_an_invalid_request_is_told_where_but_never_quoted() -> None:
    async with app_with() as http:
        answer = await http.post("/people", json={"age": "Mrs Smith"})

    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid-request"
    assert answer.json()["errors"][0]["at"] == "body/age"
    assert "Smith" not in answer.text


async def test_an_unknown_path_is_a_problem_document_too() -> None:
    async with app_with() as http:
        answer = await http.get("/nowhere")

    assert answer.status_code == 404
    assert answer.json()["code"] == "not-found"


async def test_a_failure_shows_nothing_of_its_cause() -> None:
    async with app_with() as http:
        answer = await http.post("/people", json={"age": 1})

    assert answer.status_code == 500
    assert answer.json()["code"] == "internal-error"
    assert "name" not in answer.text.replace("the cause is in its log", "")


def test_a_missing_setting_stops_the_start_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SALUS_KAFKA_BOOTSTRAP", raising=False)

    with pytest.raises(ValidationError, match="kafka_bootstrap"):
        ServiceSettings(
            service_name="runtime", network_file=Path("n"), signing_key_file=Path("k"), http_port=1
        )


# case F13
async def test_all_who_ask_at_once_whether_it_is_ready_share_one_look() -> None:
    looks, looking = 0, asyncio.Event()

    async def check() -> None:
        nonlocal looks
        looks += 1
        await looking.wait()

    app = create_app(SETTINGS, title="x", checks={"kafka": check})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as http:
        asked = [asyncio.create_task(http.get("/readyz")) for _ in range(100)]
        for _ in range(1000):
            await asyncio.sleep(0)
        # One of them does not wait for the answer.
        asked.pop(0).cancel()
        looking.set()
        answers = await asyncio.gather(*asked)
        assert {answer.status_code for answer in answers} == {200}
        assert looks == 1

        await http.get("/readyz")
        assert looks == 2
