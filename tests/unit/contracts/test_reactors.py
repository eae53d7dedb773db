"""What an event obliges to is done at least once, and recorded once, through faults, races and restarts."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from tests.databases import Databases
from tests.unit.contracts.replicas import (
    AT,
    HOSPITAL,
    PATIENT,
    Clock,
    Topic,
    destruction,
    erased,
    erasure,
    register,
    replica,
    signed,
)

from salus.contracts.fold_store import open_fold_store, rebuild
from salus.contracts.fold_tables import OBLIGATIONS
from salus.contracts.obligations import Obligations
from salus.contracts.reactor_host import Obligation, Pace, UnsettledError
from salus.contracts.reactors import Reactor
from salus.devkit.waiting import until
from salus.events.contexts.storage import SubjectErased, SubjectKeyDestroyed
from salus.objects.memory import Fault
from salus.runtime.problems import ProblemError
from salus.storage.adapters.facts import ERASURE, SUBJECTS
from salus.storage.domain import SubjectState

DEADLINE_S = 60
QUICK = Pace(retry_s=1, retry_s_max=8, attempts_max=3)


@pytest.fixture(autouse=True)
async def within_the_deadline() -> Any:
    async with asyncio.timeout(DEADLINE_S):
        yield


async def migrated(databases: Databases, name: str = "a") -> str:
    url = await databases.url(name)
    async with open_fold_store(url):
        return url


class CannotError(Exception):
    """The work cannot be done now."""


@dataclass
class Work:
    """Counts what is done; for the patients in `fails` it cannot be, for those in `hangs` it never ends."""

    done: Counter[str] = field(default_factory=Counter)
    tried: Counter[str] = field(default_factory=Counter)
    fails: set[str] = field(default_factory=set)
    hangs: set[str] = field(default_factory=set)
    at_once: int = 0
    at_once_max: int = 0
    ids: set[str] = field(default_factory=set)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    goes_on: asyncio.Event | None = None

    async def __call__(self, owed: Obligation[SubjectState]) -> None:
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            await self._do(owed)
        finally:
            self.at_once -= 1
            self.moved.set()

    async def _do(self, owed: Obligation[SubjectState]) -> None:
        assert owed.state.erased
        self.tried[owed.aggregate] += 1
        self.ids.add(owed.id)
        if self.goes_on is not None:
            await self.goes_on.wait()
        if owed.aggregate in self.hangs:
            await asyncio.Event().wait()
        if owed.aggregate in self.fails:
            raise CannotError
        self.done[owed.aggregate] += 1

    async def was_tried(self, patient: str, times: int) -> None:
        while self.tried[patient] < times:
            self.moved.clear()
            await self.moved.wait()


async def test_what_an_event_obliges_to_is_done_and_recorded_once(databases: Databases) -> None:
    url, topic, work = await migrated(databases), Topic(), Work()
    async with replica(url, topic, work) as here:
        patient = erased(topic)
        await here.follower.catch_up()
        await here.settled(patient)

    assert (work.done[patient], topic.told(SubjectKeyDestroyed)) == (1, 1)


async def test_what_was_owed_at_the_start_is_settled(databases: Databases) -> None:
    url, topic, work = await migrated(databases), Topic(), Work(goes_on=asyncio.Event())
    patients = [erased(topic, number) for number in range(20)]
    async with replica(url, topic, work, pace=Pace(concurrency_max=3)) as here:
        assert await until(lambda: work.at_once == 3, deadline_s=DEADLINE_S)
        assert work.goes_on is not None
        work.goes_on.set()
        await here.settled(*patients)

    assert work.done == dict.fromkeys(patients, 1)
    assert work.at_once_max == 3


async def test_an_event_without_effect_or_refused_obliges_to_nothing(
    databases: Databases,
) -> None:
    url, topic, work = await migrated(databases), Topic(), Work()
    register(topic)
    topic.append(*signed(erasure(), subject=PATIENT, version=0))
    topic.append(*signed(erasure(), subject=PATIENT, version=1, by=HOSPITAL))
    async with replica(url, topic, work) as here:
        assert await here.open() == set()
        await here.reactor.perform(PATIENT)

    assert work.tried == {}


async def test_what_is_recorded_on_the_topic_and_not_folded_is_not_done_again(databases: Databases) -> None:
    url, topic, work = await migrated(databases), Topic(), Work()
    patient = erased(topic)
    async with replica(url, topic, work, runs=False) as here:
        await here.follower.catch_up()
        topic.append(*signed(destruction(patient), subject=patient, version=2))
        # As `run` does with what it had taken before.
        await here.reactor._attempt(patient, f"{patient}#1")
        await here.reactor.perform(patient)

    assert work.tried == {}
    assert topic.told(SubjectKeyDestroyed) == 1


async def test_who_asks_while_it_is_worked_on_waits_for_that(databases: Databases) -> None:
    url, topic, work = await migrated(databases), Topic(), Work()
    patient = erased(topic)
    async with replica(url, topic, work, runs=False) as here:
        await asyncio.gather(*(here.reactor.perform(patient) for _ in range(4)))

    assert (work.tried[patient], topic.told(SubjectKeyDestroyed, patient)) == (1, 1)


async def test_of_two_replicas_that_did_the_work_one_outcome_counts(databases: Databases) -> None:
    # Each has its database: on one of SQLite there is one process.
    urls, topic, work = [await migrated(databases, name) for name in ("a", "b")], Topic(), Work()
    patient = erased(topic)
    both = asyncio.Barrier(2)

    async def at_once(owed: Obligation[SubjectState]) -> None:
        await work(owed)
        await both.wait()

    async with (
        replica(urls[0], topic, at_once, runs=False) as here,
        replica(urls[1], topic, at_once, runs=False) as there,
    ):
        await asyncio.gather(here.reactor.perform(patient), there.reactor.perform(patient))
        state = await here.host.state(patient)
        outcomes = topic.told(SubjectKeyDestroyed)
        await here.reactor.perform(patient)

    assert (work.done[patient], state.destroyed) == (2, True)
    # Both may have been stated; one of them expected a version that was gone.
    assert outcomes in {1, 2}
    assert topic.told(SubjectKeyDestroyed) == outcomes
    assert len(work.ids) == 1


async def test_what_another_replica_has_taken_is_left_to_it(databases: Databases) -> None:
    url, topic, clock = await migrated(databases), Topic(), Clock()
    erased(topic)
    async with replica(url, topic, Work(), clock=clock, runs=False) as here:
        rows = Obligations(here.store.engine, ERASURE.name, attempts_max=5)
        now_ms = int(clock() * 1000)
        (owed,) = await rows.due(now_ms=now_ms, limit=9, again_max=9)
        taken = [await rows.take(owed, until_ms=now_ms + 1000) for _ in range(2)]
        left = await rows.due(now_ms=now_ms, limit=9, again_max=9)
        again = await rows.due(now_ms=now_ms + 1000, limit=9, again_max=9)

    assert (taken, left) == ([True, False], [])
    assert [(found.attempts, found.due_ms) for found in again] == [(1, now_ms + 1000)]


async def test_who_asked_for_it_may_have_it_performed_before_others_begin(databases: Databases) -> None:
    url, topic, work = await migrated(databases), Topic(), Work()
    async with replica(url, topic, work, clock=Clock(0.0)) as here:
        patient = erased(topic)
        await here.follower.catch_up()
        # By this clock the time that is left to the asker is not over.
        tried = dict(work.tried)
        await here.reactor.perform(patient)
        left = await here.open()

    assert (tried, work.done[patient], left) == ({}, 1, set())


async def test_what_fails_waits_longer_each_time_is_parked_and_goes_on_when_the_cause_is_gone(
    databases: Databases, capsys: pytest.CaptureFixture[str]
) -> None:
    url, topic, work = await migrated(databases), Topic(), Work()
    patient = erased(topic)
    work.fails.add(patient)
    told: list[str | None] = []
    async with replica(url, topic, work, pace=QUICK) as here:
        for times, wait_s in enumerate((1.0, 2.0, 4.0, 8.0, 8.0), 1):
            await work.was_tried(patient, times)
            owed = await waiting(here, patient)
            assert owed[0] == times
            assert owed[1] == pytest.approx(wait_s, abs=0.01)
            here.reactor._counted_at = float("-inf")
            await here.reactor._count()
            told.append(await here.reactor.check())
            here.let_pass(wait_s - 0.5)
            here.let_pass(0.6)
        work.fails.clear()
        here.let_pass(9)
        await here.settled(patient)
        here.reactor._counted_at = float("-inf")
        await here.reactor._count()
        told.append(await here.reactor.check())

    assert [bool(line) for line in told] == [False, False, True, True, True, False]
    assert str(told[2]).startswith("1 of 1 open obligations are parked, the oldest for ")
    assert (work.done[patient], topic.told(SubjectKeyDestroyed)) == (1, 1)
    out = capsys.readouterr().out
    assert "CannotError" in out
    assert patient not in out


async def waiting(here: Any, patient: str) -> tuple[int, float]:
    """Return how often it was tried, and for how long it waits, once the attempt is over."""
    while True:
        async with here.store.engine.connect() as connection:
            query = select(OBLIGATIONS).where(OBLIGATIONS.c.aggregate == patient)
            row = (await connection.execute(query)).one()
        left_s = row.due_ms / 1000 - here.clock()
        if left_s <= QUICK.retry_s_max:
            return row.attempts, left_s


async def test_one_that_cannot_be_done_and_one_that_hangs_hold_up_no_other(databases: Databases) -> None:
    """Case S4: one patient's trouble held up every other unfinished erasure."""
    url, topic, work = await migrated(databases), Topic(), Work()
    patients = [erased(topic, number) for number in range(8)]
    work.fails.add(patients[0])
    work.hangs.add(patients[1])
    async with replica(url, topic, work, pace=Pace(concurrency_max=2)) as here:
        await here.settled(*patients[2:])
        assert {owed[0] for owed in await here.open()} == set(patients[:2])

    assert work.done == dict.fromkeys(patients[2:], 1)


