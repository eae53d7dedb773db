"""Rights that are judged as blocks come, in whatever order, are judged as a deep fsck judges them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.asking import UNASKED
from tests.effort import tries
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
    whole_ring,
)

from salus.archive.building import SampleRecord
from salus.archive.check_blocks import Checked
from salus.archive.deep_rights import RightsJudge
from salus.archive.entitlements import Entitlements
from salus.archive.served_kinds import served_of
from salus.archive.served_requests import CONSENT_TOPIC, STORAGE_TOPIC, ServedRun, run_of
from salus.audit.domain.effects import Effects
from salus.audit.domain.entry import Place
from salus.audit.domain.served import ServedEvents
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import RoleGranted, RoleWithdrawn
from salus.events.did import LocalSigner
from salus.events.envelope import decode_event
from salus.events.errors import RejectedError
from salus.events.keyring import KeyRing
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
ROLES = {DOCTOR: "clinician", OFFICER: "privacy-officer", HERSELF: "patient", THIEF: "clinician"}
IDENTITY = "identity"
Found = set[tuple[str, int, str, bool]]


Acts = list[tuple[str, LocalSigner, LocalSigner, int]]
# A consent is taken back, and a role lost, before a read: both are sealed after it.
VOIDED: Acts = [
    ("register", DOCTOR, DOCTOR, 1),
    ("grant", HOSPITAL, DOCTOR, 1),
    ("decide", DOCTOR, DOCTOR, 1),
    ("revoke", HOSPITAL, DOCTOR, 1),
    ("wait", DOCTOR, DOCTOR, 2),
    ("read", DOCTOR, DOCTOR, 1),
]
LOST: Acts = [
    ("register", DOCTOR, DOCTOR, 1),
    ("wait", DOCTOR, DOCTOR, 2),
    ("decide", DOCTOR, DOCTOR, 1),
    ("wait", DOCTOR, DOCTOR, 2),
    ("role", DOCTOR, DOCTOR, 2),
    ("wait", DOCTOR, DOCTOR, 2),
    ("read", DOCTOR, DOCTOR, 1),
]
# A role is given back before an object is stored, and that is sealed after it.
GAINED: Acts = [
    ("register", DOCTOR, DOCTOR, 1),
    ("role", DOCTOR, DOCTOR, 2),
    ("wait", DOCTOR, DOCTOR, 3),
    ("role", DOCTOR, DOCTOR, 1),
    ("store", DOCTOR, DOCTOR, 1),
]
# A privacy officer grants something to her member, and becomes one who may use it within the minute.
USED: Acts = [
    ("register", DOCTOR, DOCTOR, 1),
    ("grant", OFFICER, HOSPITAL, 1),
    ("role", OFFICER, OFFICER, 3),
    ("wait", DOCTOR, DOCTOR, 3),
    ("wait", DOCTOR, DOCTOR, 3),
    ("role", OFFICER, OFFICER, 3),
    ("grant", OFFICER, HOSPITAL, 2),
]


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


def by_fsck(ring: KeyRing, records: Sequence[SampleRecord]) -> Found:
    judge = RightsJudge(ring)
    runs = []
    for record in records:
        event = decode_event(record.value or b"", CATALOGUE)
        served = served_of(event, offset=record.offset, row=0, appended=appended_at(record.timestamp_ms))
        at = Range(record.topic, record.partition, record.offset, record.offset + 1)
        runs.append(run_of(at, [served] if served else [], shard=0, height=0))
    judge.take(Checked(0, 0, 1, served=runs))
    return {(str(f.topic), f.offset or 0, f.detail, f.code == "rights-pending") for f in judge.findings()}


class Parties:
    """Who gains and loses which role, as of when; the ring of a prefix knows some of it."""

    def __init__(self) -> None:
        self.changes: list[tuple[RoleGranted | RoleWithdrawn, datetime]] = []

    def change(self, who: LocalSigner, number: int, at: datetime) -> None:
        role: Any = ROLES.get(who, "privacy-officer") if number < 3 else "clinician"
        changed = sum(data.did == who.did and data.role == role for data, _ in self.changes)
        kind = RoleWithdrawn if number == 2 or (number == 3 and changed % 2) else RoleGranted
        self.changes.append((kind(did=who.did, role=role, request=UNASKED), at))

    def ring(self, count: int) -> KeyRing:
        ring = whole_ring()
        for data, at in self.changes[:count]:
            ring.apply(data, at=at)
        return ring


@settings(max_examples=tries(40, long=1_000), deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([*ACTS, "role", "role"]), PEOPLE, PEOPLE, NUMBERS), max_size=14),
    st.lists(st.sampled_from([CONSENT_TOPIC, STORAGE_TOPIC, IDENTITY]), max_size=30),
)
@example(VOIDED, [CONSENT_TOPIC, CONSENT_TOPIC, STORAGE_TOPIC, STORAGE_TOPIC])
@example(GAINED, [STORAGE_TOPIC, IDENTITY, STORAGE_TOPIC, IDENTITY])
@example(LOST, [CONSENT_TOPIC, STORAGE_TOPIC, STORAGE_TOPIC])
@example(USED, [STORAGE_TOPIC, CONSENT_TOPIC, IDENTITY])
def test_on_every_prefix_the_running_judgement_is_that_of_a_deep_fsck(acts: Acts, order: list[str]) -> None:
    ledger, parties = ServedLedger(), Parties()
    for act, by, about, number in acts:
        if act == "role":
            parties.change(by, number, ledger.now)
        else:
            # Some acts nobody accepts, whoever states them.
            with suppress(RejectedError):
                ACTS[act](ledger, by, about, number)
    topics: dict[str, list[SampleRecord]] = defaultdict(list)
    for record in ledger.records:
        topics[record.topic].append(record)
    runs = {topic: in_effect(of_topic) for topic, of_topic in topics.items()}
    left = [topic for topic in topics for _ in topics[topic]] + [IDENTITY] * len(parties.changes)
    taken: dict[str, int] = defaultdict(int)
    judge = Entitlements(parties.ring(0))

    for topic in [*order, *left]:
        if taken[topic] == len(parties.changes if topic == IDENTITY else topics[topic]):
            continue
        taken[topic] += 1
        if topic == IDENTITY:
            since = parties.changes[taken[topic] - 1][1]
            judge.know(parties.ring(taken[topic]), since=since.timestamp())
        else:
            run = runs[topic][taken[topic] - 1]
            for served in run.decoded():
                judge.take(run, served)
        prefix = [record for name in topics for record in topics[name][: taken[name]]]
        running = {(u.run.topic, u.served.offset, u.why, u.is_pending) for u in judge.unentitled()}

        assert running == by_fsck(parties.ring(taken[IDENTITY]), prefix)
    assert judge.lacking == len(list(judge.unentitled()))
    judge.close()


def test_what_was_right_when_it_was_looked_up_accuses_nobody() -> None:
    """Not every right grows with roles: who may use what is granted may not grant it (redA7, finding 2)."""
    ledger, parties = ServedLedger(), Parties()
    for act, by, about, number in USED:
        if act == "role":
            parties.change(by, number, ledger.now)
        else:
            ACTS[act](ledger, by, about, number)
    assert by_fsck(parties.ring(len(parties.changes)), ledger.records) == set()
    # Through all that time she was one who may use it.
    ledger.now += timedelta(minutes=5)
    parties.change(OFFICER, 3, ledger.now - timedelta(minutes=2))
    ACTS["grant"](ledger, OFFICER, HOSPITAL, 3)
    [(_, _, why, _)] = by_fsck(parties.ring(len(parties.changes)), ledger.records)
    assert why.endswith("it is about who asked")
