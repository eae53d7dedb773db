"""Sealed fields: opened under a decision for their event, recorded, and for nobody else (case SEC9)."""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections import Counter
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from tests.asking import UNASKED, calling
from tests.own_types import SEALED, schema_of

from salus.contracts.decision import Decision
from salus.crypto.sealing import SUITE, seal
from salus.events.contexts import CATALOGUE
from salus.events.contexts.clinical import ObservationRecorded
from salus.events.contexts.consent import ConsentRevoked, GlassBroken
from salus.events.contexts.lab import ResultReleased
from salus.events.contexts.storage import ReadBrokenOff, ReadRefused, SealedOpened
from salus.events.envelope import encode_event
from salus.events.event_types import schema_file
from salus.events.fields import Sealed
from salus.events.sealing_context import sealing_context
from salus.events.type_definition import definition
from salus.ledger.merkle import leaf_hash
from salus.runtime.limits import AccountLimit, Rate, TooManyRequestsError
from salus.runtime.refusal import Refusal
from salus.storage.adapters.facts import SUBJECTS
from salus.storage.handlers.sealed_reading import SealedField
from salus.storage.ports import PatientView

from .conftest import DOCTOR, HOSPITAL, NOW, PATIENT, Bench, bench_with, positions, refused

SOURCE = "did:key:z6MkHospital"
NAMED = SealedField(PATIENT, SOURCE, "event-1", "content")
CONTEXT = sealing_context(ObservationRecorded, source=SOURCE, id="event-1", object="o-1")


def observation(bench: Bench, content: bytes = b"a finding", *, context: str = CONTEXT) -> bytes:
    """An observation with this content, sealed as members seal it, about the object o-1."""
    subject = bench.topic.topics.state(SUBJECTS, PATIENT)
    sealed = seal(content, public_key=b64decode(subject.public_key), key=subject.key, context=context)
    data = ObservationRecorded(
        patient=PATIENT, observation="o", content=Sealed(SUITE, sealed.key, sealed.ciphertext), object="o-1"
    )
    return encode_event(data, id="event-1", source=SOURCE, subject=PATIENT, time=NOW)


async def opened(
    bench: Bench, value: bytes, *, named: SealedField = NAMED, token: str | None = None
) -> bytes:
    token = token or bench.tokens.grant("right", object="event-1")
    return await bench.sealed.open(value, named=named, caller=calling(DOCTOR), token=token, at=NOW)


async def test_what_is_sealed_is_opened_under_a_decision_and_told() -> None:
    bench = await bench_with(b"x")
    value = observation(bench)

    assert await opened(bench, value) == b"a finding"
    assert bench.topic.events[-1] == SealedOpened(
        patient=PATIENT,
        source=SOURCE,
        event="event-1",
        field="content",
        digest=leaf_hash(value).hex(),
        reader=DOCTOR.did,
        decision="right",
        purpose="TREAT",
        state_positions=positions(2),
        request=calling(DOCTOR).under("right").request,
    )


async def test_a_decision_on_the_object_that_the_event_names_opens_it_too() -> None:
    bench = await bench_with(b"x")

    assert await opened(bench, observation(bench), token=bench.tokens.grant("object")) == b"a finding"


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"object": "event-2"}, "wrong-object"),
        ({"action": "write"}, "wrong-action"),
        ({"principal": HOSPITAL.did}, "wrong-holder"),
        ({"patient": PATIENT.replace("1", "2")}, "wrong-object"),
        ({"expires": NOW}, "decision-expired"),
    ],
)
async def test_without_the_right_decision_nothing_is_opened_and_that_is_told(
    facts: dict[str, Any], reason: str
) -> None:
    bench = await bench_with(b"x")
    token = bench.tokens.grant("wrong", **{"object": "event-1", **facts})

    with refused(reason):
        await opened(bench, observation(bench), token=token)
    told = bench.topic.events[-1]
    assert isinstance(told, ReadRefused)
    assert (told.object, told.reason) == ("event-1", reason)