async def begun(work: Work, number: int) -> None:
    """Return once so many are worked on at once."""
    while work.at_once < number:  # noqa: ASYNC110  # each step of the loop is a step of the reactor
        await asyncio.sleep(0)


async def test_many_that_hang_each_time_keep_nothing_new_waiting(databases: Databases) -> None:
    """Case: more obligations that hang than are worked on at once slowed new ones down."""
    url, topic, work, clock = await migrated(databases), Topic(), Work(), Clock()
    hanging = [erased(topic, number) for number in range(6)]
    work.hangs |= set(hanging)
    # Each was tried, and hangs again and longer than this test takes.
    async with replica(url, topic, work, pace=replace(QUICK, concurrency_max=9), clock=clock):
        await begun(work, len(hanging))
    clock.now += 3600
    async with replica(url, topic, work, pace=replace(QUICK, concurrency_max=4), clock=clock) as here:
        await begun(work, 2)
        fresh = [erased(topic, number) for number in range(6, 12)]
        await here.settled(*fresh)

        assert work.at_once == 2
    assert work.done == dict.fromkeys(fresh, 1)


async def test_work_that_takes_too_long_is_ended_and_tried_again(databases: Databases) -> None:
    url, topic, work = await migrated(databases), Topic(), Work()
    patient = erased(topic)
    work.hangs.add(patient)
    async with replica(url, topic, work, pace=Pace(attempt_s_max=0.01), runs=False) as here:
        with pytest.raises(TimeoutError):
            await here.reactor.perform(patient)
        work.hangs.clear()
        await here.reactor.perform(patient)

    assert (work.tried[patient], work.done[patient]) == (2, 1)


