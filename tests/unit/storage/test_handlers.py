"""Storage's handlers over fakes: what is stored, read, refused, told, and what crashes leave behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import UNASKED, calling

from salus.crypto.streaming_aead import STREAM_HEADER_BYTES
from salus.events.contexts.consent import ConsentRevoked
from salus.events.contexts.storage import (
    ObjectRead,
    ObjectStored,
    ReadRefused,
    SubjectErased,
    SubjectKeyDestroyed,
    SubjectRegistered,
)
from salus.objects import NotFoundError, StoreAwayError
from salus.objects.memory import Fault
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal
from salus.storage.handlers.damage import Fault as Wrong
from salus.storage.handlers.storing import Upload

from .conftest import (
    CONTENT,
    DOCTOR,
    HOSPITAL,
    LABORATORY,
    NOW,
    OFFICER,
    PATIENT,
    SEGMENT_BYTES,
    Bench,
    bench_with,
    pieces,
    positions,
    refused,
)


def segment_at(raw: bytes | bytearray, segment: int) -> int:
    """Return where a segment begins in the stored bytes."""
    return raw.index(b"\n\n") + 2 + (segment * SEGMENT_BYTES or STREAM_HEADER_BYTES)


async def test_what_is_stored_is_read_and_both_are_told() -> None:
    bench = await bench_with(CONTENT)

    assert await bench.read() == CONTENT
    assert [type(event) for event in bench.topic.events] == [SubjectRegistered, ObjectStored, ObjectRead]
    read = bench.topic.events[-1]
    assert read == ObjectRead(
        object="o-1",
        patient=PATIENT,
        reader=DOCTOR.did,
        decision="right",
        purpose="TREAT",
        state_positions=positions(2),
        request=calling(DOCTOR).under("right").request,
    )
    assert [event.state_positions for event in bench.topic.events] == [positions(n) for n in range(3)]  # type: ignore[attr-defined]  # of these types


async def test_nothing_readable_is_in_the_stores_or_the_topic() -> None:
    bench = await bench_with(b"her diagnosis " * 1000)
    everything = (
        b"".join(data for data, _ in bench.objects.objects.values()) + repr(bench.topic.events).encode()
    )

    assert b"diagnosis" not in everything


async def test_registering_again_returns_the_key_she_has() -> None:
    bench = Bench()
    first = await bench.registered()
    again = await bench.subjects.register(
        patient=PATIENT, steward=HOSPITAL.did, number="2", caller=calling(DOCTOR)
    )

    assert again == first
    assert len(bench.keys.objects) == 1


async def test_storing_the_same_again_returns_the_object_that_is_there() -> None:
    bench = await bench_with(CONTENT)
    upload = Upload("o-1", PATIENT, "text/plain", pieces(CONTENT))
    state, new = await bench.storing.store(upload, caller=calling(HOSPITAL), token=None, at=NOW)

    assert (state, new) == (await bench.topic.object(PATIENT, "o-1"), False)
    assert len(bench.objects.objects) == 1


@pytest.mark.parametrize("damage", ["missing", "truncated"])
async def test_an_upload_is_not_found_done_once_its_bytes_are_gone(damage: str) -> None:
    """Case threat model, second attack, sibling: 200 for an object that nobody can read any more."""
    bench = await bench_with(CONTENT)
    (key,) = bench.objects.objects
    data, etag = bench.objects.objects.pop(key)
    if damage == "truncated":
        bench.objects.objects[key] = data[:-1], etag
    with pytest.raises(ProblemError, match="object-corrupt") as refused_:
        await bench.stored(CONTENT)

    assert damage in str(refused_.value)


async def test_an_upload_is_not_found_done_once_she_was_erased_meanwhile() -> None:
    """Case threat model, second attack, sibling: the right was looked at before the body came."""
    bench = await bench_with(CONTENT)

    async def body() -> AsyncIterator[bytes]:
        yield CONTENT
        await bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(HOSPITAL))

    upload = Upload("o-1", PATIENT, "text/plain", body())
    with refused("subject-erased"):
        await bench.storing.store(upload, caller=calling(HOSPITAL), token=None, at=NOW)


async def test_other_content_does_not_replace_an_object() -> None:
    bench = await bench_with(CONTENT)

    with refused("object-exists"):
        await bench.stored(b"other")
    assert await bench.read() == CONTENT


async def test_of_two_uploads_of_one_id_at_once_one_is_kept() -> None:
    bench = Bench()
    await bench.registered()
    results = await asyncio.gather(bench.stored(b"a"), bench.stored(b"b"), return_exceptions=True)

    assert sum(isinstance(result, Refusal) for result in results) == 1
    assert len(bench.objects.objects) == 1
    assert await bench.read() in {b"a", b"b"}


async def test_a_body_larger_than_the_limit_leaves_nothing() -> None:
    bench = Bench()
    await bench.registered()

    with pytest.raises(ProblemError, match="too-large"):
        await bench.stored(bytes(10_000_001))
    assert not bench.objects.objects
    assert len(bench.topic.events) == 1


async def test_an_upload_that_loses_to_an_erasure_is_removed() -> None:
    bench = Bench()
    await bench.registered()
    original = bench.objects.put_stream

    async def erased_meanwhile(key: str, chunks: object) -> str:
        etag = await original(key, chunks)  # type: ignore[arg-type]  # passed on
        await bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(HOSPITAL))
        return etag

    bench.objects.put_stream = erased_meanwhile  # type: ignore[method-assign]  # the moment between two lines

    with refused("subject-erased"):
        await bench.stored(b"late")
    assert not bench.objects.objects


@pytest.mark.parametrize("token", [None, "unknown"])
async def test_a_read_without_a_valid_decision_is_refused_and_told(token: str | None) -> None:
    bench = await bench_with(CONTENT)

    with refused("no-decision" if token is None else "invalid-decision"):
        await bench.reading.open("o-1", patient=PATIENT, caller=calling(DOCTOR), token=token, at=NOW)
    assert isinstance(bench.topic.events[-1], ReadRefused)


async def test_the_read_after_a_revocation_is_refused() -> None:
    bench = await bench_with(CONTENT)
    token = bench.tokens.grant("before", epoch=0)
    await bench.read(token=token)
    bench.topic.fold(ConsentRevoked(consent="c", patient=PATIENT, epoch=1, request=UNASKED), PATIENT)

    with refused("decision-outdated"):
        await bench.read(token=token)
    assert bench.topic.events[-1] == ReadRefused(
        object="o-1",
        patient=PATIENT,
        reader=DOCTOR.did,
        reason="decision-outdated",
        state_positions=positions(3, revocations=1),
        request=UNASKED,
    )


async def test_a_break_glass_read_is_allowed_and_says_so() -> None:
    bench = await bench_with(CONTENT)
    await bench.read(token=bench.tokens.grant("emergency", break_glass=True, purpose="ETREAT"))
    read = bench.topic.events[-1]

    assert isinstance(read, ObjectRead)
    assert (read.break_glass, read.purpose) == (True, "ETREAT")


async def test_a_read_that_cannot_be_told_is_not_answered() -> None:
    bench = await bench_with(CONTENT)
    bench.topic.meet([Fault.LOST])

    with pytest.raises(ProblemError, match="outcome-unknown"):
        await bench.read()


async def test_what_does_not_exist_is_not_found_and_not_told() -> None:
    bench = await bench_with(CONTENT)
    told = len(bench.topic.events)

    with refused("unknown-object"):
        await bench.read("o-2")
    assert len(bench.topic.events) == told


async def test_a_corrupted_first_segment_is_named_and_nothing_is_sent() -> None:
    bench = await bench_with(CONTENT)
    raw = bench.stored_bytes()
    raw[segment_at(raw, 0) + 5] ^= 1
    bench.corrupt(bytes(raw))

    with pytest.raises(ProblemError) as caught:
        await bench.read()
    assert (caught.value.status, caught.value.code) == (502, "object-corrupt")
    assert caught.value.extra["faults"] == [{"part": "segment", "fault": "altered", "segment": 0}]
    assert bench.topic.events[-1] == ReadRefused(
        object="o-1",
        patient=PATIENT,
        reader=DOCTOR.did,
        reason="object-corrupt",
        state_positions=positions(2),
        request=UNASKED,
    )


@pytest.mark.parametrize("erased", [False, True])
@pytest.mark.parametrize("segment", [0, 1, 2])
async def test_a_corrupted_segment_is_named_with_and_without_her_key(segment: int, erased: bool) -> None:  # noqa: FBT001  # a case
    bench = await bench_with(CONTENT)
    raw = bench.stored_bytes()
    raw[segment_at(raw, segment) + 5] ^= 1
    bench.corrupt(bytes(raw))
    if erased:
        await bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(HOSPITAL))

    report = await bench.reading.verify(PATIENT, "o-1")
    assert report.faults == (Wrong("segment", "altered", segment=segment),)


@given(data=st.data())
def test_no_flipped_bit_is_ever_sent_or_verified(data: st.DataObject) -> None:
    async def story() -> None:
        bench = await bench_with(b"a short content")
        raw = bench.stored_bytes()
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << data.draw(st.integers(0, 7))
        bench.corrupt(bytes(raw))

        assert not (await bench.reading.verify(PATIENT, "o-1")).intact
        with pytest.raises(ProblemError, match="object-corrupt"):
            await bench.read()

    asyncio.run(story())


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (lambda raw: raw[:-1], Wrong("object", "truncated")),
        (lambda raw: raw[:-1] + bytes([raw[-1] ^ 1]), Wrong("index", "altered")),
        (lambda raw: raw[: segment_at(raw, 1)], Wrong("segment", "truncated", segment=1)),
        (lambda raw: raw[: segment_at(raw, 1) + 1], Wrong("segment", "truncated", segment=1)),
        (lambda raw: raw + b"x", Wrong("object", "extended")),
        (lambda raw: raw.replace(b"object o-1", b"object o-2"), Wrong("header", "altered")),
        (lambda raw: raw.replace(b"\n\n(", b"\n\n)", 1), Wrong("header", "altered")),
        (lambda raw: raw[:0], Wrong("header", "altered")),
        (lambda raw: raw[: raw.index(b"\n\n") + 2], Wrong("header", "altered")),
    ],
    ids=[
        "cut",
        "other index",
        "cut at a segment",
        "cut in a segment",
        "longer",
        "other object",
        "other stream header",
        "empty",
        "header only",
    ],
)
async def test_each_kind_of_damage_is_named(change: object, wrong: Wrong) -> None:
    bench = await bench_with(CONTENT)
    bench.corrupt(bytes(change(bytes(bench.stored_bytes()))))  # type: ignore[operator]  # a table of functions

    assert (await bench.reading.verify(PATIENT, "o-1")).faults[0] == wrong


async def test_an_object_swapped_for_another_of_hers_is_noticed() -> None:
    bench = await bench_with(b"first")
    await bench.stored(b"second", name="o-2")
    (one, first), (two, second) = bench.objects.objects.items()
    bench.objects.objects = {one: second, two: first}

    assert (await bench.reading.verify(PATIENT, "o-1")).faults == (Wrong("header", "altered"),)


async def test_a_missing_object_is_named() -> None:
    bench = await bench_with(CONTENT)
    bench.objects.objects.clear()

    assert (await bench.reading.verify(PATIENT, "o-1")).faults == (Wrong("object", "missing"),)
    with pytest.raises(ProblemError, match="object-corrupt"):
        await bench.read()


async def test_an_intact_object_verifies_with_and_without_her_key() -> None:
    bench = await bench_with(CONTENT)

    assert (await bench.reading.verify(PATIENT, "o-1")).checked == (
        "ciphertext",
        "header",
        "segments",
        "commitment",
    )
    await bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(HOSPITAL))
    report = await bench.reading.verify(PATIENT, "o-1")
    assert (report.intact, report.checked) == (True, ("ciphertext", "header", "segments"))


async def test_damage_after_an_erasure_is_still_noticed() -> None:
    bench = await bench_with(CONTENT)
    await bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(HOSPITAL))
    raw = bench.stored_bytes()
    raw[-1] ^= 1
    bench.corrupt(bytes(raw))

    assert (await bench.reading.verify(PATIENT, "o-1")).faults == (Wrong("index", "altered"),)


async def test_an_erased_patient_is_unreadable_and_stays_so() -> None:
    bench = await bench_with(CONTENT)
    state = await bench.subjects.erase(PATIENT, basis="patient-request", caller=calling(OFFICER))

    assert (state.erased, state.destroyed, state.objects) == ("patient-request", True, 1)
    assert not bench.keys.objects
    with refused("subject-erased"):
        await bench.read()
    with refused("subject-erased"):
        await bench.subjects.get(PATIENT)
    with refused("subject-erased"):
        await bench.stored(b"new", name="o-2")
    with refused("subject-erased"):
        await bench.registered()


async def test_erasing_again_is_harmless_and_told_once() -> None:
    bench = await bench_with(CONTENT)
    await bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(HOSPITAL))
    again = await bench.subjects.erase(PATIENT, basis="court-order", caller=calling(HOSPITAL))

    assert again.erased == "gdpr-art-17"
    assert sum(isinstance(event, SubjectErased) for event in bench.topic.events) == 1


async def test_erasing_again_destroys_what_was_said_to_be_gone_and_is_there() -> None:
    """From a backup of the bucket, or because the thief of storage's key said so."""
    bench = await bench_with(CONTENT)
    kept = dict(bench.keys.objects)
    await bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(HOSPITAL))
    bench.keys.objects.update(kept)
    await bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(HOSPITAL))

    assert not bench.keys.objects
    assert sum(isinstance(event, SubjectKeyDestroyed) for event in bench.topic.events) == 1


