"""Rights that are judged as blocks come, in whatever order, are judged as a deep fsck judges them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.archive.served_ledger import (
    CLINIC,
    DOCTOR,
    HERSELF,
    HOSPITAL,
    OFFICER,
    PATIENT,
    PRIVY,
    THIEF,
    ServedLedger,
    identifier,
)

from salus.archive.building import SampleRecord
from salus.archive.check_blocks import Checked
from salus.archive.deep_rights import RightsJudge
from salus.archive.entitlements import Entitlements
from salus.archive.served_requests import CONSENT_TOPIC, STORAGE_TOPIC, ServedRun, run_of, served_of
from salus.audit.domain.effects import Effects
from salus.audit.domain.entry import Place
from salus.audit.domain.served import ServedEvents
from salus.events.contexts import CATALOGUE
from salus.events.did import LocalSigner
from salus.events.envelope import decode_event
from salus.ledger.block import Range
from salus.ledger.records import appended_at

PEOPLE = st.sampled_from([HOSPITAL, DOCTOR, OFFICER, HERSELF, CLINIC, THIEF, PRIVY])
NUMBERS = st.integers(1, 3)
Say = Callable[[ServedLedger, LocalSigner, LocalSigner, int], object]
ACTS: dict[str, Say] = {
    "register": lambda on, who, *_: on.register(who),
    "grant": lambda on, who, whom, n: on.grant(who, whom, number=n),
    "revoke": lambda on, who, _, n: on.revoke(who, number=n, epoch=n),
    "link": lambda on, who, whom, _: on.link(who, whom),
    "unlink": lambda on, who, whom, n: on.unlink(who, whom, epoch=n),
    "decide": lambda on, who, _, n: on.decide(
        who, number=n, epoch=n - 1, valid_until=on.now + timedelta(minutes=5)
    ),
    "deny": lambda on, who, _, n: on.decide(who, number=n, allowed=False),
    "emergency": lambda on, who, _, n: on.emergency(who, number=n),
    "untold": lambda on, who, _, n: on.emergency(who, number=n, told=False),
    "review": lambda on, who, _, n: on.review(who, identifier(PATIENT, n)),
    "store": lambda on, who, _, n: on.store(who, name=f"o-{n}"),
    "store under": lambda on, who, _, n: on.store(who, name="o-1", under=identifier(PATIENT, n)),
    "read": lambda on, who, _, n: on.read(who, identifier(PATIENT, n)),
    "open": lambda on, who, _, n: on.open(who, identifier(PATIENT, n)),
    "erase": lambda on, who, *_: on.erase(who),
    "destroy": lambda on, *_: on.destroy_key(),
    "wait": lambda on, *args: setattr(on, "now", on.now + timedelta(seconds=40 * args[-1])),
}
Found = set[tuple[str, int, str, bool]]


def in_effect(records: Sequence[SampleRecord]) -> list[ServedRun]:
    """Return each record as the indexer keeps it beside the trail, a run for each."""
    effects, runs = Effects(), []
    for record in records:
        event = decode_event(record.value or b"", CATALOGUE)
        at = Range(record.topic, record.partition, record.offset, record.offset + 1)
        place = _place(record)
        served = ServedEvents()
        served.take(event, effects.of(record.topic, event), place)
        runs.append(run_of(at, served._of[record.topic, record.partition], shard=0, height=0))
    return runs


def _place(record: SampleRecord) -> Place:
    at = appended_at(record.timestamp_ms)
    return Place(record.topic, record.partition, record.offset, 0, 0, 0, "", "", "", at, at)


def by_fsck(ledger: ServedLedger, records: Sequence[SampleRecord]) -> Found:
    judge = RightsJudge(ledger.ring)
    runs = []
    for record in records:
        event = decode_event(record.value or b"", CATALOGUE)
        served = served_of(event, offset=record.offset, row=0, appended=appended_at(record.timestamp_ms))
        at = Range(record.topic, record.partition, record.offset, record.offset + 1)
        runs.append(run_of(at, [served] if served else [], shard=0, height=0))
    judge.take(Checked(0, 0, 1, served=runs))
    return {(str(f.topic), f.offset or 0, f.detail, f.code == "rights-pending") for f in judge.findings()}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(ACTS)), PEOPLE, PEOPLE, NUMBERS), max_size=14),
    st.lists(st.sampled_from([CONSENT_TOPIC, STORAGE_TOPIC]), max_size=30),
)
def test_on_every_prefix_the_running_judgement_is_that_of_a_deep_fsck(
    acts: list[tuple[str, LocalSigner, LocalSigner, int]], order: list[str]
) -> None:
    ledger = ServedLedger()
    for act, by, about, number in acts:
        ACTS[act](ledger, by, about, number)
    topics: dict[str, list[SampleRecord]] = defaultdict(list)
    for record in ledger.records:
        topics[record.topic].append(record)
    runs = {topic: in_effect(of_topic) for topic, of_topic in topics.items()}
    left = [topic for topic in topics for _ in topics[topic]]
    taken: dict[str, int] = defaultdict(int)
    judge = Entitlements(ledger.ring)

    for topic in [*order, *left]:
        if taken[topic] == len(topics[topic]):
            continue
        run = runs[topic][taken[topic]]
        for served in run.decoded():
            judge.take(run, served)
        taken[topic] += 1
        prefix = [record for name, count in taken.items() for record in topics[name][:count]]
        running = {(u.run.topic, u.served.offset, u.why, u.is_pending) for u in judge.unentitled()}

        assert running == by_fsck(ledger, prefix)
    assert judge.lacking == len(list(judge.unentitled()))
    judge.close()
