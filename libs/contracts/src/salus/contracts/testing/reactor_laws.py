"""The laws of a reactor: what is owed follows from the state, and its outcome settles that alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from salus.contracts.reactors import Reactor
from salus.contracts.testing.domain_laws import EvolveLaws, law
from salus.events.event_types import EventData, type_of


class ReactorLaws(EvolveLaws):
    """Derive a class of tests, with the reactor, its contract, and events after which it owes something."""

    reactor: ClassVar[Reactor[Any]]
    obliging: ClassVar[Sequence[EventData]]

    def outcome(self, state: Any, key: str) -> EventData:
        """Return the event that records that this key was settled."""
        raise NotImplementedError

    @law
    @given(data=st.data())
    def test_an_outcome_settles_what_was_owed_and_nothing_else(self, data: DataObject) -> None:
        """Whatever happened since; otherwise the work would be done, and recorded, again and again."""
        state = self.contract.state()
        for event in self.obliging:
            state = self.contract.evolve(state, event)
        assert self.reactor.owes(state)
        for _, event in data.draw(self._histories):
            state = self.contract.evolve(state, event)
        owed = set(self.reactor.owes(state))
        assert set(self.reactor.owes(self.contract.decode(msgspec.json.encode(state)))) == owed
        for key in owed:
            event = self.outcome(state, key)
            assert type_of(event) in self._types
            assert set(self.reactor.owes(self.contract.evolve(state, event))) == owed - {key}