async def test_after_a_revocation_or_an_erasure_nothing_is_opened() -> None:
    bench = await bench_with(b"x")
    value = observation(bench)
    bench.topic.fold(ConsentRevoked(consent="c", patient=PATIENT, epoch=1, request=UNASKED), PATIENT)

    with refused("decision-outdated"):
        await opened(bench, value)
    await bench.subjects.erase(PATIENT, basis="gdpr-art-17", caller=calling(HOSPITAL))
    with refused("subject-erased"):
        await opened(bench, value)


# red team 5, A5: `sealed_pause.py`
async def test_a_right_that_ends_while_the_opening_is_stated_opens_nothing() -> None:
    bench = await bench_with(b"x")
    value, announce = observation(bench), bench.topic.announce

    async def slowly(data: Any, *, patient: str) -> None:
        await announce(data, patient=patient)
        if isinstance(data, SealedOpened):
            bench.topic.fold(ConsentRevoked(consent="c", patient=PATIENT, epoch=1, request=UNASKED), PATIENT)

    bench.topic.announce = slowly  # a broker that takes its time
    with refused("decision-outdated"):
        await opened(bench, value)

    assert bench.topic.events[-1] == ReadBrokenOff(
        object="event-1",
        patient=PATIENT,
        reader=DOCTOR.did,
        decision="right",
        reason="decision-outdated",
        sent_bytes=0,
        state_positions=positions(3, revocations=1),
        request=calling(DOCTOR).under("right").request,
    )


@pytest.mark.parametrize(
    "change",
    [
        {"kind": ResultReleased},
        {"source": HOSPITAL.did},
        {"id": "event-2"},
        {"object": "o-2"},
        {"object": None},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_what_was_sealed_for_another_event_does_not_open(change: dict[str, Any]) -> None:
    """Whoever may read one record shows another's ciphertext in its name, or claims it for its object."""
    bench = await bench_with(b"x")
    facts: dict[str, Any] = {"kind": ObservationRecorded, "source": SOURCE, "id": "event-1", "object": "o-1"}
    facts |= change
    context = sealing_context(facts.pop("kind"), **facts)

    with refused("does-not-open"):
        await opened(bench, observation(bench, context=context))
    assert not any(isinstance(event, SealedOpened) for event in bench.topic.events)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "event-2"}, "another-event"),
        ({"source": "did:key:z6MkAnother"}, "another-event"),
        ({"patient": PATIENT.replace("1", "2")}, "another-event"),
        ({"field": "observation"}, "nothing-sealed"),
        ({"field": "patient"}, "nothing-sealed"),
    ],
)
async def test_the_event_is_the_one_that_the_caller_signed_for(change: dict[str, Any], reason: str) -> None:
    bench = await bench_with(b"x")

    with refused(reason):
        await opened(bench, observation(bench), named=replace(NAMED, **change))
    with refused("invalid-event"):
        await opened(bench, b"{}")


async def test_the_salt_of_an_object_is_opened_for_nobody() -> None:
    bench = await bench_with(b"x")
    stored = bench.topic.events[-1]
    value = encode_event(stored, id="event-1", source=SOURCE, subject=PATIENT, time=NOW, expected_version=1)

    with refused("nothing-sealed"):
        await opened(bench, value, named=replace(NAMED, field="salt"))


async def test_the_words_of_an_emergency_are_opened_as_members_fields_are() -> None:
    bench = await bench_with(b"x")
    subject = bench.topic.topics.state(SUBJECTS, PATIENT)
    context = sealing_context(GlassBroken, source=DOCTOR.did, id="", object="o-1")
    sealed = seal(b"words", public_key=b64decode(subject.public_key), key=subject.key, context=context)
    broken = GlassBroken(
        decision="d",
        principal=DOCTOR.did,
        object="o-1",
        patient=PATIENT,
        reason="other",
        valid_until=NOW,
        statement=Sealed(SUITE, sealed.key, sealed.ciphertext),
        request=UNASKED,
    )
    value = encode_event(broken, id="event-1", source=SOURCE, subject=PATIENT, time=NOW, expected_version=0)

    statement, token = replace(NAMED, field="statement"), bench.tokens.grant("object")
    assert await opened(bench, value, named=statement, token=token) == b"words"
    # The event's id is not sealed in, so whoever may read a record could give that record's id to it.
    with refused("wrong-object"):
        await opened(bench, value, named=statement)


