"""What falls due later is left to others until then, and settled once, through restarts and early calls."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.databases import Databases
from tests.unit.contracts.replicas import Clock, Topic, erased, replica
from tests.unit.contracts.test_reactors import QUICK, Work, migrated

from salus.contracts.reactors import Reactor
from salus.devkit.waiting import until
from salus.events.contexts.storage import SubjectKeyDestroyed
from salus.storage.adapters.facts import ERASURE
from salus.storage.domain import SubjectState

DEADLINE_S = 60


def after(clock: Clock, **time: Any) -> Reactor[SubjectState]:
    """Return erasures that fall due so much later than now."""
    due = datetime.fromtimestamp(clock(), UTC) + timedelta(**time)
    return replace(ERASURE, grace_s=0, falls_due=lambda *_: due)


async def test_what_falls_due_later_is_settled_then_and_not_before(databases: Databases) -> None:
    url, topic, work, clock = await migrated(databases), Topic(), Work(), Clock()
    reactor = after(clock, hours=72)
    async with replica(url, topic, work, clock=clock, reactor=reactor) as here:
        patient = erased(topic)
        await here.follower.catch_up()
        here.let_pass(3600 * 71)
        await here.reactor.perform(patient)
        early = work.tried[patient], topic.told(SubjectKeyDestroyed, patient)
        here.let_pass(3601)
        await here.settled(patient)

    assert early == (0, 0)
    assert (work.done[patient], topic.told(SubjectKeyDestroyed, patient)) == (1, 1)


async def test_a_start_makes_nothing_due_before_its_time(databases: Databases) -> None:
    url, topic, work, clock = await migrated(databases), Topic(), Work(), Clock()
    reactor = after(clock, hours=72)
    async with replica(url, topic, work, clock=clock, reactor=reactor, runs=False) as here:
        patient = erased(topic)
        await here.follower.catch_up()
    async with replica(url, topic, work, clock=clock, reactor=reactor) as here:
        other = erased(topic, 2)
        waiting = await here.open()
        here.let_pass(3600 * 72 + 1)
        await here.settled(patient, other)

    assert {(aggregate, attempts) for aggregate, _, attempts in waiting} == {(patient, 0), (other, 0)}
    assert work.done == {patient: 1, other: 1}


async def test_what_is_not_due_is_not_counted_as_open(databases: Databases) -> None:
    url, topic, work, clock = await migrated(databases), Topic(), Work(), Clock()
    async with replica(url, topic, work, clock=clock, reactor=after(clock, hours=72), runs=False) as here:
        erased(topic)
        await here.follower.catch_up()
        rows = here.reactor._rows
        now_ms = int(clock() * 1000)
        early = await rows.backlog(now_ms=now_ms)
        late = await rows.backlog(now_ms=now_ms + 73 * 3_600_000)

    assert (early.open, early.since_ms) == (0, None)
    assert late.open == 1
    assert late.since_ms is not None
    assert abs(late.since_ms - now_ms - 72 * 3_600_000) <= 1


async def test_an_attempt_at_what_is_due_that_fails_is_tried_again(databases: Databases) -> None:
    url, topic, work, clock = await migrated(databases), Topic(), Work(), Clock()
    reactor = after(clock, hours=1)
    async with replica(url, topic, work, clock=clock, reactor=reactor, pace=QUICK) as here:
        patient = erased(topic)
        work.fails.add(patient)
        await here.follower.catch_up()
        here.let_pass(3601)
        assert await until(lambda: work.tried[patient] == 1, deadline_s=DEADLINE_S)
        work.fails.clear()

        async def done() -> bool:
            here.let_pass(8)
            return not await here.open()

        assert await until(done, deadline_s=DEADLINE_S)

    assert topic.told(SubjectKeyDestroyed, patient) == 1
