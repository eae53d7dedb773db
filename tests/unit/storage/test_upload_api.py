"""Resumable uploads as a client of tus 1.0.0 sees them."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from hashlib import sha1, sha256

import httpx
import pytest

from .conftest import HOSPITAL, LABORATORY, PATIENT, Bench, limits_of
from .test_api import client_of, code, right

BODY = bytes(range(250)) * 10
TUS = {"Tus-Resumable": "1.0.0"}
QUERY = {"patient": PATIENT, "object": "o-1", "did": HOSPITAL.did}
NEW = {"Upload-Length": str(len(BODY))}
METADATA = (
    f"filetype {b64encode(b'application/fhir+json').decode()},content-encoding {b64encode(b'gzip').decode()}"
)


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.registered()
    return bench


@pytest.fixture
async def client(bench: Bench) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(bench, limits_of(object_bytes_max=5000, body_idle_s_max=0.2)) as client:
        client.headers.update(TUS)
        yield client


async def begun(client: httpx.AsyncClient, **headers: str) -> str:
    answer = await client.post("/uploads", params=QUERY, headers=NEW | headers)
    assert answer.status_code == 201, answer.text
    return f"{answer.headers['location']}&did={HOSPITAL.did}"


async def patched(
    client: httpx.AsyncClient, url: str, offset: int, content: object, **headers: str
) -> httpx.Response:
    told = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.patch(url, content=content, headers=told | named)  # type: ignore[arg-type]  # bytes or a stream


async def test_an_upload_goes_on_where_it_stopped_and_is_an_object_in_the_end(
    bench: Bench, client: httpx.AsyncClient
) -> None:
    asked = await client.options("/uploads")
    url = await begun(client, **{"Upload-Metadata": METADATA})

    async def stalling() -> AsyncIterator[bytes]:
        yield BODY[:1300]
        await asyncio.sleep(3600)

    stalled = await patched(client, url, 0, stalling())
    seen = await client.head(url)
    before = await client.get("/objects/o-1", params={"patient": PATIENT}, headers=right())
    last = await patched(client, url, 1300, BODY[1300:])
    done = await client.head(url)
    again = await patched(client, url, len(BODY), b"")
    more = await patched(client, url, len(BODY), b"x")
    bench.tokens.grant("right")
    # Nobody undoes the coding.
    wanted = client.build_request("GET", "/objects/o-1", params={"patient": PATIENT}, headers=right())
    read = await client.send(wanted, stream=True)

    assert asked.status_code == 204
    assert asked.headers["tus-extension"] == "creation,expiration,checksum,termination"
    assert asked.headers["tus-max-size"] == "5000"
    assert code(stalled) == (408, "too-slow")
    assert seen.headers["upload-offset"] == "1300", "what came before it stopped coming is kept"
    assert seen.headers["upload-length"] == str(len(BODY))
    assert seen.headers["upload-metadata"] == done.headers["upload-metadata"] == METADATA
    assert seen.headers["cache-control"] == "no-store"
    assert seen.headers["upload-expires"] == "Sun, 22 Nov 2026 13:00:00 GMT"
    assert before.status_code != 200
    assert [answer.status_code for answer in (last, again)] == [204, 204]
    assert last.headers["upload-offset"] == done.headers["upload-offset"] == str(len(BODY))
    assert code(more) == (413, "too-large")
    assert last.headers["salus-receipt"] == again.headers["salus-receipt"]
    assert b"".join([piece async for piece in read.aiter_raw()]) == BODY
    assert (read.headers["content-type"], read.headers["content-encoding"]) == (
        "application/fhir+json",
        "gzip",
    )
    assert code(await client.delete(url)) == (403, "upload-completed")


async def test_what_the_protocol_does_not_allow_is_a_problem_with_its_code(client: httpx.AsyncClient) -> None:
    url = await begun(client)
    stranger = url.replace(HOSPITAL.did, LABORATORY.did)
    unknown = url.replace("&object=o-1", "&object=o-2")
    sha = f"sha256 {b64encode(sha256(BODY[:10]).digest()).decode()}"
    weak = f"sha1 {b64encode(sha1(BODY[:10], usedforsecurity=False).digest()).decode()}"
    filename = {"Upload-Metadata": "filename TWFyeSBEb2UucGRm"}
    answers = {
        (412, "unsupported-version"): await client.head(url, headers={"Tus-Resumable": "0.2.2"}),
        (404, "unknown-upload"): await client.patch(
            stranger, headers={"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        ),
        (409, "offset-mismatch"): await patched(client, url, 7, b"x"),
        (413, "too-large"): await patched(client, url, 0, BODY + b"x"),
        (415, "unsupported-media-type"): await patched(client, url, 0, b"x", Content_Type="text/plain"),
        (460, "checksum-mismatch"): await patched(client, url, 0, b"x", Upload_Checksum=sha),
        (400, "unsupported-checksum"): await patched(client, url, 0, b"x", Upload_Checksum="crc32 AAAA"),
        (400, "invalid-request"): await patched(client, url, 0, b"x", Upload_Offset="-1"),
        (422, "invalid-request"): await client.post("/uploads", params=QUERY, headers=NEW | filename),
        (400, "not-supported"): await client.post("/uploads", params=QUERY, headers=NEW, content=b"x"),
    }
    heads = [await client.head(each) for each in (stranger, unknown, "/uploads/x?" + url.partition("?")[2])]
    split = await client.post("/uploads", params=QUERY, headers=NEW | {"Upload-Concat": "partial"})
    large = await client.post("/uploads", params=QUERY, headers={"Upload-Length": "10000001"})
    empty = await client.post("/uploads", params=QUERY, headers={"Upload-Length": "0"})
    # Those parts of the body that was too long were whole.
    at = int((await client.head(url)).headers["upload-offset"])
    right_sum = await patched(client, url, at, BODY[:10], Upload_Checksum=weak)

    for expected, answer in answers.items():
        if answer.request.method != "HEAD":
            assert code(answer) == expected
        assert answer.status_code == expected[0]
        assert answer.headers["tus-resumable"] == "1.0.0"
    assert answers[412, "unsupported-version"].headers["tus-version"] == "1.0.0"
    assert [head.status_code for head in heads] == [404, 404, 404]
    assert code(split) == (400, "not-supported"), "a part would be taken for the whole"
    assert code(large) == (413, "too-large")
    assert code(empty) == (422, "invalid-request")
    assert right_sum.headers["upload-offset"] == str(at + 10)
    assert (await client.delete(url)).status_code == 204
    assert (await client.head(url)).status_code == 404
