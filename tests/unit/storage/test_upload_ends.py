"""The end of an upload that resumes: whoever meets it asks again, and nothing is made twice or left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from tests.asking import calling

from salus.storage.handlers import upload_sweep
from salus.storage.handlers.part_writing import Patch
from salus.storage.handlers.upload_parts import PARTS_FOLDER
from salus.storage.handlers.upload_records import OPEN_FOLDER, Place, UploadId
from salus.storage.handlers.uploading import Progress

from .conftest import HOSPITAL, NOW, PATIENT, Bench
from .test_uploading import BODY, begun, kept, offset_of, problem, sent


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.registered()
    return bench


async def test_who_meets_the_end_of_an_upload_is_told_to_ask_and_not_that_it_is_unknown(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy gave the last PATCH up, it was sent again, and the object was there: 404, begin again."""
    upload = await begun(bench)
    await sent(bench, upload, 0, BODY[:2500])
    get = bench.objects.get

    async def completed_first(key: str, *, bytes_max: int) -> bytes:
        monkeypatch.setattr(bench.objects, "get", get)
        # At another replica.
        bench.uploading = replace(bench.uploading)
        await sent(bench, upload, 2500, BODY[2500:])
        return await get(key, bytes_max=bytes_max)

    monkeypatch.setattr(bench.objects, "get", completed_first)
    with problem("offset-mismatch"):
        await sent(bench, upload, 2500, BODY[2500:])
    assert await offset_of(bench, upload) == len(BODY)

    other = await begun(bench)

    async def slow() -> AsyncIterator[bytes]:
        yield BODY[:300]
        await sent(bench, other, 0, BODY)

    with problem("offset-mismatch"):
        await bench.uploading.append(
            other, Patch(PATIENT, "o-1", 0, slow()), caller=calling(HOSPITAL), token=None, at=NOW
        )
    assert await offset_of(bench, other) == len(BODY)

    third, get = await begun(bench), bench.keys.get

    async def completed_behind(key: str, *, bytes_max: int) -> bytes:
        monkeypatch.setattr(bench.keys, "get", get)
        try:
            return await get(key, bytes_max=bytes_max)
        finally:
            await sent(bench, third, 0, BODY)

    monkeypatch.setattr(bench.keys, "get", completed_behind)
    assert await offset_of(bench, third) == len(BODY)


async def test_last_bytes_that_come_twice_at_once_seal_the_object_once(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that waits for a minute made eight of a large object, at once."""
    upload, put = await begun(bench), bench.objects.put_stream
    ((name, (record, _)),) = ((key, bench.keys.objects[key]) for key in kept(bench, OPEN_FOLDER))
    sealed: list[str] = []
    await sent(bench, upload, 0, BODY[:2500])

    async def counted(key: str, chunks: AsyncIterator[bytes]) -> str:
        sealed.append(key)
        return await put(key, chunks)

    monkeypatch.setattr(bench.objects, "put_stream", counted)
    ends = await asyncio.gather(
        *(sent(bench, upload, 2500, BODY[2500:]) for _ in range(3)), return_exceptions=True
    )

    assert sorted(isinstance(end, Progress) for end in ends) == [False, False, True]
    bench.keys.plant(name, record)

    assert len(sealed) == 1
    assert await offset_of(bench, upload) == len(BODY)
    assert not kept(bench, OPEN_FOLDER), "a crash left the record, and what opens the parts"


async def test_a_sweep_that_has_much_to_remove_is_at_work_all_the_while(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some 60,000 parts took it longer than it may go without: no replica was ready."""
    left: list[int] = []
    monkeypatch.setattr(upload_sweep, "succeeded", lambda: left.append(len(kept(bench, PARTS_FOLDER))))
    upload = await begun(bench)
    await sent(bench, upload, 0, BODY[:2500])
    await bench.records.destroy(Place.of(HOSPITAL.did, UploadId(upload, 0, len(BODY))))
    await bench.upload_sweep.look_through()

    assert left[-3:] == [2, 1, 0]
