"""What only a real store can show: lost answers, absent stores, buckets, locks and constant memory."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from salus.crypto.sealed_object_v1 import new_object, split_header
from salus.crypto.sealing import generate_key_pair
from salus.devkit.addresses import Addresses
from salus.objects import (
    Admin,
    NotFoundError,
    RefusedError,
    S3Objects,
    StoreAwayError,
    UnfitStoreError,
    open_store,
    probe,
)

from .conftest import OpenBucket

MIB = 1024 * 1024
MEMORY_MAX = 64 * MIB


class LossyProxy:
    """Passes bytes to the store and drops the connection instead of the first `losses` answers.

    Only answers to requests that hold `about` are lost.
    """

    def __init__(self, port: int, *, losses: int, about: bytes = b"") -> None:
        self._port = port
        self._about = about
        self._connections: set[asyncio.Task[None]] = set()
        self.losses = losses

    async def __aenter__(self) -> str:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        store_reader, store_writer = await asyncio.open_connection("127.0.0.1", self._port)
        asked: list[bytes] = []
        there = asyncio.create_task(_pass_on(reader, store_writer, asked))
        try:
            while answer := await store_reader.read(65536):
                if self.losses > 0 and self._about in b"".join(asked):
                    self.losses -= 1
                    break
                asked.clear()
                writer.write(answer)
                await writer.drain()
        finally:
            there.cancel()
            for side in (store_writer, writer):
                side.close()
            await asyncio.gather(
                there, store_writer.wait_closed(), writer.wait_closed(), return_exceptions=True
            )


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[bytes]) -> None:
    while data := await reader.read(65536):
        seen.append(data[:2000])
        writer.write(data)
        await writer.drain()


def through(store: S3Objects, parts: Addresses, endpoint: str, *, deadline_s: float = 10) -> S3Objects:
    return open_store(
        endpoint=endpoint,
        access_key=parts.s3.access_key,
        secret_key=parts.s3.secret_key,
        region=parts.s3.region,
        bucket=store.bucket,
        deadline_s=deadline_s,
    )


def port_of(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


async def test_a_create_whose_answer_was_lost_still_succeeds(store: S3Objects, parts: Addresses) -> None:
    async with LossyProxy(port_of(parts.s3.endpoint), losses=1) as endpoint:
        etag = await through(store, parts, endpoint).create("k", b"mine")

    assert await store.get_with_etag("k", bytes_max=1 << 30) == (b"mine", etag)


async def test_a_replace_whose_answer_was_lost_still_succeeds(store: S3Objects, parts: Addresses) -> None:
    old = await store.create("k", b"first")
    async with LossyProxy(port_of(parts.s3.endpoint), losses=1) as endpoint:
        etag = await through(store, parts, endpoint).replace("k", b"second", old)

    assert await store.get_with_etag("k", bytes_max=1 << 30) == (b"second", etag)


async def test_a_put_whose_answer_was_lost_is_repeated(store: S3Objects, parts: Addresses) -> None:
    async with LossyProxy(port_of(parts.s3.endpoint), losses=2) as endpoint:
        await through(store, parts, endpoint).put("k", b"x")

    assert await store.get("k", bytes_max=1 << 30) == b"x"


async def test_an_upload_whose_last_answer_was_lost_is_unknown_and_may_be_repeated(
    store: S3Objects, parts: Addresses
) -> None:
    async with LossyProxy(port_of(parts.s3.endpoint), losses=1, about=b"CompleteMultipartUpload") as endpoint:
        lossy = through(store, parts, endpoint)

        with pytest.raises(StoreAwayError):
            await lossy.put_stream("k", _zeros(9))
        assert (await store.head("k")).size == 9 * MIB
        await lossy.put_stream("k", _zeros(9))

    assert (await store.head("k")).size == 9 * MIB


async def test_a_store_that_never_answers_is_away_within_the_deadline(
    store: S3Objects, parts: Addresses
) -> None:
    async with LossyProxy(port_of(parts.s3.endpoint), losses=1000) as endpoint:
        lossy = through(store, parts, endpoint, deadline_s=1)
        began = time.monotonic()

        with pytest.raises(StoreAwayError):
            await lossy.create("k", b"mine")
        with pytest.raises(StoreAwayError):
            await lossy.get("k", bytes_max=1 << 30)
        with pytest.raises(StoreAwayError):
            await lossy.destroy("k")

    assert time.monotonic() - began < 15
    assert await store.create("k", b"mine")


async def test_wrong_credentials_are_refused(store: S3Objects, parts: Addresses) -> None:
    wrong = open_store(
        endpoint=parts.s3.endpoint,
        access_key=parts.s3.access_key,
        secret_key="wrong-" + parts.s3.secret_key,
        region=parts.s3.region,
        bucket=store.bucket,
    )

    with pytest.raises(RefusedError):
        await wrong.get("k", bytes_max=1 << 30)
    with pytest.raises(RefusedError):
        await wrong.create("k", b"")
    with pytest.raises(RefusedError):
        await wrong.destroy("k")


async def test_a_missing_bucket_is_said_to_be_missing(open_bucket: OpenBucket) -> None:
    missing = open_bucket(f"none-{uuid4().hex[:8]}")

    with pytest.raises(RefusedError, match="bucket"):
        await missing.put("k", b"")
    with pytest.raises(RefusedError, match="bucket"):
        await probe(missing)


async def test_making_a_bucket_is_harmless_to_repeat_and_to_race(
    admin: Admin, open_bucket: OpenBucket
) -> None:
    name = f"race-{uuid4().hex[:8]}"
    await asyncio.gather(*(admin.ensure_bucket(name) for _ in range(5)))

    await probe(open_bucket(name))


async def test_a_locked_bucket_takes_conditional_writes(admin: Admin, open_bucket: OpenBucket) -> None:
    name = f"locked-{uuid4().hex[:8]}"
    await admin.ensure_bucket(name, object_lock=True)
    await admin.ensure_bucket(name, object_lock=True)

    await probe(open_bucket(name))
    await open_bucket(name).put_stream("k", _zeros(9))


async def test_a_bucket_without_the_lock_that_is_asked_for_is_unfit(admin: Admin) -> None:
    name = f"plain-{uuid4().hex[:8]}"
    await admin.ensure_bucket(name)

    with pytest.raises(UnfitStoreError, match="object lock"):
        await admin.ensure_bucket(name, object_lock=True)


async def test_destroying_leaves_no_version(admin: Admin, open_bucket: OpenBucket) -> None:
    name = f"versioned-{uuid4().hex[:8]}"
    await admin.ensure_bucket(name, versioning=True)
    store = open_bucket(name)
    for content in (b"1", b"2"):
        await store.put("k", content)
    await store.delete("k")
    await store.put("k2", b"other")
    await store.destroy("k")

    versions = admin._client().list_objects(bucket_name=name, recursive=True, include_version=True)
    assert [version.object_name for version in versions] == ["k2"]


async def test_encrypting_a_stream_takes_constant_memory(store: S3Objects) -> None:
    pair = generate_key_pair()
    header, segments = new_object(object="o", patient="p", public_key=pair.public_key, key="p#k")

    async def sealed() -> AsyncIterator[bytes]:
        yield header.encode()
        async for piece in segments.seal_all(_zeros(128)):
            yield piece

    tracemalloc.start()
    try:
        await store.put_stream("big", sealed())
        found, rest = await split_header(store.stream("big"))
        size = 0
        async for piece in found.open_segments(pair.private_key).open_all(rest):
            size += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert size == 128 * MIB
    assert peak < MEMORY_MAX


async def test_a_cancelled_upload_leaves_no_object(store: S3Objects) -> None:
    stuck = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield bytes(9 * MIB)
        stuck.set()
        await asyncio.Event().wait()

    upload = asyncio.create_task(store.put_stream("k", endless()))
    await asyncio.wait_for(stuck.wait(), 10)
    upload.cancel()
    await asyncio.gather(upload, return_exceptions=True)

    with pytest.raises(NotFoundError):
        await store.head("k")


async def _zeros(mib: int) -> AsyncIterator[bytes]:
    for _ in range(mib):
        yield bytes(MIB)


async def test_the_store_tells_the_time_whatever_else_it_answers(open_bucket: OpenBucket) -> None:
    told = await open_bucket("there-is-no-such-bucket").time()

    assert told is not None
    assert abs(told - datetime.now(UTC)) < timedelta(minutes=1)
