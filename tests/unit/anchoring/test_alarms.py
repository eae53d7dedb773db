"""An alarm about damage is told until the ledger has it, and is no storm (issue 12)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from tests.unit.anchoring.receipts import receipt_service
from tests.unit.anchoring.test_scrubbing import Scrubbed, body_of
from tests.unit.anchoring.world import EVENT_SIGNER, World
from tests.unit.archive.small_ledger import SmallLedger

from salus.anchoring import scrub_state, scrubbing
from salus.anchoring.alarm_outcomes import LedgerOutcomes
from salus.anchoring.metrics import Metrics
from salus.anchoring.ports import StatedAt
from salus.anchoring.runner import Runner
from salus.anchoring.scrub_state import OPEN_MAX, RETELL_AFTER, RETELL_AFTER_MAX, Known, State
from salus.archive.building import TOPIC, sample_records
from salus.archive.receipts import RecordPosition
from salus.archive.report import Bucket, Finding
from salus.client import EventName
from salus.devkit.waiting import until
from salus.events.effect import Applied, NoEffect, Outcome, Refused, Unknown, WithoutEffect
from salus.ledger.block import body_key
from salus.ledger.merkle import leaf_hash

NOW = datetime(2026, 12, 1, tzinfo=UTC)
STATED = StatedAt(RecordPosition("salus.network.events", 0, 7), bytes(32))


@pytest.fixture
async def damaged(monkeypatch: pytest.MonkeyPatch) -> Scrubbed:
    """A ledger with one damaged body, whose alarms are looked at, and told again, at once."""
    monkeypatch.setattr(scrubbing, "LOOK_EVERY", timedelta())
    monkeypatch.setattr(scrub_state, "RETELL_AFTER", timedelta())
    ledger = SmallLedger()
    await ledger.fill()
    ledger.flip("ledger", body_of(ledger, 0, 2), 20)
    return Scrubbed(ledger)


async def test_what_the_ledger_refused_is_told_under_another_id_and_named_until_it_is_accepted(
    damaged: Scrubbed,
) -> None:
    damaged.alarms.becomes = Refused("unknown-key")
    await damaged.scrub(2)
    told, trouble = list(damaged.alarms.ids), damaged.scrubbing.metrics.alarm_refused
    damaged.alarms.becomes = Applied(0)
    await damaged.scrub(2)

    assert len(told) == len(set(told)) > 1
    assert trouble is not None
    assert "unknown-key" in trouble
    assert damaged.metric("salus_scrub_alarms_refused_total") == len(told) - 1 or told
    assert damaged.scrubbing.metrics.alarm_refused is None
    assert damaged.metric("salus_scrub_alarms_open") == 0
    assert len(damaged.alarms.ids) <= len(told) + 1


async def test_what_is_not_sealed_yet_is_looked_for_by_the_next_process_and_not_told_again(
    damaged: Scrubbed,
) -> None:
    damaged.alarms.becomes = Unknown("the sequencer is away")
    await damaged.scrub(3)
    pending = damaged.metric("salus_scrub_alarms_open")
    damaged.alarms.becomes = Applied(0)
    await damaged.scrub()

    assert len(damaged.alarms.ids) == 1
    assert (pending, damaged.metric("salus_scrub_alarms_open")) == (1, 0)


def known(number: int = 0, *, bucket: Bucket = "ledger") -> Known:
    finding = Finding(severity="error", code="body-hash", bucket=bucket, key=f"k{number}", detail="")
    return Known(finding, 1, 1, since=NOW)


OUTCOMES: list[Outcome] = [Applied(0), Refused("x"), WithoutEffect(NoEffect.STALE), Unknown("x")]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda it: type(it).__name__)
def test_each_outcome_closes_an_alarm_or_has_it_told_again_or_changes_nothing(outcome: Outcome) -> None:
    told = known().stated(STATED, at=NOW)
    after = told.after(outcome, at=NOW)

    assert after.is_open == (not isinstance(outcome, Applied))
    assert (after.told is None) == isinstance(outcome, Refused | WithoutEffect)
    assert (after.id != told.id) == isinstance(outcome, Refused | WithoutEffect)


def refused_at(one: Known, at: datetime) -> Known:
    return one.stated(STATED, at=at).after(Refused("x"), at=at)


def test_refused_alarms_are_told_one_by_one_and_each_more_rarely() -> None:
    state = State(known=tuple(known(number) for number in range(20)))
    told: list[datetime] = []
    for second in range(0, 24 * 3600, 5):
        at = NOW + timedelta(seconds=second)
        if (one := state.next_to_tell(at=at)) is not None:
            told.append(at)
            state = state.changed(one.id, partial(refused_at, at=at))

    assert min(b - a for a, b in pairwise(told)) >= RETELL_AFTER
    # Each a few times until it is told once an hour.
    assert 20 * 24 <= len(told) <= 20 * (24 + 8)
    assert timedelta(hours=1) == RETELL_AFTER_MAX


def test_one_that_is_always_refused_keeps_no_new_one_from_being_told() -> None:
    refused = known(1)
    for _ in range(30):
        refused = refused_at(refused, NOW)
    state = State(known=(refused, known(2, bucket="log"), known(3)))
    at = NOW + RETELL_AFTER
    next_ = state.next_to_tell(at=at)

    assert state.next_to_tell(at=NOW) is None
    assert next_ is not None
    assert next_.finding.key == "k3"
    # What became of it is not known: the others wait.
    waiting = state.changed(next_.id, lambda one: one.stated(STATED, at=at))
    assert waiting.next_to_tell(at=at + RETELL_AFTER) is None
    # Of what is due, a new one is first, whatever it is about.
    due = State(known=(refused, known(2, bucket="log"))).next_to_tell(at=NOW + RETELL_AFTER_MAX)
    assert due is not None
    assert due.finding.key == "k2"


def test_an_alarm_that_is_on_its_way_for_long_is_named_with_what_it_waits_for() -> None:
    state = State(known=(known().stated(STATED, at=NOW),))

    assert state.late(at=NOW, why="no block") is None
    late = state.late(at=NOW + OPEN_MAX, why="no block")
    assert late is not None
    assert late.endswith("no block")


async def test_the_log_says_what_became_of_an_event(tmp_path: Path) -> None:
    world, metrics = World(with_bodies=True), Metrics(CollectorRegistry())
    runner = Runner(world.anchor(), metrics, poll_interval_s=0.01, checkpoint_interval_s=0)
    service = receipt_service(world, runner, metrics, tmp_path)
    outcomes = LedgerOutcomes(runner, service.lookup, service.maker)
    records = sample_records(6, signer=EVENT_SIGNER)
    refused = replace(records[1], status="rejected:unknown-key")
    # Sent twice; of the name of another, nothing was accepted.
    again = replace(records[2], value=records[0].value, status="rejected:duplicate")
    never = replace(records[3], status="rejected:duplicate")
    await world.chains[0].seal([records[0], refused, again, never])
    # The last is in a block that is not there.
    await world.chains[0].seal(records[4:])
    world.ledger.objects.pop(body_key(0, 1, world.chains[0].headers[1].root))

    async def outcome(number: int, *, offset: int, value: bytes | None) -> Outcome:
        name = EventName(EVENT_SIGNER.did, f"event-{number}")
        return await outcomes.outcome(
            name, StatedAt(RecordPosition(TOPIC, 0, offset), leaf_hash(value or b""))
        )

    assert isinstance(await outcome(0, offset=0, value=records[0].value), Unknown)
    tasks = [asyncio.create_task(work) for work in (runner.run(), service.lookup.run())]

    async def is_indexed() -> bool:
        return service.lookup.size == 2

    assert await until(is_indexed, deadline_s=60)
    assert await outcome(0, offset=0, value=records[0].value) == Applied(0)
    assert await outcome(1, offset=1, value=refused.value) == Refused("unknown-key")
    assert await outcome(0, offset=2, value=again.value) == Applied(0)
    assert await outcome(3, offset=3, value=never.value) == Refused("duplicate")
    # Kafka said a wrong position, and another's record stands there.
    assert isinstance(await outcome(9, offset=0, value=records[1].value), Refused)
    assert isinstance(await outcome(5, offset=5, value=records[5].value), Unknown)
    assert isinstance(await outcome(9, offset=9, value=records[0].value), Unknown)

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
