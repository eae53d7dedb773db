"""Transfers: what is sent is what was checked, and a right that ends meanwhile ends the transfer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import replace
from hashlib import sha256

import pytest
from tests.asking import UNASKED, calling

from salus.events.contexts.consent import ConsentRevoked
from salus.events.contexts.storage import ObjectStored, ReadBrokenOff
from salus.events.event_types import EventData
from salus.events.parties import Party
from salus.runtime.refusal import Refusal
from salus.storage.domain import ObjectState, SubjectState
from salus.storage.handlers.outgoing import BrokenOffError
from salus.storage.handlers.storing import Upload

from .conftest import (
    CONTENT,
    DOCTOR,
    FIRST_BYTES,
    HOSPITAL,
    LABORATORY,
    NOW,
    OFFICER,
    PATIENT,
    Bench,
    bench_with,
    pieces,
    refused,
)

ENDS = [("revoked", "decision-outdated"), ("erased", "subject-erased"), ("gone", "unknown-party")]


async def sending(bench: Bench) -> AsyncIterator[bytes]:
    token = bench.tokens.grant("right")
    outgoing = await bench.reading.open("o-1", patient=PATIENT, caller=calling(DOCTOR), token=token, at=NOW)
    return outgoing.pieces()


async def keep(content: AsyncIterator[bytes], sent: list[bytes]) -> None:
    async for piece in content:
        sent.append(piece)  # noqa: PERF401  # a comprehension would lose what came before the error


async def end_right(bench: Bench, end: str, party: Party) -> None:
    match end:
        case "revoked":
            bench.topic.fold(ConsentRevoked(consent="c", patient=PATIENT, epoch=1, request=UNASKED), PATIENT)
        case "erased":
            await bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(HOSPITAL))
        case "role":
            bench.ring.known.parties[party.did] = replace(party, roles=frozenset())
        case _:
            del bench.ring.known.parties[party.did]


@pytest.mark.parametrize(("end", "reason"), ENDS)
@pytest.mark.parametrize("size", [len(CONTENT), 100])
async def test_a_read_ends_with_its_right(end: str, reason: str, size: int) -> None:
    """Case SEC7: a slow read went on to its end after a revocation and an erasure."""
    bench = await bench_with(CONTENT[:size])
    content = await sending(bench)
    sent = [await anext(content)] if size > FIRST_BYTES else []
    await end_right(bench, end, DOCTOR)

    with pytest.raises(BrokenOffError, match=reason):
        await keep(content, sent)
    told = bench.topic.events[-1]
    assert isinstance(told, ReadBrokenOff)
    assert (told.reason, told.sent_bytes) == (reason, FIRST_BYTES if size > FIRST_BYTES else 0)
    assert b"".join(sent) == CONTENT[: told.sent_bytes]


@pytest.mark.parametrize(("end", "reason"), ENDS)
async def test_a_read_that_waited_for_a_place_sends_nothing_after_its_right_ended(
    end: str, reason: str
) -> None:
    """The second red team: the right was first asked for after some seconds of sending."""
    bench = await bench_with(CONTENT)
    content, sent = await sending(bench), list[bytes]()
    await end_right(bench, end, DOCTOR)

    with pytest.raises(BrokenOffError, match=reason):
        await keep(content, sent)
    assert sent == []


@pytest.mark.parametrize(("end", "reason"), ENDS)
@pytest.mark.parametrize("moment", ["while it comes in", "at its end"])
async def test_an_upload_whose_right_ended_meanwhile_is_not_stored(
    end: str, reason: str, moment: str
) -> None:
    """Case security.md, medium: an upload that began before a revocation was stored after it."""
    bench = Bench()
    await bench.registered()
    token = bench.tokens.grant("write", action="write", principal=LABORATORY.did)

    async def body() -> AsyncIterator[bytes]:
        yield b"x" * FIRST_BYTES
        await end_right(bench, end, LABORATORY)
        if moment == "while it comes in":
            yield b"y" * FIRST_BYTES
            pytest.fail("the body is read on")

    upload = Upload("o-1", PATIENT, "text/plain", body())

    with refused(reason):
        await bench.storing.store(upload, caller=calling(LABORATORY), token=token, at=NOW)
    assert not bench.objects.objects
    assert not any(isinstance(event, ObjectStored) for event in bench.topic.events)


async def test_an_upload_of_a_clinician_who_is_none_any_more_is_not_stored() -> None:
    bench = Bench()
    await bench.registered()

    async def body() -> AsyncIterator[bytes]:
        yield b"content"
        await end_right(bench, "role", DOCTOR)

    upload = Upload("o-1", PATIENT, "text/plain", body())

    with refused("not-the-steward"):
        await bench.storing.store(upload, caller=calling(DOCTOR), token=None, at=NOW)
    assert not bench.objects.objects


async def test_a_body_that_is_not_the_one_signed_is_refused_and_leaves_nothing() -> None:
    bench = Bench()
    await bench.registered()
    caller = replace(calling(HOSPITAL), digest=sha256(b"signed").hexdigest())

    def store(content: bytes) -> Coroutine[None, None, tuple[ObjectState, bool]]:
        upload = Upload("o-1", PATIENT, "text/plain", pieces(content))
        return bench.storing.store(upload, caller=caller, token=None, at=NOW)

    with refused("digest-mismatch"):
        await store(b"another")
    assert not bench.objects.objects
    assert (await store(b"signed"))[1]
    with refused("digest-mismatch"):
        await store(b"another")


async def test_the_same_upload_many_times_at_once_is_stored_once_and_answered_alike() -> None:
    """Case S3: seven of eight were told that another object had the id."""
    bench = Bench()
    await bench.registered()

    async def body() -> AsyncIterator[bytes]:
        async for piece in pieces(CONTENT):
            await asyncio.sleep(0)
            yield piece

    uploads = [Upload("o-1", PATIENT, "text/plain", body()) for _ in range(8)]
    answers = await asyncio.gather(
        *(bench.storing.store(each, caller=calling(HOSPITAL), token=None, at=NOW) for each in uploads)
    )

    assert sorted(new for _, new in answers) == [False] * 7 + [True]
    assert len({state.commitment for state, _ in answers}) == 1
    assert len(bench.objects.objects) == 1


async def test_another_media_type_is_another_object() -> None:
    """Case S3: a repetition with another Content-Type was answered with the old one."""
    bench = await bench_with(CONTENT)
    upload = Upload("o-1", PATIENT, "text/html", pieces(CONTENT))

    with refused("object-exists"):
        await bench.storing.store(upload, caller=calling(HOSPITAL), token=None, at=NOW)


@pytest.mark.parametrize("content", [CONTENT, b"other"])
@pytest.mark.parametrize("at_once", [False, True])
async def test_who_may_not_read_does_not_learn_whether_content_is_what_is_stored(
    content: bytes, *, at_once: bool
) -> None:
    """Case security.md, medium: PUT on an existing id was an oracle for who held a decision to write."""
    bench = Bench()
    await bench.registered()
    if not at_once:
        await bench.stored(CONTENT)
    token = bench.tokens.grant("write", action="write", principal=LABORATORY.did)

    async def body() -> AsyncIterator[bytes]:
        if not at_once:
            pytest.fail("the body is read")
        await bench.stored(CONTENT)
        yield content

    upload = Upload("o-1", PATIENT, "text/plain", body())

    with refused("object-exists"):
        await bench.storing.store(upload, caller=calling(LABORATORY), token=token, at=NOW)
    assert len(bench.objects.objects) == 1


@pytest.mark.parametrize("at_once", [False, True])
async def test_an_upload_for_a_new_object_only_never_finds_one(*, at_once: bool) -> None:
    """Case S2: If-None-Match: * on an existing object was 200."""
    bench = Bench()
    await bench.registered()
    if not at_once:
        await bench.stored(CONTENT)

    async def body() -> AsyncIterator[bytes]:
        if at_once:
            await bench.stored(CONTENT)
        yield CONTENT

    upload = Upload("o-1", PATIENT, "text/plain", body(), only_new=True)

    with refused("precondition-failed"):
        await bench.storing.store(upload, caller=calling(HOSPITAL), token=None, at=NOW)


async def test_many_registrations_at_once_give_one_key_and_leave_no_other() -> None:
    """Case S3: each that came second left a private key in the vault, and was told 409."""
    bench = Bench()
    create = bench.keys.create

    async def slowly(key: str, data: bytes) -> str:
        await asyncio.sleep(0)
        return await create(key, data)

    bench.keys.create = slowly  # type: ignore[method-assign]  # lets the others decide before
    states = await asyncio.gather(*(bench.registered() for _ in range(8)))

    assert len({state.key for state in states}) == 1
    assert list(bench.keys.objects) == [f"subjects/{PATIENT}/{states[0].key.rpartition('#')[2]}"]


@pytest.mark.parametrize("command", ["register", "store", "erase"])
async def test_a_command_that_waited_for_its_turn_needs_its_right_still(command: str) -> None:
    """Case A14, siblings: who may was looked up before the turn, and lost the role while waiting."""
    bench = Bench()
    who = OFFICER if command == "erase" else DOCTOR
    if command != "register":
        await bench.registered()
    stated, original = len(bench.topic.events), bench.topic.execute

    async def waited(patient: str, decide: Callable[[SubjectState], Awaitable[EventData]]) -> EventData:
        await end_right(bench, "role", who)
        return await original(patient, decide)

    bench.topic.execute = waited  # type: ignore[assignment]  # the moment between two lines
    commands: dict[str, Callable[[], Awaitable[object]]] = {
        "register": lambda: bench.subjects.register(
            patient=PATIENT, steward=HOSPITAL.did, number="9", caller=calling(who)
        ),
        "store": lambda: bench.storing.store(
            Upload("o-2", PATIENT, "text/plain", pieces(b"x")), caller=calling(who), token=None, at=NOW
        ),
        "erase": lambda: bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(who)),
    }
    with pytest.raises(Refusal):
        await commands[command]()

    assert len(bench.topic.events) == stated