@given(faults=st.lists(st.sampled_from(Fault), max_size=8), crash_after=st.integers(0, 8))
def test_an_erasure_is_finished_whatever_fails_and_never_half_believed(
    faults: list[Fault], crash_after: int
) -> None:
    async def story() -> None:
        bench = await bench_with(b"content")
        order = iter(faults)
        bench.topic.meet(order)
        bench.keys._faults = order
        for _ in range(crash_after):
            try:
                await bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(HOSPITAL))
            except (StoreAwayError, ProblemError):
                bench.restart()
            told = any(isinstance(event, SubjectErased) for event in bench.topic.events)
            # The key never goes without the event, and from the event on nothing is read.
            assert told or bench.keys.objects
            if told:
                with refused("subject-erased"):
                    bench.topic.meet([])
                    await bench.read()
                bench.topic.meet(order)
        bench.restart()
        while True:
            try:
                await bench.erasures.perform(PATIENT)
                break
            except (StoreAwayError, ProblemError):
                continue
        erased, destroyed = (
            sum(isinstance(event, kind) for event in bench.topic.events)
            for kind in (SubjectErased, SubjectKeyDestroyed)
        )
        assert erased == destroyed <= 1
        assert bool(bench.keys.objects) == (erased == 0)

    asyncio.run(story())


