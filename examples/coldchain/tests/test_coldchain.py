"""The law of the cold chain, on topics in memory."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import strategies as st

from salus.coldchain import context, domain
from salus.contracts.testing.domain_laws import DomainLaws
from salus.contracts.testing.faults import Fault
from salus.contracts.testing.memory import MemoryTopics
from salus.events.catalogue import Catalogue
from salus.events.contexts import CONTEXTS
from salus.events.parties import Party
from salus.events.requests import Request
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal

MAKER, RIVAL = "did:web:maker.example", "did:web:rival.example"
# The release's event types and ours.
CATALOGUE = Catalogue([*CONTEXTS, context.CONTEXT])
# For data whose request nobody looks at.
UNASKED = Request.of_service("did:key:z6MkService")


@pytest.fixture
def topics() -> MemoryTopics:
    return MemoryTopics([domain.BATCHES], catalogue=CATALOGUE)


@pytest.fixture
def batch():
    """Say that a member holds a batch, as UNASKED asked."""
    range_ = {"lowest": 20, "highest": 80}
    return context.BatchRegistered(batch="VX-1", product="MMR-2", holder=MAKER, request=UNASKED, **range_)


class TestBatches(DomainLaws):
    """What every domain has to keep, tried on histories and commands that Hypothesis makes up."""

    contract, catalogue, aggregate = domain.BATCHES, CATALOGUE, "VX-1"
    fields: ClassVar = {"batch": st.just("VX-1"), "holder": st.sampled_from([MAKER, RIVAL])}
    commands = (context.BatchRegistered, context.TemperatureRecorded, context.BatchRecalled)
    facts = st.sampled_from([MAKER, RIVAL])

    def decide(self, state: Any, command: Any, caller: str) -> Any:
        match command:
            case context.BatchRegistered():
                return domain.register(state, command, by=caller)
            case context.TemperatureRecorded():
                return domain.record(state, command, by=caller)
            case _:
                return domain.recall(state, command, by=caller)

    def invariants(self, state: Any) -> None:
        assert state.excursions <= state.readings
        assert state.is_usable == (state.excursions == 0 and state.recalled is None)


async def test_a_batch_that_was_too_warm_or_recalled_is_not_usable(topics, batch):
    usable = []
    for event in (
        batch,
        context.TemperatureRecorded(batch="VX-1", reading="R-1", temperature=20, request=UNASKED),
        context.TemperatureRecorded(batch="VX-1", reading="R-2", temperature=80, request=UNASKED),
        context.TemperatureRecorded(batch="VX-1", reading="R-3", temperature=81, request=UNASKED),
        context.BatchRecalled(batch="VX-1", reason="excursion", request=UNASKED),
    ):
        topics.append(event, subject="VX-1")
        usable.append(topics.state(domain.BATCHES, "VX-1").is_usable)

    assert usable == [True, True, True, False, False]
    assert topics.state(domain.BATCHES, "VX-1").excursions == 1
    assert topics.refolded().states() == topics.states()


async def test_of_two_that_register_a_batch_at_once_one_is_refused(topics, batch):
    answers = await asyncio.gather(
        *(
            topics.host(domain.BATCHES).execute("VX-1", lambda state: domain.register(state, batch, by=MAKER))
            for _ in range(2)
        ),
        return_exceptions=True,
    )

    assert sorted(type(answer).__name__ for answer in answers) == ["BatchRegistered", "Refusal"]


async def test_who_repeats_what_may_have_been_lost_is_refused_or_does_it(topics, batch):
    host = topics.host(domain.BATCHES)
    for name, fault, is_there in (("VX-2", Fault.LOST, False), ("VX-3", Fault.LATE, True)):
        topics.faults.add(fault)
        event = type(batch)(**{**{f: getattr(batch, f) for f in batch.__struct_fields__}, "batch": name})
        with pytest.raises(ProblemError, match="outcome-unknown"):
            await host.execute(name, lambda state, event=event: domain.register(state, event, by=MAKER))
        topics.arrive()
        assert bool(topics.state(domain.BATCHES, name).batch) == is_there


@pytest.mark.parametrize(
    ("by", "recalls", "code"),
    [
        (RIVAL, 1, "not-the-holder"),
        (MAKER, 2, "already-recalled"),
    ],
)
def test_only_the_holder_recalls_a_batch_and_once(batch, by, recalls, code):
    recall = context.BatchRecalled(batch="VX-1", reason="label", request=UNASKED)
    state = domain.evolve(domain.Batch(), batch)
    for _ in range(recalls - 1):
        state = domain.evolve(state, domain.recall(state, recall, by=by))

    with pytest.raises(Refusal, match=code):
        domain.recall(state, recall, by=by)


@pytest.mark.parametrize(
    ("kind", "roles", "member", "holder"),
    [
        ("member", (), None, MAKER),
        ("device", (), RIVAL, RIVAL),
        ("person", ("clinician",), RIVAL, RIVAL),
        ("person", ("patient",), RIVAL, None),
        ("person", ("operator",), RIVAL, None),
        ("person", ("clinician",), None, None),
        ("person", (), None, None),
        ("service", ("consent",), None, None),
    ],
)
def test_members_speak_of_batches_and_who_works_for_them(kind, roles, member, holder):
    caller = Party(MAKER, kind, frozenset(roles), member)

    if holder is not None:
        assert domain.member_of(caller) == holder
        return
    with pytest.raises(Refusal, match="not-permitted"):
        domain.member_of(caller)


def test_nobody_registers_what_another_holds(batch):
    with pytest.raises(Refusal, match="not-the-holder"):
        domain.register(domain.Batch(), batch, by=RIVAL)


@pytest.mark.parametrize("words", ["MRS-MILLER-HIV", "MARY-1", "VX", "1", "VX-1\n", "VX-12345678901234567"])
def test_there_is_no_room_for_words_in_an_id(batch, words):
    fields = {name: getattr(batch, name) for name in batch.__struct_fields__} | {"batch": words}

    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(msgspec.to_builtins(fields), type(batch))


def test_a_batch_that_nobody_registered_is_not_there():
    with pytest.raises(Refusal, match="unknown-batch"):
        domain.require_held(domain.Batch(), by=MAKER)
