"""A header that changes what a request means is honoured or refused, and never passed over."""

from __future__ import annotations

import httpx
import pytest
from tests.unit.runtime.test_bodies import app


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("Content-Encoding", "gzip", 415),
        ("Content-Encoding", "identity, br", 415),
        ("Content-Range", "bytes 0-9/100", 400),
        ("If-Match", '"1"', 412),
        ("If-Match", "*", 412),
        ("If-Unmodified-Since", "Sun, 22 Nov 2026 12:00:00 GMT", 412),
        ("If-None-Match", "*", 412),
        ("Content-Encoding", "Identity", None),
        ("Accept-Encoding", "gzip", None),
    ],
)
async def test_what_no_service_honours_is_refused(  # case F2
    method: str, name: str, value: str, status: int | None
) -> None:
    path, content = ("/healthz", None) if method == "GET" else ("/people", b'{"age":1}')
    headers = {"Content-Type": "application/json", name: value}
    async with app() as http:
        answer = await http.request(method, path, content=content, headers=headers)
    if (method, name) == ("GET", "If-None-Match"):
        status = None

    assert answer.status_code == (200 if status is None else status)
    assert status is None or answer.headers["content-type"] == "application/problem+json"
    assert ("accept-encoding" in answer.headers) is (status == 415)


async def test_paths_that_stream_look_themselves() -> None:
    async with app() as http:
        answer = await http.put("/objects/x", content=b"abc", headers={"If-None-Match": "*"})

    assert isinstance(answer, httpx.Response)
    assert answer.json() == 3