@given(faults=st.lists(st.sampled_from(Fault), max_size=10))
def test_storing_until_answered_gives_one_readable_object(faults: list[Fault]) -> None:
    async def story() -> None:
        bench = Bench()
        await bench.registered()
        order = iter(faults)
        bench.topic.meet(order)
        bench.objects._faults = order
        while True:
            try:
                await bench.stored(b"content")
                break
            except (StoreAwayError, ProblemError):
                bench.restart()
        bench.topic.meet([])

        assert await bench.read() == b"content"
        assert sum(isinstance(event, ObjectStored) for event in bench.topic.events) == 1

    asyncio.run(story())


@given(faults=st.lists(st.sampled_from(Fault), max_size=10))
def test_registering_until_answered_gives_one_key_that_opens(faults: list[Fault]) -> None:
    async def story() -> None:
        bench = Bench(faults)
        while True:
            try:
                await bench.registered()
                break
            except (StoreAwayError, ProblemError):
                bench.restart()
        bench.topic.meet([])
        bench.keys._faults = bench.objects._faults = iter(())
        await bench.stored(b"content")

        assert await bench.read() == b"content"

    asyncio.run(story())


async def test_a_key_that_is_missing_without_an_erasure_is_our_fault() -> None:
    bench = await bench_with(CONTENT)
    bench.keys.objects.clear()

    with pytest.raises(ProblemError, match="key-missing"):
        await bench.read()


