"""A batch of records on its way into the aggregates: read by one statement, written by one for each table.

Folded record by record, each in a batch of its own, they come to the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, TypeVar

import msgspec
from sqlalchemy.ext.asyncio import AsyncConnection

from salus.contracts.fold_tables import (
    AGGREGATES,
    OBLIGATIONS,
    Loaded,
    Pair,
    delete_rows,
    read_snapshot,
    write_claims,
    write_rows,
)
from salus.contracts.projection import Contract
from salus.contracts.reactors import Reactor
from salus.contracts.table_projection import TableChanges
from salus.events.effect import Applied, Effect, claims_of, effect_by, request_claim
from salus.events.envelope import Event
from salus.events.event_types import EventData
from salus.events.requests import RequestedData

S = TypeVar("S", bound=msgspec.Struct)
_Concerned = tuple[Contract[Any], Pair]
# So that /healthz is answered meanwhile.
EXPECTED_IN_A_ROW = 100
SEEN = "seen:"
"""What names begin with by which it is kept that a request stands on a topic without effect."""


class _Topic:
    """What a batch knows and changes of a topic: its subjects' versions, and the names claimed on it."""

    def __init__(self, name: str, contracts: Iterable[Contract[Any]]) -> None:
        self.kind = version_kind(name)
        self.names: dict[str, None] = {}
        self.claimed: set[str] = set()
        self.claims: dict[str, None] = {}
        self.versions: dict[str, int] = {}
        self._contracts = [contract for contract in contracts if contract.topic == name]
        self._takers: dict[type[EventData], list[Contract[Any]]] = {}

    def takers(self, kind: type[EventData]) -> list[Contract[Any]]:
        """Return the contracts that events with data of this class may concern."""
        found = self._takers.get(kind)
        if found is None:
            found = self._takers[kind] = [each for each in self._contracts if each.takes(kind)]
        return found