async def test_refused_reads_of_one_account_are_limited() -> None:
    # Case security.md, low: refused reads were unbounded.
    bench = Bench()
    bench.refused = AccountLimit("refused reads", Rate(burst=2, per_minute=1), clock=lambda: 0)
    bench.restart()
    await bench.registered()
    await bench.stored(b"x")
    for _ in range(2):
        with refused("invalid-decision"):
            await bench.read(token="unknown")  # no secret
    told = len(bench.topic.events)

    with pytest.raises(TooManyRequestsError):
        await bench.read()
    with pytest.raises(TooManyRequestsError):
        await opened(bench, observation(bench))
    assert len(bench.topic.events) == told


@pytest.mark.parametrize("kind", ["object", "sealed"])
async def test_refused_reads_at_the_same_moment_do_not_pass_their_limit(kind: str) -> None:
    """The third red team: each was checked before any was counted."""
    bench = await bench_limited(burst=3)
    value = observation(bench)
    told = len(bench.topic.events)

    async def one() -> object:
        # Where the real one waits for Kafka.
        await asyncio.sleep(0)
        return await (
            bench.read(token="unknown") if kind == "object" else opened(bench, value, token="unknown")
        )

    answers = await asyncio.gather(*(one() for _ in range(100)), return_exceptions=True)
    assert len(bench.topic.events) == told + 3
    assert Counter(map(type, answers)) == {Refusal: 3, TooManyRequestsError: 97}


async def test_reads_that_are_allowed_are_not_too_many_however_many_come_at_once() -> None:
    bench = await bench_limited(burst=1)
    token = bench.tokens.grant("right")

    answers = await asyncio.gather(*(bench.read(token=token) for _ in range(50)))
    assert answers == [b"x"] * 50


async def bench_limited(*, burst: int) -> Bench:
    """Storage that looks facts up as the real one does: others have their turn meanwhile."""
    bench = Bench()
    bench.refused = AccountLimit("refused reads", Rate(burst=burst, per_minute=1), clock=lambda: 0)
    bench.restart()
    await bench.registered()
    await bench.stored(b"x")

    async def catch_up() -> None:
        await asyncio.sleep(0)

    look = bench.topic.view

    async def view(patient: str, name: str = "") -> PatientView:
        await asyncio.sleep(0)
        return await look(patient, name)

    bench.topic.catch_up, bench.topic.view = catch_up, view  # the moments between
    original = bench.tokens.read

    async def read(token: str, *, at: datetime) -> Decision:
        await asyncio.sleep(0)
        return await original(token, at=at)

    bench.tokens.read = read  # type: ignore[method-assign]  # so is this
    return bench


async def test_what_is_sealed_in_an_event_of_a_members_own_type_is_opened_alike() -> None:
    entry = definition(
        schema_file(
            schema_of(SOURCE, fields={"content": SEALED, "object": {"type": "string", "maxLength": 9}})
        )
    )
    bench = await bench_with(b"x")
    subject = bench.topic.topics.state(SUBJECTS, PATIENT)
    context = sealing_context(entry.data, source=SOURCE, id="event-1", object="o-1")
    sealed = seal(b"a bed", public_key=b64decode(subject.public_key), key=subject.key, context=context)
    content = Sealed(SUITE, sealed.key, sealed.ciphertext)
    data = entry.data(patient=PATIENT, ward="A", content=content, object="o-1")
    value = encode_event(data, id="event-1", source=SOURCE, subject=PATIENT, time=NOW)

    # Of a type that nobody activated nothing is opened.
    with pytest.raises(Refusal, match="unknown-type"):
        await opened(bench, value)
    bench.sealed = replace(bench.sealed, catalogue=lambda: CATALOGUE.with_types([entry]))

    assert await opened(bench, value) == b"a bed"
    assert isinstance(bench.topic.events[-1], SealedOpened)
