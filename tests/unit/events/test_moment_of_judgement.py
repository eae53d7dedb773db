"""A verdict follows from a record, its time and the identity events before, not from how far anybody folded.

So who judges a record when it comes, who folds the topic anew years later, and fsck by the position in a
header say the same (docs/decisions/records-are-judged-by-when-they-were-appended.md).
"""

from __future__ import annotations

from datetime import timedelta
from typing import NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st
from tests.asking import NETWORK, UNASKED
from tests.unit.events.samples import (
    MORNING,
    NOON,
    ROOT,
    STRANGER,
    Row,
    document,
    encoded,
    party,
    public_key,
    records_of,
    row,
    verdict,
)

from salus.events.batch_judging import BatchJudging
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import (
    KeyAdded,
    KeyRevoked,
    MemberExpelled,
    MemberReinstated,
    MemberSuspended,
    RoleGranted,
    RoleWithdrawn,
)
from salus.events.contexts.network import KeyRetired, TopicsRestored
from salus.events.did import LocalSigner
from salus.events.errors import RejectedError
from salus.events.event_types import EventData, type_of
from salus.events.judging import Judged, judge_batch
from salus.events.keyring import KeyRing
from salus.ledger.records import appended_at, timestamp_at

SHE = STRANGER.did
SECOND = LocalSigner.from_seed(b"scnd" * 8, f"{SHE}#2")
END = NOON + timedelta(milliseconds=4)
FACTS: list[EventData] = [
    party(STRANGER),
    KeyAdded(SHE, public_key(SECOND), request=UNASKED),
    KeyAdded(SHE, public_key(SECOND, valid_until=END), request=UNASKED),
    KeyRevoked(SHE, STRANGER.verification_method, "rotated", request=UNASKED),
    KeyRevoked(SHE, SECOND.verification_method, "rotated", request=UNASKED),
    RoleGranted(SHE, "operator", request=UNASKED),
    RoleWithdrawn(SHE, "operator", request=UNASKED),
    MemberSuspended(SHE, "inquiry", request=UNASKED),
    MemberReinstated(SHE, "unfounded", request=UNASKED),
    MemberExpelled(SHE, "left", request=UNASKED),
]
RESTORED = TopicsRestored(1, "0" * 64, ())
RETIRED = KeyRetired("shard/0", "sequencer", "shard/0+00000000+AAAA", 5, "compromised")
# As a member she states of documents; with the role of operator, of topics.
RECORDS = [
    *(row(encoded(document(), source=SHE, time=MORNING), signer=signer) for signer in (STRANGER, SECOND)),
    row(
        encoded(RESTORED, source=SHE, subject="net", time=MORNING),
        signer=SECOND,
        topic=type_of(RESTORED).topic,
        key=b"net",
    ),
    row(
        encoded(RETIRED, source=SHE, time=MORNING),
        signer=SECOND,
        topic=type_of(RETIRED).topic,
        key=b"shard/0",
    ),
    # Nothing comes of it, but it shows who signed, at its own time.
    row(b"anything", signer=SECOND, topic="salus.pharma.events"),
]
MILLISECONDS = st.integers(0, 8)


class Fact(NamedTuple):
    """A fact of identity, and when the broker appended it, in milliseconds after noon."""

    data: EventData
    ms: int


HISTORIES = st.lists(st.builds(Fact, st.sampled_from(FACTS), MILLISECONDS), max_size=8).map(
    lambda facts: sorted(facts, key=lambda fact: fact.ms)
)
MANY = st.lists(st.tuples(st.sampled_from(RECORDS), MILLISECONDS), min_size=1, max_size=12)


def ring_of(facts: list[Fact]) -> KeyRing:
    ring = KeyRing.rooted(CATALOGUE, network=NETWORK, did=ROOT.did, key=public_key(ROOT))
    for fact in facts:
        ring.apply(fact.data, at=NOON + timedelta(milliseconds=fact.ms))
    return ring


def at(record: Row, ms: int) -> Row:
    return record.but(timestamp_ms=timestamp_at(NOON) + ms)


