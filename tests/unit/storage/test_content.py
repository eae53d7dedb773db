"""What is read is what the ledger says, byte by byte, whatever lies in the store meanwhile.

Case SEC5: a read looked through the object in a first pass and sent it in a second that was not tied to it.
"""

from __future__ import annotations

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.asking import calling

from salus.crypto.commitment import commit, new_salt
from salus.crypto.sealed_object import header_in, new_object, parse_header
from salus.crypto.sealed_object_v1 import new_object as new_object_of_first_form
from salus.crypto.sealing import SUITE, seal
from salus.crypto.streaming_aead import STREAM_HEADER_BYTES
from salus.events.contexts.storage import ObjectRead, ObjectStored, ReadBrokenOff, ReadRefused
from salus.events.fields import Sealed
from salus.runtime.problems import ProblemError
from salus.storage.domain import location_of
from salus.storage.handlers import storing
from salus.storage.handlers.byte_ranges import range_asked, whole
from salus.storage.handlers.damage import SALT_CONTEXT, Fault
from salus.storage.handlers.outgoing import BrokenOffError
from salus.storage.handlers.sealed_upload import SealedUpload
from salus.storage.handlers.segment_tree import part_hash

from .conftest import (
    CONTENT,
    DOCTOR,
    FIRST_BYTES,
    HOSPITAL,
    NOW,
    PATIENT,
    SEGMENT_BYTES,
    Bench,
    bench_with,
    pieces,
)

REQUESTS_OF_A_READ = 3
"""Head, index, segments: between any two of them somebody may change what lies in the store."""


async def first_form(bench: Bench, content: bytes, *, name: str = "o-1") -> None:
    """Store an object as releases before this one did."""
    subject = await bench.topic.subject(PATIENT)
    public_key, salt = b64decode(subject.public_key), new_salt()
    sealed = seal(salt, public_key=public_key, key=subject.key, context=SALT_CONTEXT)
    sealed_salt = Sealed(suite=SUITE, key=sealed.key, ciphertext=sealed.ciphertext)
    header, segments = new_object_of_first_form(
        object=name, patient=PATIENT, public_key=public_key, key=subject.key
    )
    raw = header.encode() + b"".join([piece async for piece in segments.seal_all(pieces(content))])
    await bench.objects.put(location_of(name, sealed_salt), raw)
    event = ObjectStored(
        object=name,
        patient=PATIENT,
        steward=HOSPITAL.did,
        media_type="text/plain",
        plaintext_bytes=len(content),
        ciphertext_bytes=len(raw),
        ciphertext_sha256=sha256(raw).hexdigest(),
        commitment=commit(salt=salt, plaintext_sha256=sha256(content).digest()).hex(),
        salt=sealed_salt,
        request=calling(HOSPITAL).request,
    )
    bench.topic.fold(event, PATIENT)


async def forged(bench: Bench, content: bytes) -> bytes:
    """Return an object that whoever knows the patient's public key can make."""
    subject = await bench.topic.subject(PATIENT)
    header, cipher = new_object(
        object="o-1",
        patient=PATIENT,
        public_key=b64decode(subject.public_key),
        key=subject.key,
        segment_bytes=SEGMENT_BYTES,
    )
    upload = SealedUpload(header, cipher)
    parts = [part async for part in upload.parts(pieces(content))]
    return b"".join(parts) + upload.index()