async def test_rewrapping_never_brings_back_a_destroyed_key() -> None:
    bench = await bench_with(CONTENT)
    (name,) = bench.keys.objects
    original = bench.vault.kms.rewrap

    async def destroyed_meanwhile(wrapped: bytes, *, context: str) -> bytes:
        await bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(HOSPITAL))
        return await original(wrapped, context=context) + b"!"

    bench.vault.kms.rewrap = destroyed_meanwhile  # type: ignore[method-assign]  # the moment between two lines

    assert await bench.vault.rewrap() == 0
    with pytest.raises(NotFoundError):
        await bench.keys.get(name, bytes_max=1 << 30)


async def test_only_the_steward_or_a_decision_to_write_stores() -> None:
    bench = Bench()
    await bench.registered()
    token = bench.tokens.grant("write", action="write", principal=LABORATORY.did, object="o-2")

    def upload(name: str) -> Upload:
        return Upload(name, PATIENT, "text/plain", pieces(b"result"))

    with refused("not-the-steward"):
        await bench.storing.store(upload("o-2"), caller=calling(LABORATORY), token=None, at=NOW)
    with refused("wrong-object"):
        await bench.storing.store(upload("o-3"), caller=calling(LABORATORY), token=token, at=NOW)
    with refused("decision-expired"):
        await bench.storing.store(
            upload("o-2"), caller=calling(LABORATORY), token=token, at=NOW + timedelta(minutes=5)
        )
    await bench.storing.store(upload("o-2"), caller=calling(LABORATORY), token=token, at=NOW)

    assert await bench.read("o-2") == b"result"
