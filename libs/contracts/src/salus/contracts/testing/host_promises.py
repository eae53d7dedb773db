"""What every host of contracts promises, as tests: in memory, on Kafka with SQLite, and with PostgreSQL.

Derive a class of tests from `HostPromises`, and give it a fixture `bench` that returns a `HostBench`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection

import msgspec
import pytest

from salus.contracts.contract import DECISIONS_MAX, ContractHost
from salus.contracts.projection import Contract
from salus.contracts.testing.faults import CrashError, Fault
from salus.events.contexts.identity import KeyAdded, PartyRegistered
from salus.events.event_types import EventData
from salus.runtime.identity_view import IDENTITY_TOPIC
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal


class HeldKeys(msgspec.Struct, frozen=True):
    """The ids of a party's keys, in the order in which they came."""

    ids: tuple[str, ...] = ()


def _evolve(state: HeldKeys, data: EventData) -> HeldKeys:
    match data:
        case PartyRegistered():
            return HeldKeys(tuple(key.id for key in data.keys))
        case KeyAdded():
            return HeldKeys((*state.ids, data.key.id))
        case _:
            return state


HELD_KEYS = Contract("keys", IDENTITY_TOPIC, HeldKeys, _evolve)
"""A contract whose events change their subject, claim names, and need a right."""

Decide = Callable[[HeldKeys], EventData]


class HostBench(ABC):
    """Hosts of HELD_KEYS on one topic, and the faults that their next events meet."""

    @abstractmethod
    async def replica(self) -> ContractHost[HeldKeys]:
        """Return another host on the topic, as another process has it."""

    @abstractmethod
    async def refolded(self, parties: Collection[str]) -> dict[str, HeldKeys]:
        """Return these aggregates as they are folded from the topic with an empty database."""

    @abstractmethod
    async def party(self) -> str:
        """Register a party and return its DID."""

    @abstractmethod
    def event(self, party: str, name: str) -> KeyAdded:
        """Return that the party has a key of this id; each call is another request for it."""

    @abstractmethod
    def meet(self, fault: Fault, *, times: int = 1) -> None:
        """Let so many of the next events of the hosts meet the fault."""

    @abstractmethod
    async def arrive(self) -> None:
        """Let what is late be there; until then it is not, unless another event of the hosts follows."""

    @abstractmethod
    async def end(self) -> int:
        """Return the offset after the last record of the topic."""

    def adding(self, party: str, name: str, *, seen: list[HeldKeys] | None = None) -> Decide:
        """Return the rule that a party gets a key unless it has it; `seen` are the states that it met."""

        def decide(state: HeldKeys) -> KeyAdded:
            if seen is not None:
                seen.append(state)
            if key_id(party, name) in state.ids:
                raise Refusal("key-in-use", "the party has this key")
            return self.event(party, name)

        return decide


def key_id(party: str, name: str) -> str:
    """Return the id of a key."""
    return f"{party}#{name}"


# What a host answers where an event meets a fault, and whether the event takes effect.
ANSWERS: dict[Fault, tuple[tuple[int, str] | None, bool]] = {
    Fault.LOST: ((503, "outcome-unknown"), False),
    Fault.REPLACED: ((503, "outcome-unknown"), False),
    Fault.LATE: ((503, "outcome-unknown"), True),
    Fault.STALE: (None, True),
    Fault.NAME_TAKEN: ((409, "name-taken"), False),
    Fault.NOT_ENTITLED: ((409, "conflict"), False),
    Fault.REFUSED: ((503, "not-accepted"), False),
}
_TIMES = {Fault.NOT_ENTITLED: 2}


