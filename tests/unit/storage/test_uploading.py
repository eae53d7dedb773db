"""Uploads that resume, against the domain and the fakes: exactly the bytes that were sent, or no object."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.asking import UNASKED, calling

from salus.crypto.errors import CryptoError
from salus.crypto.upload_parts import OVERHEAD_BYTES, UploadKey
from salus.events.contexts.consent import ConsentRevoked
from salus.events.contexts.storage import ObjectStored
from salus.events.parties import Party
from salus.objects.errors import StoreAwayError
from salus.objects.memory import Fault
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal
from salus.storage.handlers.part_writing import BrokenBodyError, Digest, Patch
from salus.storage.handlers.upload_parts import PARTS_FOLDER
from salus.storage.handlers.upload_records import COMPLETED_FOLDER, OPEN_FOLDER
from salus.storage.handlers.upload_sweep import GRACE_S
from salus.storage.handlers.uploading import NewUpload, Progress

from .conftest import CONTENT, HOSPITAL, LABORATORY, NOW, PART_BYTES, PATIENT, Bench, pieces, refused

BODY = CONTENT[:2700]
NEW = NewUpload(PATIENT, "o-1", len(BODY), "text/plain", "gzip", "filetype dGV4dC9wbGFpbg==")


def problem(code: str) -> pytest.RaisesExc[ProblemError]:
    return pytest.raises(ProblemError, check=lambda error: error.code == code)


@pytest.fixture
async def bench() -> Bench:
    bench = Bench()
    await bench.registered()
    return bench


async def begun(bench: Bench, new: NewUpload = NEW, by: Party = HOSPITAL, token: str | None = None) -> str:
    made = await bench.uploading.create(new, caller=calling(by), token=token, at=bench.now())
    return made.id.text


async def broken(content: bytes) -> AsyncIterator[bytes]:
    async for piece in pieces(content, 300):
        yield piece
    raise BrokenBodyError(ProblemError(408, "too-slow", "it stopped coming"))


async def sent(
    bench: Bench,
    upload: str,
    offset: int,
    content: bytes,
    *,
    breaks: bool = False,
    by: Party = HOSPITAL,
    token: str | None = None,
    digests: tuple[Digest, ...] = (),
) -> Progress:
    body = broken(content) if breaks else pieces(content, 300)
    patch = Patch(PATIENT, "o-1", offset, body, digests)
    return await bench.uploading.append(upload, patch, caller=calling(by), token=token, at=bench.now())


async def offset_of(bench: Bench, upload: str, by: Party = HOSPITAL) -> int:
    found = await bench.uploading.progress(
        upload, caller_did=by.did, patient=PATIENT, name="o-1", at=bench.now()
    )
    return found.offset


def kept(bench: Bench, folder: str) -> list[str]:
    stored = bench.objects if folder == PARTS_FOLDER else bench.keys
    return [key for key in stored.objects if key.startswith(f"{folder}/")]


STEPS = st.lists(
    st.tuples(
        st.integers(0, len(BODY)),
        st.integers(0, len(BODY)),
        st.booleans(),
        st.booleans(),
        st.sampled_from([None, None, None, Fault.LOST, Fault.LATE]),
    ),
    max_size=6,
)


@example(steps=[(0, len(BODY), True, True, None)])
@example(steps=[(0, len(BODY), True, False, Fault.LATE)])
@given(steps=STEPS)
async def test_any_parts_crashes_and_repeats_give_the_bytes_that_were_sent_or_no_object(
    steps: list[tuple[int, int, bool, bool, Fault | None]],
) -> None:
    bench = Bench()
    await bench.registered()
    upload = await begun(bench)
    before = 0
    for place, size, honest, breaks, fault in steps:
        bench.objects._faults = iter([] if fault is None else [Fault.NONE, fault])
        offset = before if honest else place
        with suppress(ProblemError, Refusal, BrokenBodyError, StoreAwayError):
            await sent(bench, upload, offset, BODY[offset : offset + size], breaks=breaks)
        bench.objects._faults = iter([])
        bench.restart()
        after = await offset_of(bench, upload)
        is_stored = bool((await bench.topic.object(PATIENT, "o-1")).object)

        assert after >= before, "what was durable stays so"
        assert after == len(BODY) or not kept(bench, COMPLETED_FOLDER)
        assert is_stored or after < len(BODY)
        before = after
    if before < len(BODY):
        await sent(bench, upload, before, BODY[before:])
    stored = await bench.topic.object(PATIENT, "o-1")
    await bench.upload_sweep.look_through()

    assert await offset_of(bench, upload) == len(BODY)
    assert await bench.read() == BODY
    assert (stored.media_type, stored.content_encoding) == ("text/plain", "gzip")
    assert len([event for event in bench.topic.events if isinstance(event, ObjectStored)]) == 1
    assert not kept(bench, PARTS_FOLDER)
    assert not kept(bench, OPEN_FOLDER)


async def test_what_is_stored_of_an_upload_is_sealed_and_its_key_dies_with_it(bench: Bench) -> None:
    upload = await begun(bench)
    await sent(bench, upload, 0, BODY[:2500])
    parts = {key: data for key, (data, _) in bench.objects.objects.items()}
    (name,) = kept(bench, OPEN_FOLDER)
    record = msgspec.json.decode(bench.keys.objects[name][0])
    await bench.uploading.terminate(upload, caller_did=HOSPITAL.did, patient=PATIENT, name="o-1", at=NOW)

    assert len(parts) == 3
    for data in parts.values():
        assert not any(BODY[at : at + 16] in data for at in range(0, 2500, 16))
    other = UploadKey.of("another", private_key=bytes(32), secret=bytes(32))
    with pytest.raises(CryptoError):
        other.open(next(iter(parts.values())), start=0)
    assert record["object"] == "o-1"
    assert not kept(bench, OPEN_FOLDER)
    assert not bench.objects.objects
    with problem("unknown-upload"):
        await offset_of(bench, upload)


async def test_a_part_that_was_altered_moved_or_dropped_makes_no_object(bench: Bench) -> None:
    upload = await begun(bench)
    await sent(bench, upload, 0, BODY[:2100])
    first, second, third = sorted(bench.objects.objects)
    whole = dict(bench.objects.objects)
    altered = bytearray(whole[second][0])
    altered[40] ^= 1

    for changed in (
        {**whole, second: (bytes(altered), "1")},
        {**whole, first: whole[second], second: whole[first]},
    ):
        bench.objects.objects = dict(changed)
        with problem("upload-corrupt"):
            await sent(bench, upload, 2100, BODY[2100:])
    bench.objects.objects = {first: whole[first], third: whole[third]}
    with problem("offset-mismatch"):
        await sent(bench, upload, 2100, BODY[2100:])
    behind_a_gap = await offset_of(bench, upload)
    last = f"{first.rpartition('/')[0]}/{2100:016d}"
    bench.objects.objects = {**whole, last: (bytes(len(BODY) - 2100 + OVERHEAD_BYTES), "1")}

    assert behind_a_gap == PART_BYTES, "what lies behind a gap does not count"
    assert await offset_of(bench, upload) == 2100, "a plain client would take it for stored"
    assert not (await bench.topic.object(PATIENT, "o-1")).object


async def test_a_record_that_was_altered_is_not_believed(bench: Bench) -> None:
    upload = await begun(bench)
    (name,) = kept(bench, OPEN_FOLDER)
    record = msgspec.json.decode(bench.keys.objects[name][0])
    bench.keys.plant(name, msgspec.json.encode({**record, "media_type": "text/html"}))
    with problem("upload-corrupt"):
        await sent(bench, upload, 0, BODY)
    bench.keys.plant(name, b"{")
    with problem("upload-corrupt"):
        await sent(bench, upload, 0, BODY)
    place = name.removeprefix(f"{OPEN_FOLDER}/")
    bench.keys.plant(f"{COMPLETED_FOLDER}/{place}", b'{"location":"o-1/0","metadata":""}')
    bench.keys.plant(name, msgspec.json.encode(record))

    without = await offset_of(bench, upload)
    await bench.stored(b"other content")
    beside = await offset_of(bench, upload)
    bench.keys.plant(f"{COMPLETED_FOLDER}/{place}", b"{")
    await sent(bench, upload, 0, BODY[:100])
    await bench.uploading.terminate(upload, caller_did=HOSPITAL.did, patient=PATIENT, name="o-1", at=NOW)

    assert (without, beside) == (0, 0), "only the ledger says that it is an object, and which"


async def test_of_two_that_go_on_at_once_one_wins_and_no_byte_is_there_twice(bench: Bench) -> None:
    upload = await begun(bench)
    ends = await asyncio.gather(
        *(sent(bench, upload, 0, BODY[:2000]) for _ in range(2)), return_exceptions=True
    )
    lost = [end for end in ends if isinstance(end, ProblemError)]
    offset = await offset_of(bench, upload)
    await sent(bench, upload, offset, BODY[offset:])

    assert [error.code for error in lost] == ["offset-mismatch"]
    assert await bench.read() == BODY


async def test_a_right_that_ends_ends_the_upload_and_nobody_else_finds_it(bench: Bench) -> None:
    person = LABORATORY
    token = bench.tokens.grant("may", action="write", principal=person.did)
    with refused("not-the-steward"):
        await begun(bench, by=person)
    upload = await begun(bench, by=person, token=token)
    await sent(bench, upload, 0, BODY[:1500], by=person, token=token)
    with problem("unknown-upload"):
        await sent(bench, upload, 1500, BODY[1500:])
    with refused("not-the-steward"):
        await sent(bench, upload, 1500, BODY[1500:], by=person)

    async def body() -> AsyncIterator[bytes]:
        yield BODY[1500:2000]
        revoked = ConsentRevoked(consent="c-1", patient=PATIENT, epoch=1, request=UNASKED)
        bench.topic.fold(revoked, PATIENT)
        yield BODY[2000:]

    with refused("decision-outdated"):
        await bench.uploading.append(
            upload, Patch(PATIENT, "o-1", 1500, body()), caller=calling(person), token=token, at=NOW
        )

    assert await offset_of(bench, upload, person) == 1500
    assert not (await bench.topic.object(PATIENT, "o-1")).object


async def test_what_does_not_fit_is_refused_with_its_code_and_changes_nothing(bench: Bench) -> None:
    upload = await begun(bench)
    await sent(bench, upload, 0, BODY[:500])
    wrong = Digest("sha256", sha256(b"other").digest(), ProblemError(460, "checksum-mismatch", "wrong"))
    right = replace(wrong, value=sha256(BODY[500:900]).digest())
    for offset, content, digests, expected in (
        (499, BODY[499:900], (), "offset-mismatch"),
        (501, BODY[501:900], (), "offset-mismatch"),
        (500, BODY[500:] + b"x", (), "too-large"),
        (500, BODY[500:900], (wrong,), "checksum-mismatch"),
        (500, BODY[500:900], (right, wrong), "checksum-mismatch"),
        (500, BODY[500:1600], (right,), "too-large"),
    ):
        with problem(expected):
            await sent(bench, upload, offset, content, digests=digests)
        # Of a body that is too long, the parts before its end may have been written.
        assert expected == "too-large" or await offset_of(bench, upload) == 500
        offset_now = await offset_of(bench, upload)
        if offset_now != 500:
            await bench.uploading.terminate(
                upload, caller_did=HOSPITAL.did, patient=PATIENT, name="o-1", at=NOW
            )
            upload = await begun(bench)
            await sent(bench, upload, 0, BODY[:500])
    after = await sent(bench, upload, 500, BODY[500:900], digests=(right,))

    assert after.offset == 900
    with problem("unknown-upload"):
        await offset_of(bench, "../keys")
    with problem("too-large"):
        await begun(bench, replace(NEW, length=10_000_001))
    with problem("too-large"):
        # To complete or terminate others would help nobody.
        await begun(bench, replace(NEW, length=100_001))


async def test_a_party_has_so_many_uploads_open_and_each_expires_and_is_swept(bench: Bench) -> None:
    first = await begun(bench)
    await sent(bench, first, 0, BODY[:1500])
    with problem("too-many-uploads"):
        await begun(bench, replace(NEW, length=100_000))
    others = [await begun(bench) for _ in range(2)]
    with problem("too-many-uploads"):
        await begun(bench)
    await bench.uploading.terminate(others[0], caller_did=HOSPITAL.did, patient=PATIENT, name="o-1", at=NOW)
    last = await begun(bench)
    await sent(bench, last, 0, BODY)
    await bench.upload_sweep.look_through()
    spared = len(kept(bench, OPEN_FOLDER))
    bench.objects.plant(f"{PARTS_FOLDER}/somebody/else", b"x")
    bench.now = lambda: NOW + timedelta(seconds=3600)
    bench.restart()
    with problem("upload-expired"):
        await sent(bench, first, 1500, BODY[1500:])
    with problem("upload-expired"):
        await offset_of(bench, first)
    await begun(bench), await begun(bench)
    await bench.upload_sweep.look_through()
    in_grace = len(kept(bench, PARTS_FOLDER))
    bench.now = lambda: NOW + timedelta(seconds=3601 + GRACE_S)
    bench.restart()
    await bench.upload_sweep.look_through()

    assert spared == 2
    assert in_grace == 3
    assert len(kept(bench, OPEN_FOLDER)) == 2
    assert not kept(bench, COMPLETED_FOLDER)
    assert kept(bench, PARTS_FOLDER) == [f"{PARTS_FOLDER}/somebody/else"]
    assert await bench.read() == BODY
    with problem("upload-expired"):
        await offset_of(bench, first)
