"""A block of a flood has a bound of announcements, and every rejection is in one of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from salus.events.attribution import Attribution
from salus.events.contexts.ledger import BlockSealed, RecordRejected, RecordsRejected
from salus.sequencer.adapters.announcements import KafkaAnnouncements
from salus.sequencer.adapters.patience import Patience
from salus.sequencer.domain import Rejection
from salus.sequencer.ports import Announcement
from salus.sequencer.rejections import ATTRIBUTED_MAX, SINGLE_MAX, split

DID = "did:key:z6MkehRgf7yJbgaGfYsdoAsKdBPE3dj2CYhowQdcjqSJgvVd"
GARBAGE = "missing-signature"


def rejection(
    offset: int,
    *,
    partition: int = 0,
    reason: str = GARBAGE,
    key: str | None = None,
    source: str | None = None,
) -> Rejection:
    return Rejection("t", partition, offset, reason, "said", bytes(32), Attribution(key, source))


def flood(count: int, *, partition: int = 0, first: int = 0) -> list[Rejection]:
    return [rejection(first + offset, partition=partition) for offset in range(count)]


def test_few_rejections_are_announced_one_by_one() -> None:
    few = flood(SINGLE_MAX)

    assert split(few) == (few, [])


def test_a_flood_is_counted_and_what_others_sent_is_announced() -> None:
    other, own = rejection(7, partition=1), rejection(9, reason="duplicate", key=f"{DID}#k", source=DID)
    single, (group,) = split([*flood(9_998, first=100), other, own])

    assert single == [own, other]
    assert (group.partition, group.reason, group.key, group.source) == (0, GARBAGE, None, None)
    assert (group.first, group.last, group.count) == (100, 10_097, 9_998)


def test_who_gives_each_record_another_key_takes_no_more_and_hides_no_other_partition() -> None:
    varied = [rejection(offset, reason="unknown-key", key=f"{DID}#{offset}") for offset in range(9_990)]
    others = [rejection(offset, partition=1 + offset) for offset in range(10)]
    single, groups = split([*varied, *others])

    assert len(single) == SINGLE_MAX
    assert {*others} <= {*single}
    assert len(groups) == ATTRIBUTED_MAX + 1
    assert (groups[-1].key, groups[-1].count) == (None, 9_990 - (SINGLE_MAX - 10) - ATTRIBUTED_MAX)


ANY = st.builds(
    rejection,
    st.just(0),
    partition=st.integers(0, 3),
    reason=st.sampled_from([GARBAGE, "duplicate", "unknown-key"]),
    key=st.none() | st.integers(0, 400).map(lambda number: f"{DID}#{number}"),
    source=st.none() | st.just(DID),
)


KINDS = st.lists(st.tuples(ANY, st.integers(1, 300)), max_size=40)


def each(kinds: list[tuple[Rejection, int]]) -> list[Rejection]:
    """Return so many of each kind, all at offsets of their own."""
    made: list[Rejection] = []
    for kind, times in kinds:
        made += [replace(kind, offset=len(made) + number) for number in range(times)]
    return made


@given(KINDS)
def test_what_is_told_again_from_the_archive_is_split_as_before(kinds: list[tuple[Rejection, int]]) -> None:
    # Consumers drop an id that they know: under it there must be the same as the first time.
    known = each(kinds)
    archived = [replace(one, detail="", attribution=Attribution(one.attribution.key)) for one in known]
    (single, groups), (single_again, groups_again) = split(known), split(archived)

    assert [one.offset for one in single_again] == [one.offset for one in single]
    assert groups_again == [structs.replace(group, source=None) for group in groups]


def test_a_group_has_a_source_if_all_of_it_has() -> None:
    key = f"{DID}#k"
    of_one = [rejection(offset, reason="duplicate", key=key, source=DID) for offset in range(200)]

    assert [group.source for group in split(of_one)[1]] == [DID]
    assert [group.source for group in split([*of_one, rejection(200, reason="duplicate", key=key)])[1]] == [
        None
    ]


@given(KINDS)
def test_every_rejection_is_told_once_by_itself_or_in_a_group(kinds: list[tuple[Rejection, int]]) -> None:
    all_of_them = each(kinds)
    single, groups = split(all_of_them)

    assert len(single) <= SINGLE_MAX or single == all_of_them
    told = Counter((one.partition, one.reason) for one in single)
    for group in groups:
        told[group.partition, group.reason] += group.count
        assert group.count <= group.last - group.first + 1
    assert told == Counter((one.partition, one.reason) for one in all_of_them)
    for one in {*all_of_them} - {*single}:
        assert any(
            (group.partition, group.reason) == (one.partition, one.reason)
            and group.first <= one.offset <= group.last
            for group in groups
        )


@dataclass
class Published:
    """Remembers what was published, in place of the client's publisher."""

    events: list[tuple[str, Any]] = field(default_factory=list)

    async def publish(self, data: Any, *, subject: str, time: datetime, id: str) -> Published:  # noqa: A002, ARG002  # as the publisher has it
        self.events.append((id, data))
        return self

    async def position(self) -> None:
        """It is acknowledged."""


async def test_a_block_of_ten_thousand_rejections_is_a_hundred_events_at_most_and_its_own() -> None:
    # The most that a block can have: each a group of its own.
    rejections = tuple(
        rejection(offset, partition=offset % 1_100, key=f"{DID}#{offset}") for offset in range(10_000)
    )
    published = Published()
    announcements = KafkaAnnouncements(published, "shard-0", Patience())  # type: ignore[arg-type]  # a fake
    block = Announcement(0, 5, "header", "body", 10_000, 0, rejections, datetime(2026, 1, 1, tzinfo=UTC))
    await announcements.announce(block)

    kinds = Counter(type(data) for _, data in published.events)
    assert kinds == {RecordRejected: SINGLE_MAX, RecordsRejected: 3, BlockSealed: 1}
    assert isinstance(published.events[-1][1], BlockSealed), "the block is announced last"
    assert len({id_ for id_, _ in published.events}) == len(published.events)
    counted = [data for _, data in published.events if isinstance(data, RecordsRejected)]
    assert sum(group.count for data in counted for group in data.groups) == 10_000 - SINGLE_MAX