class FoldBatch:
    """The versions, names and aggregates that a batch is about, within the transaction that writes it.

    Versions and names belong to a topic, not to aggregates: services that fold the same topic into other
    aggregates, or only some of its events, agree with its owner on what took effect.
    """

    def __init__(self, contracts: Sequence[Contract[Any]], reactors: Sequence[Reactor[Any]] = ()) -> None:
        self._contracts = contracts
        self._contracts_with_tables = [contract for contract in contracts if contract.tables]
        self._reactors: dict[str, list[Reactor[Any]]] = {}
        for reactor in reactors:
            self._reactors.setdefault(reactor.contract.kind, []).append(reactor)
        self._topics: dict[str, _Topic] = {}
        # Of each event that will be folded, by its identity: itself, the names that it claims, and the
        # aggregates that it concerns.
        self._expected: dict[int, tuple[Event, tuple[str, ...], list[_Concerned]]] = {}
        # What has to be read, in the order in which it was asked for.
        self._keys: dict[Pair, None] = {}
        self._rows: Mapping[Pair, Loaded] = {}
        self._states: dict[Pair, msgspec.Struct] = {}
        self._changed: dict[Pair, tuple[int, msgspec.Struct]] = {}
        # By reactor, aggregate and key: since when it is owed and when it is due, or None once settled.
        self._owed: dict[tuple[str, str, str], tuple[int, int] | None] = {}

    @property
    def obliged(self) -> set[str]:
        """The names of the reactors for which something is owed that was not before."""
        return {name for (name, _, _), owed in self._owed.items() if owed is not None}

    async def expect_all(self, events: Iterable[tuple[str, Event]]) -> None:
        """Expect events, each with its topic; between some of them others have their turns."""
        for number, (topic, event) in enumerate(events, 1):
            self.expect(topic, event)
            if not number % EXPECTED_IN_A_ROW:
                await asyncio.sleep(0)

    def expect(self, topic: str, event: Event) -> None:
        """Note what `load` has to read for an event, which may be long before the batch is folded."""
        of_topic, subject = self._topic(topic), event.envelope.subject
        self._keys[of_topic.kind, subject] = None
        claims = claims_of(event)
        for name in claims:
            of_topic.names[name] = None
        concerned = []
        for contract in of_topic.takers(type(event.data)):
            for aggregate in contract.aggregates(subject, event.data):
                key = contract.kind, aggregate
                self._keys[key] = None
                concerned.append((contract, key))
        self._expected[id(event)] = event, claims, concerned

    async def load(self, connection: AsyncConnection) -> None:
        """Read all that `fold` needs for the events that are expected."""
        names = [(topic, name) for topic, of_topic in self._topics.items() for name in of_topic.names]
        found = await read_snapshot(connection, keys=self._keys, names=names)
        self._rows = found.rows
        for topic, name in found.claims:
            self._topic(topic).claimed.add(name)

    def _topic(self, name: str) -> _Topic:
        found = self._topics.get(name)
        if found is None:
            found = self._topics[name] = _Topic(name, self._contracts)
        return found

    def fold(self, topic: str, event: Event) -> Effect:
        """Return what an accepted event does, and take it into the aggregates if it took effect.

        It was expected. Whether who asked for it had the right was said before: of identity's facts only
        those come here of which the key ring says so, and who may what of other services is their contracts'
        to say.
        """
        of_topic, subject = self._topic(topic), event.envelope.subject
        version = of_topic.versions.get(subject)
        if version is None:
            stored = self._rows.get((of_topic.kind, subject))
            version = stored.version if stored else 0
        _, claims, concerned = self._expected[id(event)]
        effect = effect_by(
            event.envelope.expectedversion if event.type.changes else None,
            version=version,
            claims=claims,
            is_claimed=of_topic.claimed.__contains__,
            is_entitled=_is_entitled,
        )
        if not isinstance(effect, Applied):
            self.note_request(topic, event)
            return effect
        if effect.version != version:
            of_topic.versions[subject] = effect.version
        for name in claims:
            of_topic.claimed.add(name)
            of_topic.claims[name] = None
        if isinstance(event.data, RequestedData) and event.data.part:
            # Its first part may never come: a request of which any part stands is used.
            self.note_request(topic, event)
        for contract, aggregate in concerned:
            self._apply(contract, aggregate, event, version=effect.version)
        return effect

    def note_request(self, topic: str, event: Event) -> None:
        """Keep that the request of an event that had no effect stands on the topic, where all can read it."""
        data = event.data
        if isinstance(data, RequestedData) and data.request.proof is not None:
            self._topic(topic).claims[seen_claim(data.request.proof)] = None

    def _apply(self, contract: Contract[Any], key: Pair, event: Event, *, version: int) -> None:
        state = self._states.get(key)
        if state is None:
            state = self._stored(contract, key[1])
        after = contract.after(state, event)
        self._states[key] = after
        if after != state:
            self._changed[key] = version, after
            for reactor in self._reactors.get(contract.kind, ()):
                self._note_owed(reactor, key[1], before=state, after=after, at=event.envelope.time)

    def _note_owed(
        self, reactor: Reactor[Any], aggregate: str, *, before: Any, after: Any, at: datetime
    ) -> None:
        owed, owes = set(reactor.owes(before)), set(reactor.owes(after))
        since_ms = int(at.timestamp() * 1000)
        for key in owed - owes:
            self._owed[reactor.name, aggregate, key] = None
        for key in owes - owed:
            # What falls due later is open from then on.
            open_ms = max(since_ms, reactor.falls_due_ms(after, key))
            self._owed[reactor.name, aggregate, key] = open_ms, open_ms + int(reactor.grace_s * 1000)

    def _stored(self, contract: Contract[S], aggregate: str) -> S:
        loaded = self._rows.get((contract.kind, aggregate))
        return contract.decode(loaded.state) if loaded else contract.before(aggregate)

    async def write(self, connection: AsyncConnection) -> None:
        """Write what has changed."""
        changed = [
            (kind, name, version, msgspec.json.encode(state))
            for (kind, name), (version, state) in self._changed.items()
        ]
        for topic in self._topics.values():
            changed += [(topic.kind, subject, version, b"") for subject, version in topic.versions.items()]
        # In the order of the index, so that those that go to one page of it follow each other.
        changed.sort()
        rows = [dict(zip(("kind", "id", "version", "state"), row, strict=True)) for row in changed]
        await write_rows(connection, AGGREGATES, rows)
        for name, topic in self._topics.items():
            await write_claims(connection, name, topic.claims)
        for changes in self._table_changes():
            table = changes.projection.table
            await delete_rows(connection, table, changes.deleted)
            await write_rows(connection, table, changes.written)
        await self._write_owed(connection)

    def _table_changes(self) -> Iterable[TableChanges]:
        for contract in self._contracts_with_tables:
            changed = [name for kind, name in self._changed if kind == contract.kind]
            before = {name: self._stored(contract, name) for name in changed}
            for projection in contract.tables:
                changes = TableChanges(projection)
                for name in changed:
                    after = self._states[contract.kind, name]
                    changes.add(name, before=before[name], after=after)
                yield changes

    async def _write_owed(self, connection: AsyncConnection) -> None:
        settled: list[tuple[str, str, str]] = []
        opened: list[dict[str, Any]] = []
        for (reactor, aggregate, key), owed in self._owed.items():
            if owed is None:
                settled.append((reactor, aggregate, key))
                continue
            named = {"reactor": reactor, "aggregate": aggregate, "key": key}
            opened.append({**named, "since_ms": owed[0], "due_ms": owed[1], "attempts": 0})
        await delete_rows(connection, OBLIGATIONS, settled)
        await write_rows(connection, OBLIGATIONS, opened)


def _is_entitled() -> bool:
    return True


@cache
def version_kind(topic: str) -> str:
    """Return the kind under which the versions of a topic's subjects are kept, beside the aggregates."""
    return f"version:{topic}"


def seen_claim(token: str) -> str:
    """Return the name by which it is kept that a request of this token stands on a topic without effect."""
    return f"{SEEN}{request_claim(token)}"
