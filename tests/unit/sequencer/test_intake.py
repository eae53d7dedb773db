"""Nobody who may write to a topic decides how much memory a record takes (case F20)."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.sequencer.world import CLINICAL, World, document, signed

from salus.events.envelope import VALUE_BYTES_MAX
from salus.ledger.merkle import leaf_hash
from salus.ledger.records import NONE, SIGNATURE_HEADER, Flaw, Part, Records, Row, Unkept
from salus.ledger.signature_header import HEADER_BYTES_MAX
from salus.messaging import MissingRecordsError, Record
from salus.sequencer import intake
from salus.sequencer.adapters.memory import MemoryClock
from salus.sequencer.domain import Partition
from salus.sequencer.gathering import Gatherer, Limits
from salus.sequencer.intake import ANSWER_BYTES_MAX, kept, needed_bytes

LARGE = bytes(ANSWER_BYTES_MAX + 1)
AT = CLINICAL, 0


async def test_what_is_large_has_the_leaf_that_it_would_have_as_it_is() -> None:
    world = World.with_hospital()
    world.publish(LARGE)
    world.publish(document(1), key=LARGE)
    world.publish(document(2), headers=((SIGNATURE_HEADER, LARGE),))
    world.publish(document(3), headers=(("traceparent", LARGE), *signed(document(3))))
    flawed = world.publish(LARGE)
    world.topics.partitions[AT][-1] = Record(*AT, flawed.offset, 0, None, LARGE, (), Flaw.UNREADABLE)
    await world.seal_everything()

    rows = [row for row in world.rows() if row["topic"] == CLINICAL]
    assert [row["status"] for row in rows] == [
        "rejected:too-large",
        "rejected:wrong-key",
        "rejected:malformed-signature",
        "accepted",
        "rejected:unreadable",
    ]
    digests = [leaf_hash(value) for value in (LARGE, document(1), document(2))]
    assert [row["digest"] for row in rows] == [*digests, None, leaf_hash(LARGE)]
    details = {r.offset: r.detail for a in world.announcements.announced for r in a.rejections}
    assert details[0] == f"{len(LARGE)} bytes, at most {VALUE_BYTES_MAX}"


Made = tuple[bytes | None, bytes | None, bytes | None, bytes | None]
PART = st.none() | st.integers(0, 12).map(lambda size: b"%d" % size * size)


@given(st.lists(st.tuples(PART, PART, PART, PART), max_size=5), st.binary(max_size=40))
def test_only_what_decides_nothing_is_cut_off(parts: list[Made], more: bytes) -> None:
    rows = [Row(*AT, 3 * number, 1000 + number, *made) for number, made in enumerate(parts)]
    made = Records.of(*AT, rows)
    answer = Records(*AT, made.offsets, made.timestamps, made.data + more, made.spans)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "ANSWER_BYTES_MAX", -1)
        patch.setattr(intake, "VALUE_BYTES_MAX", 6)
        patch.setattr(intake, "_KEPT", {Part.KEY: 7, Part.SIGNATURE: 4, Part.TRACE: 2})
        [found] = kept([answer])

    assert len(found.data) == needed_bytes(found)
    for before, after in zip(rows, found, strict=True):
        large = before.value is not None and len(before.value) > 6
        assert after == before._replace(
            key=before.key and before.key[:7],
            value=b"" if large else before.value,
            signature=before.signature and before.signature[:4],
            trace=before.trace and before.trace[:2],
            unkept=Unkept(len(before.value or b""), leaf_hash(before.value or b"")) if large else None,
        )


def answer_of(rows: int, size: int) -> Records:
    """Small records in an answer that is full of something else, such as other headers."""
    offsets = array("q", range(rows))
    spans = array("q", [NONE, NONE, 0, 1, NONE, NONE, NONE, NONE] * rows)
    return Records(*AT, offsets, offsets, bytes(size), spans)


def test_an_answer_is_not_kept_for_little_of_it() -> None:
    usual = Records.of(*AT, [Row(*AT, n, 0, b"key", bytes(400), bytes(290)) for n in range(20)])

    assert kept([usual]) == [usual]
    assert kept([usual])[0].data is usual.data
    # Partitions share an answer, of which each needs a part.
    shared = [usual.between(start, start + 2) for start in range(0, 20, 2)]
    assert all(run.data is usual.data for run in kept(shared))
    [found] = kept([answer_of(10, 1 << 20)])
    assert len(found.data) == 10


class EndlessReader:
    """A log whose answers are large and hold one small record each."""

    damaged: Mapping[Partition, int] = {}
    missing: Mapping[Partition, MissingRecordsError] = {}
    seen_ends: Mapping[Partition, int] = {}
    polls = 0

    def __init__(self, record: Records) -> None:
        self._record = record

    async def poll(self, *, max_records: int, timeout_ms: int) -> Sequence[Records]:  # noqa: ARG002  # the port's shape
        await asyncio.sleep(0)
        self.polls += 1
        return [self._record]

    async def positions(self) -> dict[Partition, int]:
        return {AT: self.polls}

    beginnings = ends = positions


class Never:
    """Goes on for ever."""

    def is_set(self) -> bool:
        return False

    async def look(self) -> None:
        """Look for nothing."""


@pytest.mark.parametrize("part", [Part.KEY, Part.VALUE, Part.SIGNATURE, None])
async def test_a_batch_that_nobody_asked_for_yet_is_gathered_up_to_its_bound(part: Part | None) -> None:
    size = HEADER_BYTES_MAX if part is Part.SIGNATURE else 1 << 16
    spans = array("q", [NONE] * 8)
    if part is not None:
        spans[2 * part : 2 * part + 2] = array("q", [0, size])
    reader = EndlessReader(Records(*AT, array("q", [0]), array("q", [0]), bytes(size), spans))
    limits = Limits(bytes_max=1 << 20)
    async with Gatherer(reader, MemoryClock(), limits, Never()) as gatherer:
        gathered = await gatherer.next_batch()
        # Nobody asks for the next one; time does not go by.
        for _ in range(3 * limits.records_max):
            await asyncio.sleep(0)
        polls = reader.polls
        await asyncio.sleep(0)

        assert reader.polls == polls, "it goes on"
        assert gathered is not None
        held = sum(len(records.data) for records in gathered.batch.records)
        assert held <= limits.bytes_max
