"""A batch of records on its way into the aggregates: read by one statement, written by one for each table.

Folded record by record, each in a batch of its own, they come to the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
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
from salus.events.requests import RequestedData

S = TypeVar("S", bound=msgspec.Struct)
_Concerned = tuple[Contract[Any], Pair]
SEEN = "seen:"
"""What names begin with by which it is kept that a request stands on a topic without effect."""


class FoldBatch:
    """The versions, names and aggregates that a batch is about, within the transaction that writes it.

    Versions and names belong to a topic, not to aggregates: services that fold the same topic into other
    aggregates, or only some of its events, agree with its owner on what took effect.
    """

    def __init__(self, contracts: Sequence[Contract[Any]], reactors: Sequence[Reactor[Any]] = ()) -> None:
        self._contracts: dict[str, list[Contract[Any]]] = {}
        for contract in contracts:
            self._contracts.setdefault(contract.topic, []).append(contract)
        self._contracts_with_tables = [contract for contract in contracts if contract.tables]
        self._reactors: dict[str, list[Reactor[Any]]] = {}
        for reactor in reactors:
            self._reactors.setdefault(reactor.contract.kind, []).append(reactor)
        self._rows: Mapping[Pair, Loaded] = {}
        self._claimed: set[Pair] = set()
        # Of each event that was loaded, by its identity: itself, the names that it claims, and the aggregates
        # that it concerns.
        self._named: dict[int, tuple[Event, list[Pair], list[_Concerned]]] = {}
        self._versions: dict[Pair, int] = {}
        self._states: dict[Pair, msgspec.Struct] = {}
        self._changed: dict[Pair, tuple[int, msgspec.Struct | None]] = {}
        self._claims: dict[Pair, None] = {}
        # By reactor, aggregate and key: since when it is owed and when it is due, or None once settled.
        self._owed: dict[tuple[str, str, str], tuple[int, int] | None] = {}

    @property
    def obliged(self) -> set[str]:
        """The names of the reactors for which something is owed that was not before."""
        return {name for (name, _, _), owed in self._owed.items() if owed is not None}

    async def load(self, connection: AsyncConnection, events: Iterable[tuple[str, Event]]) -> None:
        """Read all that `fold` needs for these events, each with its topic."""
        keys: dict[Pair, None] = {}
        names: dict[Pair, None] = {}
        for topic, event in events:
            subject = event.envelope.subject
            keys[version_kind(topic), subject] = None
            claims = [(topic, name) for name in claims_of(event)]
            names.update(dict.fromkeys(claims))
            concerned = []
            for contract in self._contracts.get(topic, ()):
                for aggregate in contract.aggregates(subject, event.data):
                    key = contract.kind, aggregate
                    keys[key] = None
                    concerned.append((contract, key))
            self._named[id(event)] = event, claims, concerned
        found = await read_snapshot(connection, keys=keys, names=names)
        self._rows, self._claimed = found.rows, found.claims

    def fold(self, topic: str, event: Event) -> Effect:
        """Return what an accepted event does, and take it into the aggregates if it took effect.

        Whether who asked for it had the right was said before: of identity's facts only those come here of
        which the key ring says so, and who may what of other services is their contracts' to say.
        """
        key = version_kind(topic), event.envelope.subject
        version = self._versions.get(key)
        if version is None:
            version = self._rows[key].version if key in self._rows else 0
        _, claims, concerned = self._named[id(event)]
        effect = effect_by(
            event.envelope.expectedversion if event.type.changes else None,
            version=version,
            claims=claims,
            is_claimed=self._claimed.__contains__,
            is_entitled=lambda: True,
        )
        if not isinstance(effect, Applied):
            self.note_request(topic, event)
            return effect
        if effect.version != version:
            self._versions[key] = effect.version
            self._changed[key] = effect.version, None
        self._claimed.update(claims)
        self._claims.update(dict.fromkeys(claims))
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
            self._claims[topic, seen_claim(data.request.proof)] = None

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
        due_ms = since_ms + int(reactor.grace_s * 1000)
        for key in owed ^ owes:
            self._owed[reactor.name, aggregate, key] = (since_ms, due_ms) if key in owes else None

    def _stored(self, contract: Contract[S], aggregate: str) -> S:
        loaded = self._rows.get((contract.kind, aggregate))
        return contract.decode(loaded.state) if loaded else contract.before(aggregate)

    async def write(self, connection: AsyncConnection) -> None:
        """Write what has changed."""
        rows = []
        # In the order of the index, so that those that go to one page of it follow each other.
        for kind, name in sorted(self._changed):
            version, state = self._changed[kind, name]
            encoded = b"" if state is None else msgspec.json.encode(state)
            rows.append({"kind": kind, "id": name, "version": version, "state": encoded})
        await write_rows(connection, AGGREGATES, rows)
        await write_claims(connection, self._claims)
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


def version_kind(topic: str) -> str:
    """Return the kind under which the versions of a topic's subjects are kept, beside the aggregates."""
    return f"version:{topic}"


def seen_claim(token: str) -> str:
    """Return the name by which it is kept that a request of this token stands on a topic without effect."""
    return f"{SEEN}{request_claim(token)}"