async def test_who_has_it_performed_hears_why_it_cannot_be(databases: Databases) -> None:
    url, topic, work = await migrated(databases), Topic(), Work()
    patient = erased(topic)
    work.fails.add(patient)
    async with replica(url, topic, work, runs=False) as here:
        with pytest.raises(CannotError):
            await here.reactor.perform(patient)
        left = await here.open()

    assert left == {(patient, f"{patient}#1", 1)}


async def test_an_outcome_that_settles_nothing_is_not_stated_again_and_again(databases: Databases) -> None:
    url, topic, work = await migrated(databases), Topic(), Work()
    patient = erased(topic)

    def of_another_key(state: SubjectState, key: str, **request: Any) -> SubjectKeyDestroyed:
        return SubjectKeyDestroyed(patient=state.patient, key=f"{key}0", **request)

    async with replica(url, topic, work, runs=False, outcome=of_another_key) as here:
        with pytest.raises(UnsettledError):
            await here.reactor.perform(patient)

    assert topic.told(SubjectKeyDestroyed, patient) == 0


@pytest.mark.parametrize("fault", [Fault.LOST, Fault.LATE])
async def test_an_outcome_of_which_nobody_knows_whether_it_stands_is_recorded_once(
    databases: Databases, fault: Fault
) -> None:
    url, topic, work = await migrated(databases), Topic(), Work()
    patient = erased(topic)
    async with replica(url, topic, work, runs=False) as here:
        here.publisher.faults.append(fault)
        with pytest.raises(ProblemError, match="outcome-unknown"):
            await here.reactor.perform(patient)
        await here.reactor.perform(patient)

    assert work.done[patient] == (2 if fault is Fault.LOST else 1)
    assert topic.told(SubjectKeyDestroyed) == 1