def said(record: Row, ring: KeyRing) -> str:
    found = verdict(record, at=appended_at(record.timestamp_ms), ring=ring)
    return "accepted" if isinstance(found, Judged) else str(found.reason)


# An operator from the third millisecond to the fifth.
GOVERNING = [Fact(FACTS[0], 1), Fact(FACTS[1], 1), Fact(FACTS[5], 3), Fact(FACTS[6], 5)]
# Suspended from the third millisecond to the fifth, and for ever from the sixth.
SUSPENDED = [*GOVERNING[:2], Fact(FACTS[7], 3), Fact(FACTS[8], 5), Fact(FACTS[7], 6)]
ALL_THE_TIME = [(RECORDS[2], ms) for ms in range(8)]


@given(HISTORIES, MANY)
@example(GOVERNING, ALL_THE_TIME)
@example(SUSPENDED, [(RECORDS[0], ms) for ms in range(8)])
@example([Fact(FACTS[0], 1)], [(RECORDS[0], 1), (RECORDS[0], 2)])
@example([Fact(FACTS[0], 1), Fact(FACTS[3], 4)], [(RECORDS[0], 4), (RECORDS[0], 5)])
def test_who_folded_further_says_the_same(history: list[Fact], many: list[tuple[Row, int]]) -> None:
    for record, ms in many:
        judged = at(record, ms)
        begun = sum(fact.ms < ms for fact in history)

        verdicts = {said(judged, ring_of(history[:end])) for end in range(begun, len(history) + 1)}

        assert len(verdicts) == 1


@given(HISTORIES, MANY)
@example(GOVERNING, ALL_THE_TIME)
@example(GOVERNING, ALL_THE_TIME[2:7])
# One batch of which the first and the last record are of a time when she was no suspended member.
@example(SUSPENDED, [(RECORDS[0], ms) for ms in (2, 4, 6)])
# Two batches of one signer, who had other roles at the other one.
@example(GOVERNING, [(RECORDS[3], 7), (RECORDS[4], 4)])
@example(GOVERNING, [(RECORDS[3], 2), (RECORDS[4], 4)])
def test_records_that_are_judged_together_are_judged_each_by_its_own_time(
    history: list[Fact], many: list[tuple[Row, int]]
) -> None:
    ring = ring_of(history)
    rows = [at(record, ms) for record, ms in many]

    refused = judge_batch(records_of(rows), ring=ring).refused

    together = [
        str(refused[number].reason) if number in refused else "accepted" for number in range(len(rows))
    ]
    by_folds = BatchJudging([one for part in records_of(rows) for one in part], ring=ring)
    while by_folds.judge(3):
        pass
    by_folds.verify()
    folded = [
        str(one.reason) if isinstance(one, RejectedError) else "accepted" for one in by_folds.verdicts()
    ]
    assert together == folded == [said(judged, ring) for judged in rows]


def test_what_the_laws_are_about_happens() -> None:
    history = [Fact(FACTS[0], 1), Fact(FACTS[2], 2), Fact(FACTS[5], 2), Fact(FACTS[3], 4), Fact(FACTS[6], 6)]
    ring = ring_of(history)
    verdicts = [[said(at(record, ms), ring) for ms in range(8)] for record in RECORDS]

    assert verdicts == [
        ["unknown-key"] * 2 + ["accepted"] * 3 + ["key-revoked"] * 3,
        ["unknown-key"] * 3 + ["accepted"] + ["key-expired"] * 4,
        ["unknown-key"] * 3 + ["accepted"] + ["key-expired"] * 4,
        ["unknown-key"] * 3 + ["accepted"] + ["key-expired"] * 4,
        ["unknown-key"] * 3 + ["malformed-json"] + ["key-expired"] * 4,
    ]


def test_a_member_is_suspended_from_the_moment_after_to_its_reinstatement() -> None:
    ring = ring_of([*SUSPENDED, Fact(FACTS[9], 7)])
    verdicts = [said(at(RECORDS[0], ms), ring) for ms in range(10)]

    assert verdicts == (
        ["unknown-key"] * 2
        + ["accepted"] * 2
        + ["member-suspended"] * 2
        + ["accepted"]
        + ["member-suspended"]
        + ["member-expelled"] * 2
    )