class HostPromises:
    """The promises; each test has a bench of its own."""

    async def test_a_command_has_taken_effect_when_it_returns(self, bench: HostBench) -> None:
        """So says the host that executed it, and so says every other."""
        host, other, party = await bench.replica(), await bench.replica(), await bench.party()
        await host.execute(party, bench.adding(party, "a"))

        assert (await host.state(party)).ids[1:] == (key_id(party, "a"),)
        assert await other.states([party, "did:web:nobody.example"]) == {party: await host.state(party)}

    async def test_a_command_is_decided_by_all_that_was_there_before_it(self, bench: HostBench) -> None:
        """Also by what other hosts have published."""
        host, other, party = await bench.replica(), await bench.replica(), await bench.party()
        seen = list[HeldKeys]()
        await host.state(party)
        await other.execute(party, bench.adding(party, "a"))
        await host.execute(party, bench.adding(party, "b", seen=seen))

        assert [state.ids[1:] for state in seen] == [(key_id(party, "a"),)]

    async def test_of_racing_commands_one_is_first_and_the_others_are_decided_again(
        self, bench: HostBench
    ) -> None:
        """Each takes effect once, on a state that has what was before it."""
        hosts, party = [await bench.replica(), await bench.replica()], await bench.party()
        seen: dict[str, list[HeldKeys]] = {f"{at}{number}": [] for at in range(2) for number in range(3)}
        await asyncio.gather(
            *(
                hosts[int(name[0])].execute(party, bench.adding(party, name, seen=states))
                for name, states in seen.items()
            )
        )
        ids = (await hosts[0].state(party)).ids

        assert await hosts[1].state(party) == HeldKeys(ids)
        assert sorted(ids[1:]) == sorted(key_id(party, name) for name in seen)
        for name, states in seen.items():
            assert states[-1].ids == ids[: ids.index(key_id(party, name))]

    async def test_commands_at_one_host_take_turns(self, bench: HostBench) -> None:
        """They race with those of other hosts only, so more of them than a host decides again all succeed."""
        host, party, number = await bench.replica(), await bench.party(), DECISIONS_MAX + 2
        await asyncio.gather(*(host.execute(party, bench.adding(party, f"k{n}")) for n in range(number)))

        assert len((await host.state(party)).ids) == 1 + number

    async def test_of_the_same_command_twice_at_once_one_is_refused(self, bench: HostBench) -> None:
        """Who was overtaken is decided again, and finds it done."""
        hosts, party = [await bench.replica(), await bench.replica()], await bench.party()
        answers = await asyncio.gather(
            *(host.execute(party, bench.adding(party, "a")) for host in hosts), return_exceptions=True
        )

        assert sorted(type(answer).__name__ for answer in answers) == ["KeyAdded", "Refusal"]
        assert (await hosts[0].state(party)).ids[1:] == (key_id(party, "a"),)

    async def test_who_is_overtaken_decides_again_by_what_is_true_then(self, bench: HostBench) -> None:
        """The last of so many decisions as a host makes still takes effect."""
        host, party, seen = await bench.replica(), await bench.party(), list[HeldKeys]()
        bench.meet(Fault.STALE, times=DECISIONS_MAX - 1)
        await host.execute(party, bench.adding(party, "a", seen=seen))

        assert len(seen) == DECISIONS_MAX
        assert (await host.state(party)).ids == (*seen[-1].ids, key_id(party, "a"))

    async def test_who_is_overtaken_again_and_again_is_told_and_nothing_is_changed(
        self, bench: HostBench
    ) -> None:
        """After DECISIONS_MAX decisions the caller decides."""
        host, party, seen = await bench.replica(), await bench.party(), list[HeldKeys]()
        bench.meet(Fault.STALE, times=DECISIONS_MAX)
        with pytest.raises(ProblemError) as told:
            await host.execute(party, bench.adding(party, "a", seen=seen))

        assert (told.value.status, told.value.code) == (409, "conflict")
        assert len(seen) == DECISIONS_MAX
        assert key_id(party, "a") not in (await host.state(party)).ids

    async def test_a_refusal_leaves_nothing(self, bench: HostBench) -> None:
        """Nothing is published, and the next command goes on."""
        host, party = await bench.replica(), await bench.party()
        await host.execute(party, bench.adding(party, "a"))
        before = await host.state(party), await bench.end()
        for _ in range(3):
            with pytest.raises(Refusal):
                await host.execute(party, bench.adding(party, "a"))

        assert (await host.state(party), await bench.end()) == before
        await host.execute(party, bench.adding(party, "b"))

    @pytest.mark.parametrize("fault", ANSWERS)
    async def test_what_is_answered_as_done_is_done_and_nothing_else(
        self, bench: HostBench, fault: Fault
    ) -> None:
        """Each fault has its answer; the state tells the truth, and stays so when the command comes again."""
        answer, takes_effect = ANSWERS[fault]
        host, other, party = await bench.replica(), await bench.replica(), await bench.party()
        bench.meet(fault, times=_TIMES.get(fault, 1))
        told = None
        try:
            await host.execute(party, bench.adding(party, "a"))
        except ProblemError as error:
            told = error.status, error.code
        await bench.arrive()

        assert told == answer
        for one in (host, other):
            assert (key_id(party, "a") in (await one.state(party)).ids) == takes_effect

    async def test_a_late_event_is_there_at_the_next_look(self, bench: HostBench) -> None:
        """It is not before it is there, and a repetition is then refused."""
        host, party = await bench.replica(), await bench.party()
        bench.meet(Fault.LATE)
        with pytest.raises(ProblemError):
            await host.execute(party, bench.adding(party, "a"))
        before = await host.state(party)
        await bench.arrive()

        assert before.ids[1:] == ()
        assert (await host.state(party)).ids[1:] == (key_id(party, "a"),)
        with pytest.raises(Refusal):
            await host.execute(party, bench.adding(party, "a"))

    async def test_a_late_event_and_its_repetition_take_effect_once(self, bench: HostBench) -> None:
        """The repetition is decided before the late event is there, and comes after it."""
        host, party, seen = await bench.replica(), await bench.party(), list[HeldKeys]()
        bench.meet(Fault.LATE)
        with pytest.raises(ProblemError):
            await host.execute(party, bench.adding(party, "a"))
        with pytest.raises(Refusal):
            await host.execute(party, bench.adding(party, "a", seen=seen))

        assert [len(state.ids) for state in seen] == [1, 2]
        assert (await host.state(party)).ids[1:] == (key_id(party, "a"),)

    async def test_one_request_makes_one_fact(self, bench: HostBench) -> None:
        """Who read it on the topic has it carried out nowhere again."""
        host, other, party = await bench.replica(), await bench.replica(), await bench.party()
        event = bench.event(party, "a")
        await host.execute(party, lambda _: event)
        before = await host.state(party)
        with pytest.raises(ProblemError) as told:
            await other.execute(party, lambda _: event)

        assert (told.value.status, told.value.code) == (409, "name-taken")
        assert await host.state(party) == before

    @pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
    async def test_who_starts_again_after_a_crash_finds_all_or_nothing(
        self, bench: HostBench, fault: Fault
    ) -> None:
        """A command that is repeated takes effect once."""
        host, party = await bench.replica(), await bench.party()
        bench.meet(fault)
        with pytest.raises(CrashError):
            await host.execute(party, bench.adding(party, "a"))
        again = await bench.replica()
        refused = False
        try:
            await again.execute(party, bench.adding(party, "a"))
        except Refusal:
            refused = True

        assert refused == (fault is Fault.CRASH_AFTER)
        assert (await again.state(party)).ids[1:] == (key_id(party, "a"),)

    async def test_a_state_folded_anew_is_the_one_that_was_kept(self, bench: HostBench) -> None:
        """Whatever happened to events on their way."""
        host, party, other = await bench.replica(), await bench.party(), await bench.party()
        for number, fault in enumerate((None, Fault.LATE, Fault.STALE, Fault.NAME_TAKEN, Fault.REPLACED)):
            if fault is not None:
                bench.meet(fault)
            for one in (party, other):
                try:
                    await host.execute(one, bench.adding(one, str(number)))
                except ProblemError:
                    await bench.arrive()
        live = await host.states([party, other])

        assert live.keys() == {party, other}
        assert await bench.refolded([party, other]) == live