async def test_nothing_is_done_while_the_services_own_key_does_not_sign(databases: Databases) -> None:
    url, topic, work = await migrated(databases), Topic(), Work()
    patient = erased(topic)
    async with replica(url, topic, work, runs=False) as here:
        here.own_key.signs = False
        with pytest.raises(ProblemError, match="service-key-invalid"):
            await here.reactor.perform(patient)

    assert work.tried == {}


async def test_at_a_start_all_is_due_but_what_is_parked(databases: Databases) -> None:
    """What ends the process each time it is tried is not tried at once again and again."""
    url, topic, work = await migrated(databases), Topic(), Work()
    taken, parked = erased(topic, 1), erased(topic, 2)
    async with replica(url, topic, work, runs=False) as here:
        rows = Obligations(here.store.engine, ERASURE.name, attempts_max=QUICK.attempts_max)
        later = int(here.clock() * 1000) + 60_000
        await rows.seize(taken, f"{taken}#1", until_ms=later)
        for _ in range(QUICK.attempts_max):
            await rows.seize(parked, f"{parked}#1", until_ms=later)
    async with replica(url, topic, work, pace=QUICK) as here:
        await here.settled(taken)
        assert await here.open() == {(parked, f"{parked}#1", QUICK.attempts_max)}

    assert work.done == {taken: 1}


async def test_a_database_that_is_away_is_waited_for(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, topic, work = await migrated(databases), Topic(), Work()
    patient = erased(topic)
    failures = iter([True, True])
    due = Obligations.due

    async def away(*args: Any, **named: Any) -> Any:
        if next(failures, False):
            raise OperationalError("select", {}, Exception("away"))
        return await due(*args, **named)

    monkeypatch.setattr(Obligations, "due", away)
    async with replica(url, topic, work, pace=replace(QUICK, retry_s=0.01)) as here:
        await here.settled(patient)

    assert work.done[patient] == 1


async def test_what_is_owed_is_the_same_folded_anew(
    databases: Databases,
) -> None:
    topic, work = Topic(), Work()
    patients = {erased(topic, number) for number in range(3)}
    seen: list[Any] = []
    for name in ("a", "b"):
        async with replica(await migrated(databases, name), topic, work, runs=False) as here:
            await here.follower.catch_up()
            async with here.store.engine.connect() as connection:
                seen.append({tuple(row) for row in await connection.execute(select(OBLIGATIONS))})

    assert seen[0] == seen[1]
    assert {row[1] for row in seen[0]} == patients
    assert {row[4] - row[3] for row in seen[0]} == {ERASURE.grace_s * 1000}


async def test_of_an_emptied_database_a_reactor_does_not_say_that_nothing_is_owed(
    databases: Databases,
) -> None:
    # redB6 10c: nobody asks this service anything, nor whether it is ready.
    url, topic, work = await migrated(databases), Topic(), Work()
    work.fails.add(patient := erased(topic))
    async with replica(url, topic, work, pace=QUICK) as here:
        await work.was_tried(patient, 1)
        await rebuild(url)
        work.fails.clear()

        def is_done_anew() -> bool:
            here.let_pass(60)
            return work.done[patient] > 0

        assert await until(is_done_anew, deadline_s=DEADLINE_S)
        await here.settled(patient)


async def test_what_another_version_owed_is_forgotten_with_its_states(databases: Databases) -> None:
    url, topic = await migrated(databases), Topic()
    erased(topic)
    async with replica(url, topic, Work(), runs=False) as here:
        was_open = await here.open()
    async with open_fold_store(url) as store:
        await store.begin([AT], code=b"2" * 32)
        async with store.engine.connect() as connection:
            left = (await connection.execute(select(OBLIGATIONS))).all()

    assert len(was_open) == 1
    assert left == []


def test_nothing_is_owed_before_any_event() -> None:
    with pytest.raises(ValueError, match="owes nothing"):
        Reactor("notices", SUBJECTS, lambda _: ("something",))


def test_only_what_took_effect_counts_as_told() -> None:
    topic = Topic()
    patient = erased(topic)

    assert (topic.told(SubjectErased, patient), topic.told(SubjectKeyDestroyed, patient)) == (1, 0)
