"""The laws of every domain, as tests that Hypothesis tries on histories and commands it makes up.

Derive a class of tests from `DomainLaws`, name the contract and its commands, and say of which few values its
fields are. A contract that only folds has the laws of `EvolveLaws`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from salus.contracts.projection import Contract
from salus.contracts.table_projection import TableChanges
from salus.contracts.testing.memory import MemoryTopics
from salus.contracts.testing.strategies import NOON, Values
from salus.events.catalogue import Catalogue
from salus.events.effect import Applied
from salus.events.envelope import decode_event, encode_event
from salus.events.event_types import EventData, EventType, type_of
from salus.runtime.refusal import Refusal

EVENTS_MAX = 8
COMMANDS_MAX = 8
# Of an aggregate whose name no event says.
NAME = "n"
# One law is tried on many domains, each in a class of its own.
law = settings(max_examples=40, suppress_health_check=[HealthCheck.differing_executors, HealthCheck.too_slow])


_Events = SearchStrategy[tuple[str, EventData]]


class EvolveLaws:
    """The laws of a fold: it takes every event, says the same each time, and is kept as it is."""

    contract: ClassVar[Contract[Any]]
    catalogue: ClassVar[Catalogue]
    fields: ClassVar[Mapping[str, SearchStrategy[Any]]] = {}
    """Strategies of fields by name, of events and of commands: a few values, so that they meet."""

    _types: ClassVar[list[EventType]]
    _events: ClassVar[list[_Events]]
    _histories: ClassVar[SearchStrategy[list[tuple[str, EventData]]]]

    def event_invariants(self, state: Any) -> None:
        """Assert what holds of every state, whatever events led to it."""

    @law
    @given(data=st.data())
    def test_a_fold_takes_every_event_of_its_topic_in_any_order(self, data: DataObject) -> None:
        """It says the same each time, changes nothing in place, and states and rows are kept as they are."""
        state = self.contract.before(NAME)
        assert self._rows(state) == {}
        for _, event in data.draw(self._histories):
            state = self._evolved(state, event)
        for events in self._events:
            _, event = data.draw(events)
            self._evolved(state, event)

    @law
    @given(data=st.data())
    def test_an_event_that_the_contract_does_not_name_changes_nothing(self, data: DataObject) -> None:
        """So no event is left out of `Contract.events` that `evolve` goes by."""
        state = self.contract.before(NAME)
        for _, event in data.draw(self._histories):
            state = self.contract.evolve(state, event)
        for entry, events in zip(self._types, self._events, strict=True):
            if not self.contract.takes(entry.data):
                subject, event = data.draw(events)
                assert self.contract.evolve(state, event) == state
                assert self.contract.aggregates(subject, event) == ()

    @law
    @given(data=st.data())
    def test_a_fold_of_the_topic_from_its_beginning_is_the_state_that_was_kept(
        self, data: DataObject
    ) -> None:
        """Kept encoded after each event, folded anew, and folded in memory all at once, it is the same."""
        topics = MemoryTopics([self.contract], catalogue=self.catalogue)
        pure: dict[str, Any] = {}
        for subject, event in data.draw(self._histories):
            if isinstance(topics.append(event, subject=subject), Applied):
                appended = topics.records[self.contract.topic][-1].event
                assert appended is not None
                for name in self.contract.aggregates(subject, event):
                    before = pure[name] if name in pure else self.contract.before(name)
                    pure[name] = self.contract.after(before, appended)
        for name, state in pure.items():
            self.event_invariants(state)
            assert topics.state(self.contract, name) == state
        assert topics.refolded().states() == topics.states()

    def __init_subclass__(cls) -> None:
        """Make the strategies once: Hypothesis looks at each that it has not seen."""
        super().__init_subclass__()
        if hasattr(cls, "contract"):
            cls._types = [entry for entry in cls.catalogue.types() if entry.topic == cls.contract.topic]
            cls._events = [Values(cls.fields).event(entry) for entry in cls._types]
            cls._histories = _of_some(cls._events).flatmap(
                lambda some: st.lists(st.one_of(some), max_size=EVENTS_MAX)
            )

    def _evolved(self, state: Any, event: EventData) -> Any:
        before = msgspec.json.encode(state)
        after = self.contract.evolve(state, event)
        assert type(after) is self.contract.state
        assert self.contract.evolve(state, event) == after
        assert msgspec.json.encode(state) == before
        assert self.contract.decode(msgspec.json.encode(after)) == after
        self._require_rows(state, after)
        return after

    def _require_rows(self, before: Any, after: Any) -> None:
        """Assert that declared tables, written as states change, have what the last state comes to."""
        for projection in self.contract.tables:
            rows = projection.rows_of(NAME, before)
            changes = TableChanges(projection)
            changes.add(NAME, before=before, after=after)
            for key in changes.deleted:
                del rows[key]
            rows.update((tuple(row[name] for name in projection.key), row) for row in changes.written)
            assert rows == projection.rows_of(NAME, after)

    def _rows(self, state: Any) -> dict[Any, Any]:
        return {key: row for each in self.contract.tables for key, row in each.rows_of(NAME, state).items()}


class DomainLaws(EvolveLaws):
    """The laws of a domain that decides: an answer for every command, and what is decided comes about."""

    aggregate: ClassVar[str]
    """The name of the aggregate that the commands are about."""
    commands: ClassVar[tuple[Any, ...] | SearchStrategy[Any]]
    """The types of the commands, or a strategy of them."""
    facts: ClassVar[SearchStrategy[Any]] = st.none()
    """What else a decision goes by, as who asks."""

    _commands: ClassVar[SearchStrategy[Any]]

    def decide(self, state: Any, command: Any, facts: Any) -> EventData:
        """Return the event that the command becomes, or raise a Refusal."""
        raise NotImplementedError

    def invariants(self, state: Any) -> None:
        """Assert what holds of every state that commands alone lead to."""

    @law
    @given(data=st.data())
    def test_a_decision_is_an_event_or_a_refusal_and_each_time_the_same(self, data: DataObject) -> None:
        """Whatever happened before; the event is as its schema says, and is one of the aggregate's."""
        state = self.contract.before(self.aggregate)
        for subject, event in data.draw(self._histories):
            if self.aggregate in self.contract.aggregates(subject, event):
                state = self.contract.evolve(state, event)
        command, facts = data.draw(self._commands), data.draw(self.facts)
        decided = self._decided(state, command, facts)

        assert self._decided(state, command, facts) == decided
        if isinstance(decided, EventData):
            assert type_of(decided) in self._types
            assert self.aggregate in self.contract.aggregates(self.aggregate, decided)
            assert self._as_published(decided) == decided

    @settings(law, max_examples=120)
    @given(data=st.data())
    def test_what_is_decided_comes_about_and_the_same_command_changes_nothing_more(
        self, data: DataObject
    ) -> None:
        """Of every sequence of commands, also after whatever happened; a refusal leaves all as it was."""
        topics = MemoryTopics([self.contract], catalogue=self.catalogue)
        happened = data.draw(st.just([]) | self._histories)
        for subject, event in happened:
            topics.append(event, subject=subject)
        for _ in range(data.draw(st.integers(1, COMMANDS_MAX))):
            command, facts = data.draw(self._commands), data.draw(self.facts)
            state = topics.state(self.contract, self.aggregate)
            decided = self._decided(state, command, facts)
            if not isinstance(decided, EventData):
                continue
            if not isinstance(topics.append(decided, subject=self.aggregate), Applied):
                # It claims a name that is taken, which no state says.
                assert topics.state(self.contract, self.aggregate) == state
                continue
            after = topics.state(self.contract, self.aggregate)
            self.event_invariants(after)
            if not happened:
                self.invariants(after)
            again = self._decided(after, command, facts)
            if isinstance(again, EventData):
                topics.append(again, subject=self.aggregate)
            assert topics.state(self.contract, self.aggregate) == after

    def __init_subclass__(cls) -> None:
        """Make the strategy of the commands once as well."""
        super().__init_subclass__()
        given = cls.commands
        cls._commands = st.one_of(
            [_made(one, Values(cls.fields)) for one in given] if isinstance(given, tuple) else given
        )

    def _decided(self, state: Any, command: Any, facts: Any) -> EventData | tuple[str, int]:
        try:
            return self.decide(state, command, facts)
        except Refusal as refusal:
            return refusal.code, refusal.status

    def _as_published(self, data: EventData) -> EventData:
        version = 0 if type_of(data).changes else None
        value = encode_event(
            data, id="e", source="did:web:s", subject=self.aggregate, time=NOON, expected_version=version
        )
        return decode_event(value, self.catalogue).data


def _of_some(events: list[_Events]) -> SearchStrategy[list[_Events]]:
    """Return a strategy of a few of these, or all: of few types many events of each follow each other."""
    numbers = st.lists(st.sampled_from(range(len(events))), min_size=1, max_size=2, unique=True)
    return numbers.map(lambda some: [events[number] for number in some]) | st.just(events)


def _made(command: Any, values: Values) -> SearchStrategy[Any]:
    """Return a strategy of a command, which may be the event itself that somebody wants stated."""
    if isinstance(command, type) and issubclass(command, EventData):
        return values.event(type_of(command)).map(lambda drawn: drawn[1])
    return values.of(command)
