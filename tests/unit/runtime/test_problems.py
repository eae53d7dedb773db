"""Every error of an app is answered in the format of its path, with the status and headers it came with."""

from __future__ import annotations

import json
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Query
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from salus.runtime import problems
from salus.runtime.bodies import guard_bodies
from salus.runtime.problems import ERRORS_MAX, SENTENCE_CHARS_MAX, Answer, ProblemError, use_format
from salus.runtime.refusal import Refusal


def odd(answer: Answer) -> JSONResponse:
    body = {"odd": answer.code}
    return JSONResponse(body, answer.status, dict(answer.headers), media_type="application/odd+json")


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    problems.install(app)
    guard_bodies(app, streams=())
    router = APIRouter()

    @router.get("/odd/things")
    async def find(size: Annotated[int, Query()]) -> int:
        return size

    @router.post("/odd/things")
    async def make(body: dict[str, int]) -> int:
        return len(body)

    @router.post("/even/things")
    async def make_even(body: dict[str, int]) -> int:
        return len(body)

    @router.get("/{place}/fails/{how}")
    async def fail(place: str, how: str) -> None:
        errors = {
            "refusal": Refusal("no", place, status=409),
            "problem": ProblemError(401, "unauthenticated", "who?"),
            "http": HTTPException(429, "slow down", headers={"Retry-After": "7"}),
        }
        raise errors.get(how) or RuntimeError(how)

    app.include_router(router)
    use_format(app, "/odd", odd)
    return app


async def ask(app: FastAPI, method: str, path: str, content: bytes | None = None) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        headers = {"Content-Type": "application/json"} if content is not None else {}
        return await client.request(method, path, content=content, headers=headers)


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("GET", "/odd/things", None, 422),
        ("POST", "/odd/things", b"{", 422),
        ("POST", "/odd/things", b" " * (1024 * 1024 + 1), 413),
        ("PUT", "/odd/things", None, 405),
        ("GET", "/odd/unknown", None, 404),
        ("GET", "/odd", None, 404),
        ("GET", "/odd/fails/refusal", None, 409),
        ("GET", "/odd/fails/problem", None, 401),
        ("GET", "/odd/fails/http", None, 429),
        ("GET", "/odd/fails/otherwise", None, 500),
    ],
)
async def test_a_base_path_with_a_format_of_its_own_answers_every_error_in_it(  # cases F3, formats 7
    app: FastAPI, method: str, path: str, content: bytes | None, status: int
) -> None:
    answer = await ask(app, method, path, content)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/odd+json")
    assert list(answer.json()) == ["odd"]


@pytest.mark.parametrize("path", ["/even/fails/otherwise", "/odder/things", "/even/fails/refusal"])
async def test_other_paths_keep_problem_documents(app: FastAPI, path: str) -> None:
    answer = await ask(app, "GET", path)

    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["/odd/things", "/even/fails/http"])
async def test_a_405_names_every_method_of_the_path(
    app: FastAPI, path: str
) -> None:  # case F3: RFC 9110 15.5.6
    answer = await ask(app, "DELETE", path)

    assert answer.status_code == 405
    assert answer.headers["allow"] == ("GET, POST" if path == "/odd/things" else "GET")


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("/odd/fails/http", "retry-after", "7"),
        ("/even/fails/http", "retry-after", "7"),
        ("/even/fails/problem", "www-authenticate", "Bearer"),
        ("/odd/fails/problem", "www-authenticate", "Bearer"),
    ],
)
async def test_the_headers_of_an_error_are_kept(app: FastAPI, path: str, name: str, value: str) -> None:
    assert (await ask(app, "GET", path)).headers[name] == value


async def test_an_answer_is_small_whatever_was_sent(app: FastAPI) -> None:  # red team 3, case 1
    wrong = json.dumps({f"{number}{'x' * 1000}": "no number" for number in range(500)}).encode()
    answer = await ask(app, "POST", "/even/things", wrong)

    errors = answer.json()["errors"]
    assert (answer.status_code, len(errors)) == (422, ERRORS_MAX)
    assert max(len(error[part]) for error in errors for part in ("at", "what")) <= SENTENCE_CHARS_MAX