def change_before(bench: Bench, request: int, change: Callable[[bytes], bytes]) -> None:
    """Let somebody change what lies in the store before a read's request of that number, from 0."""
    original, numbers = bench.objects.stream, iter(range(1000))

    async def changed(key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        if next(numbers) == request:
            bench.corrupt(change(bytes(bench.stored_bytes())))
        async for piece in original(key, start=start, end=end):
            yield piece

    bench.objects.stream = changed  # type: ignore[method-assign]  # the moment between two lines


@dataclass
class Received:
    """What a reader got, and whether he may take it for all that he asked for."""

    content: bytes = b""
    complete: bool = False


async def receive(bench: Bench, asked: str | None = None) -> Received:
    received = Received()
    token = bench.tokens.grant("right")
    asking = whole if asked is None else range_asked(asked, None)
    try:
        outgoing = await bench.reading.open(
            "o-1", patient=PATIENT, caller=calling(DOCTOR), token=token, at=NOW, asked=asking
        )
        async for piece in outgoing.pieces():
            received.content += piece
    except (ProblemError, BrokenOffError) as error:
        if "object-corrupt" not in str(error):
            raise
        return received
    received.complete = True
    return received


# Larger than what is read by one request, so that the three requests of a read are three.
LARGE = bytes(index % 253 for index in range(80 * SEGMENT_BYTES))


@dataclass(frozen=True)
class Attack:
    """A change of the stored bytes."""

    kind: str
    at: float
    other: float

    def on(self, raw: bytes, foreign: bytes) -> bytes:
        spot, other = (int(part * (len(raw) - 1)) for part in (self.at, self.other))
        head = raw.index(b"\n\n") + 2
        one, two = (head + SEGMENT_BYTES * ((place - head) // SEGMENT_BYTES) for place in (spot, other))
        low, high = sorted((max(one, head), max(two, head)))
        cut = low + SEGMENT_BYTES
        swapped = raw[high : high + SEGMENT_BYTES] + raw[cut:high] + raw[low:cut]
        return {
            "flipped": raw[:spot] + bytes([raw[spot] ^ 1 << other % 8]) + raw[spot + 1 :],
            "truncated": raw[:spot],
            "cut at a segment": raw[: max(one, 0)],
            "extended": raw + raw[spot:][:100] + b"x",
            "without some": raw[: min(spot, other)] + raw[max(spot, other) + 1 :],
            "swapped": raw[:low] + swapped + raw[high + SEGMENT_BYTES :],
            "segment of another": raw[:low] + foreign[low:cut] + raw[cut:],
            "head of another": foreign[:head] + raw[head:],
            "another": foreign,
        }[self.kind]


KINDS = [
    "flipped",
    "truncated",
    "cut at a segment",
    "extended",
    "without some",
    "swapped",
    "segment of another",
    "head of another",
    "another",
]
attacks = st.builds(Attack, st.sampled_from(KINDS), st.floats(0, 1), st.floats(0, 1))


@settings(max_examples=150)
@given(
    attack=attacks,
    request=st.integers(0, REQUESTS_OF_A_READ),
    start=st.integers(0, len(LARGE) - 1),
    length=st.integers(1, len(LARGE)) | st.none(),
)
def test_no_change_of_the_stored_bytes_reaches_a_reader(
    attack: Attack, request: int, start: int, length: int | None
) -> None:
    """Case SEC5: at any moment of a read or of a range, what leaves is a beginning of what was asked for."""
    wanted = LARGE if length is None else LARGE[start : start + length]

    async def story() -> None:
        bench = await bench_with(LARGE)
        foreign = await forged(bench, LARGE[::-1])
        change_before(bench, request, partial(attack.on, foreign=foreign))
        asked = None if length is None else f"bytes={start}-{start + length - 1}"
        received = await receive(bench, asked)

        assert wanted.startswith(received.content)
        assert received.complete == (received.content == wanted)

    asyncio.run(story())


@given(attack=attacks)
def test_every_change_of_the_stored_bytes_is_found_by_an_inspection(attack: Attack) -> None:
    async def story() -> None:
        bench = await bench_with(CONTENT)
        raw = bytes(bench.stored_bytes())
        changed = attack.on(raw, await forged(bench, CONTENT[::-1]))
        bench.corrupt(changed)

        assert (await bench.reading.verify(PATIENT, "o-1")).intact == (changed == raw)

    asyncio.run(story())


@pytest.mark.parametrize("request_number", [0, 1, 2])
async def test_an_object_sealed_to_her_public_key_is_never_sent(request_number: int) -> None:
    """Case SEC5, as it was seen: the forged object is whole and opens with her key."""
    bench = await bench_with(LARGE)
    foreign = await forged(bench, LARGE[::-1])
    change_before(bench, request_number, lambda _: foreign)

    assert await receive(bench) == Received()
    assert isinstance(bench.topic.events[-1], ReadRefused)


@pytest.mark.parametrize("with_index", [False, True])
async def test_the_root_binds_even_who_has_the_data_key(with_index: bool) -> None:  # noqa: FBT001  # a case
    """Under the data key a thief of the KMS seals segments that open; the ledger knows the true ones."""
    bench = await bench_with(CONTENT)
    subject, raw = await bench.topic.subject(PATIENT), bytes(bench.stored_bytes())
    text = header_in(raw)
    at = len(text) + STREAM_HEADER_BYTES
    cipher = parse_header(text).open_cipher(
        await bench.vault.fetch(patient=PATIENT, key=subject.key), stream_header=raw[len(text) : at]
    )
    part = cipher.seal(0, b"x" * FIRST_BYTES, last=False)
    changed = raw[:at] + part + raw[at + len(part) :]
    if with_index:
        changed = changed.replace(part_hash(raw[at : at + len(part)]), part_hash(part))
    bench.corrupt(changed)

    assert await receive(bench) == Received()
    expected = Fault("index", "altered") if with_index else Fault("segment", "altered", segment=0)
    assert (await bench.reading.verify(PATIENT, "o-1")).faults == (expected,)


@pytest.mark.parametrize("at", [-3, 3])
async def test_a_head_that_was_changed_is_named_and_its_key_is_not_tried(at: int) -> None:
    bench = await bench_with(CONTENT)
    raw = bench.stored_bytes()
    end = len(header_in(bytes(raw)))
    raw[end + at] ^= 1
    bench.corrupt(bytes(raw))
    token = bench.tokens.grant("right")

    with pytest.raises(ProblemError) as caught:
        await bench.reading.open("o-1", patient=PATIENT, caller=calling(DOCTOR), token=token, at=NOW)
    assert caught.value.extra["faults"] == [{"part": "header", "fault": "altered"}]


async def test_the_first_byte_leaves_before_the_last_is_read() -> None:
    """A read of 1 GB took 2.9 s until its first byte, a pass over all of it."""
    bench = await bench_with(LARGE)
    original = bench.objects.stream
    asked: list[tuple[int, int | None]] = []

    async def noted(key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        asked.append((start, end))
        async for piece in original(key, start=start, end=end):
            # The store gives little at once.
            for at in range(0, len(piece), SEGMENT_BYTES):
                asked.append((start + at, None))
                yield piece[at : at + SEGMENT_BYTES]

    bench.objects.stream = noted  # type: ignore[method-assign]  # a store that is looked at
    token = bench.tokens.grant("right")
    outgoing = await bench.reading.open("o-1", patient=PATIENT, caller=calling(DOCTOR), token=token, at=NOW)
    content = outgoing.pieces()

    assert await anext(content) == LARGE[:FIRST_BYTES]
    # Head and index, which is read in two pieces here, and some segments ahead of what was sent.
    assert len(asked) < 24


async def test_a_segment_that_is_changed_later_breaks_the_read_off_and_is_told() -> None:
    bench = await bench_with(LARGE)
    raw = bench.stored_bytes()
    raw[raw.index(b"\n\n") + 2 + 40 * SEGMENT_BYTES] ^= 1
    bench.corrupt(bytes(raw))
    received = await receive(bench)

    sent = FIRST_BYTES + 39 * (SEGMENT_BYTES - 16)
    told = bench.topic.events[-1]
    assert isinstance(told, ReadBrokenOff)
    assert not received.complete
    # The last segment that was intact is held back, too.
    assert received.content == LARGE[: told.sent_bytes]
    assert (told.reason, told.sent_bytes) == ("object-corrupt", sent - (SEGMENT_BYTES - 16))


async def test_content_that_is_not_what_was_committed_to_is_not_sent_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A read shows that bytes, commitment and event are one, also if storage itself erred when it stored."""
    monkeypatch.setattr(storing, "commit", lambda **_: bytes(32))
    bench = await bench_with(CONTENT)
    received = await receive(bench)

    assert not received.complete
    assert len(received.content) < len(CONTENT)


@pytest.mark.parametrize("size", [0, 1, FIRST_BYTES, FIRST_BYTES + 1, len(CONTENT), len(LARGE)])
async def test_every_size_is_read_as_it_was_stored(size: int) -> None:
    bench = await bench_with(LARGE[:size])

    assert await bench.read() == LARGE[:size]
    assert (await bench.reading.verify(PATIENT, "o-1")).intact


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=5-", slice(5, None)),
        ("bytes=-7", slice(-7, None)),
        ("bytes=-99999999", slice(None)),
        (f"bytes={FIRST_BYTES - 1}-{FIRST_BYTES}", slice(FIRST_BYTES - 1, FIRST_BYTES + 1)),
        ("bytes=100-999999999", slice(100, None)),
        (f"bytes={len(CONTENT) - 1}-", slice(-1, None)),
        ("bytes=7-3", slice(None)),
        ("lines=1-2", slice(None)),
        ("bytes=-", slice(None)),
        ("bytes=x-y", slice(None)),
    ],
)
@pytest.mark.parametrize("first", [False, True])
async def test_a_range_is_its_part_of_the_content(asked: str, expected: slice, first: bool) -> None:  # noqa: FBT001  # a case
    bench = Bench()
    await bench.registered()
    await (first_form(bench, CONTENT) if first else bench.stored(CONTENT))

    assert await receive(bench, asked) == Received(CONTENT[expected], complete=True)
    assert isinstance(bench.topic.events[-1], ObjectRead)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (f"bytes={len(CONTENT)}-", "range-not-satisfiable"),
        ("bytes=-0", "range-not-satisfiable"),
        ("bytes=0-1,3-4", "one-range-only"),
    ],
)
async def test_a_range_that_cannot_be_served_is_refused_and_told(asked: str, code: str) -> None:
    bench = await bench_with(CONTENT)
    token = bench.tokens.grant("right")
    with pytest.raises(ProblemError) as caught:
        await bench.reading.open(
            "o-1",
            patient=PATIENT,
            caller=calling(DOCTOR),
            token=token,
            at=NOW,
            asked=range_asked(asked, None),
        )

    assert (caught.value.status, caught.value.code) == (416, code)
    assert caught.value.headers == {"Content-Range": f"bytes */{len(CONTENT)}"}


async def test_a_range_is_of_the_object_that_if_range_names() -> None:
    bench = await bench_with(CONTENT)
    stored = await bench.topic.object(PATIENT, "o-1")
    same = range_asked("bytes=1-2", f'"{stored.commitment}"')(stored)
    other = range_asked("bytes=1-2", '"another"')(stored)

    assert (same.start, same.end, same.is_part) == (1, 3, True)
    assert other == whole(stored)


async def test_an_object_of_the_first_form_is_read_and_verified() -> None:
    bench = Bench()
    await bench.registered()
    await first_form(bench, CONTENT)
    stored = await bench.topic.object(PATIENT, "o-1")

    assert stored.ciphertext_root == ""
    assert await bench.read() == CONTENT
    assert (await bench.reading.verify(PATIENT, "o-1")).intact


@pytest.mark.parametrize("size", [len(CONTENT), 0])
async def test_of_the_first_form_what_is_sent_is_what_was_checked(size: int) -> None:
    """Case SEC5: an object sealed to the patient's public key was put there between the two passes."""
    bench = Bench()
    await bench.registered()
    await first_form(bench, CONTENT[:size])
    subject = await bench.topic.subject(PATIENT)
    header, segments = new_object_of_first_form(
        object="o-1", patient=PATIENT, public_key=b64decode(subject.public_key), key=subject.key
    )
    raw = header.encode() + b"".join([piece async for piece in segments.seal_all(pieces(b"forged"))])
    change_before(bench, 1, lambda _: raw)

    assert await receive(bench) == Received()


async def test_an_object_of_one_form_is_not_taken_for_one_of_the_other() -> None:
    bench, old = await bench_with(CONTENT), Bench()
    await old.registered()
    await first_form(old, CONTENT)
    new_raw, old_raw = bytes(bench.stored_bytes()), bytes(old.stored_bytes())
    bench.corrupt(old_raw)
    old.corrupt(new_raw)

    assert await receive(bench) == Received()
    assert await receive(old) == Received()
