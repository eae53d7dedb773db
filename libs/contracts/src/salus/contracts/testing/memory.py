"""Topics and their fold in memory, with the faults that publishing can have; for tests of services.

A host over them is the real `ContractHost` with the real `FactWriter`, and keeps the promises that it keeps
on Kafka and SQL: `salus.contracts.testing.host_promises`.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, TypeVar

import msgspec

from salus.contracts.contract import Contract, ContractHost
from salus.contracts.facts import FactWriter
from salus.contracts.fold_batch import version_kind
from salus.contracts.fold_tables import Loaded, Pair
from salus.contracts.keyset import KeysetPage, KeysetQuery
from salus.contracts.table_projection import Row
from salus.contracts.testing.faults import CrashError, Fault, Schedule
from salus.events.catalogue import Catalogue
from salus.events.effect import Applied, Outcome, Refused, Unknown, claims_of, effect_of, request_claim
from salus.events.envelope import Event, decode_event, encode_event
from salus.events.event_types import EventData, type_of
from salus.events.keyring import KeyRing
from salus.events.requests import RequestedData
from salus.messaging import BrokerAwayError, DeliveryError, Position
from salus.runtime.problems import ProblemError
from salus.runtime.publishing import Stated

_S = TypeVar("_S", bound=msgspec.Struct)
NETWORK = "salus.local/dev"
"""The origin of the network whose topics these are, unless another is given: that of the dev kit."""
SERVICE = "did:key:z6MkService"
REFUSED = Refused("key-revoked")
NOT_FOLDED = Unknown("it is not folded yet")


@dataclass(frozen=True, slots=True)
class MemoryRecord:
    """A record, and what judges say of it beside the rule of effect.

    Without an event it is somebody else's, which no aggregate keeps: it changes `subject`, if it names one,
    and claims `names`.
    """

    topic: str
    value: bytes
    event: Event | None = None
    subject: str | None = None
    names: tuple[str, ...] = ()
    entitled: bool = True
    refused: Refused | None = None
    outcome: Outcome = NOT_FOLDED


@dataclass(frozen=True)
class Known:
    """What records come to: versions of subjects, names, aggregates, and where topics end."""

    versions: dict[Pair, int] = field(default_factory=dict)
    claims: set[Pair] = field(default_factory=set)
    seen: set[Pair] = field(default_factory=set)
    rows: dict[Pair, Loaded] = field(default_factory=dict)
    ends: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Known:
        """Return what is known now, whatever comes."""
        return Known(dict(self.versions), set(self.claims), set(self.seen), dict(self.rows), dict(self.ends))

    def state(self, contract: Contract[_S], aggregate: str) -> _S:
        """Return an aggregate."""
        row = self.rows.get((contract.kind, aggregate))
        return contract.before(aggregate) if row is None else contract.decode(row.state)


class MemoryTopics:
    """The topics, each in one partition, and what their records come to.

    Callers may rely on: every event is as its schema says, and takes effect by `salus.events.effect`;
    aggregates are kept encoded. Nobody looks at signatures. Publishing and reading let others go on, as they
    do over a network, so that hosts on the same topics race.
    """

    def __init__(
        self,
        contracts: Iterable[Contract[Any]],
        *,
        catalogue: Catalogue,
        network: str = NETWORK,
        faults: Iterable[Fault | None] = (),
        heard: Callable[[EventData], None] = lambda _: None,
    ) -> None:
        """Fold topics into these aggregates; `heard` is told each event that took effect."""
        self.contracts = tuple(contracts)
        self.records: dict[str, list[MemoryRecord]] = defaultdict(list)
        self.faults = Schedule(faults)
        self.is_away = False
        self.key_signs = True
        # Late events arrive with the next look at the topics, or only with `arrive` and the next event.
        self.holds_late = False
        self.applied: list[EventData] = []
        self.catalogue = catalogue
        self.network = network
        self._heard = heard
        self._late: list[MemoryRecord] = []
        self._known = Known()
        self._numbers = count(1)

    def replica(self) -> MemoryReplica:
        """Return a new replica of the service, as a process that was started has it."""
        return MemoryReplica(self)

    def host(self, contract: Contract[_S]) -> ContractHost[_S]:
        """Return a host of a new replica."""
        return self.replica().host(contract)

    def state(self, contract: Contract[_S], aggregate: str) -> _S:
        """Return an aggregate as it is folded now."""
        return self._known.state(contract, aggregate)

    def put(self, contract: Contract[_S], aggregate: str, state: _S) -> None:
        """Begin a test with an aggregate in this state, whatever events led to it."""
        self._known.rows[contract.kind, aggregate] = Loaded(0, msgspec.json.encode(state))

    def states(self) -> dict[Pair, bytes]:
        """Return every aggregate by kind and id, encoded."""
        return {key: row.state for key, row in self._known.rows.items()}

    def append(self, data: EventData, *, subject: str) -> Outcome:
        """Let somebody else state a fact, by the version that its subject has now; return what came of it."""
        entry = type_of(data)
        version = self._known.versions.get((entry.topic, subject), 0) if entry.changes else None
        at = self._append(self._record(data, subject, version))
        return self._outcome(at)

    def arrive(self) -> None:
        """Let what is late be there."""
        late, self._late = self._late, []
        for record in late:
            self._append(record)

    def looked_at(self) -> Known:
        """Return what is known to who looks at the topics now; raises BrokerAwayError."""
        if self.is_away:
            raise BrokerAwayError("Kafka is away")
        if not self.holds_late:
            self.arrive()
        return self._known.copy()

    def refolded(self) -> MemoryTopics:
        """Return the fold of the same records by a service whose database is empty."""
        anew = MemoryTopics(self.contracts, catalogue=self.catalogue, network=self.network)
        for records in self.records.values():
            for record in records:
                event = None if record.event is None else decode_event(record.value, self.catalogue)
                anew._append(replace(record, event=event))
        return anew

    # --- as ServicePublisher and OwnKey -------------------------------------------------------------

    def require_for(self, _: str) -> None:
        """Raise unless the service's key signs."""
        if not self.key_signs:
            raise ProblemError(503, "service-key-invalid", "the key of the service does not sign")

    async def publish(
        self, data: EventData, *, subject: str, expected_version: int | None = None, event_id: str = ""
    ) -> Stated:
        """Append an event, unless a fault is to be met; raises as the real publisher does."""
        record = self._record(data, subject, expected_version, event_id=event_id)
        await asyncio.sleep(0)
        self.arrive()
        match fault := Fault.LOST if self.is_away else self.faults.take():
            case Fault.LOST:
                raise DeliveryError(fault)
            case Fault.LATE:
                self._late.append(record)
                raise DeliveryError(fault)
            case Fault.CRASH_BEFORE:
                raise CrashError(fault)
            case Fault.REPLACED:
                at = self._append(MemoryRecord(record.topic, b"another record", refused=REFUSED))
                return Stated(at, record.value)
            case Fault.STALE:
                self._append(MemoryRecord(record.topic, b"another change", subject=subject))
            case Fault.NAME_TAKEN:
                self._append(MemoryRecord(record.topic, b"another claim", names=_names_of(record)))
            case Fault.REFUSED:
                record = replace(record, refused=REFUSED)
            case Fault.NOT_ENTITLED:
                record = replace(record, entitled=False)
        at = self._append(record)
        if fault is Fault.CRASH_AFTER:
            raise CrashError(fault)
        await asyncio.sleep(0)
        return Stated(at, record.value)

    # --- the fold -----------------------------------------------------------------------------------

    def _record(
        self, data: EventData, subject: str, expected_version: int | None, *, event_id: str = ""
    ) -> MemoryRecord:
        topic = type_of(data).topic
        value = encode_event(
            data,
            id=event_id or f"e{next(self._numbers)}",
            source=SERVICE,
            subject=subject,
            time=datetime.now(UTC),
            expected_version=expected_version,
        )
        return MemoryRecord(topic, value, decode_event(value, self.catalogue))

    def _append(self, record: MemoryRecord) -> Position:
        records = self.records[record.topic]
        records.append(replace(record, outcome=self._fold(record)))
        self._known.ends[record.topic] = len(records)
        return Position(record.topic, 0, len(records) - 1)

    def _outcome(self, position: Position) -> Outcome:
        return self.records[position.topic][position.offset].outcome

    def _fold(self, record: MemoryRecord) -> Outcome:
        if record.refused is not None:
            return record.refused
        topic, event, known = record.topic, record.event, self._known
        if event is None:
            version = known.versions.get((topic, record.subject or ""), 0)
            if record.subject is not None:
                version = known.versions[topic, record.subject] = version + 1
            known.claims.update((topic, name) for name in record.names)
            return Applied(version)
        subject = event.envelope.subject
        effect = effect_of(
            event,
            version=known.versions.get((topic, subject), 0),
            is_claimed=lambda name: (topic, name) in known.claims,
            is_entitled=lambda: record.entitled,
        )
        is_applied = isinstance(effect, Applied)
        if isinstance(effect, Applied):
            known.versions[topic, subject] = effect.version
            known.claims.update((topic, name) for name in claims_of(event))
            self._apply(topic, event, version=effect.version)
        data = event.data
        if isinstance(data, RequestedData) and data.request.proof and (data.part or not is_applied):
            known.seen.add((topic, request_claim(data.request.proof)))
        return effect

    def _apply(self, topic: str, event: Event, *, version: int) -> None:
        for contract in (each for each in self.contracts if each.topic == topic):
            for name in contract.aggregates(event.envelope.subject, event.data):
                before = self.state(contract, name)
                after = contract.after(before, event)
                if after != before:
                    self._known.rows[contract.kind, name] = Loaded(version, msgspec.json.encode(after))
        self.applied.append(event.data)
        self._heard(event.data)


class MemoryReplica:
    """What a fold and its database are to a process of a service: it knows what was there when it looked."""

    def __init__(self, topics: MemoryTopics) -> None:
        self._topics = topics
        self._known = Known()
        ring = KeyRing(topics.catalogue, network=topics.network)
        self.writer = FactWriter(topics, self, topics, ring=lambda: ring)

    def host(self, contract: Contract[_S]) -> ContractHost[_S]:
        """Return the host of a contract."""
        return ContractHost(contract, follower=self, store=self, writer=self.writer)

    # --- as Follower --------------------------------------------------------------------------------

    async def catch_up(self) -> None:
        """Fold what is there now; until then the replica knows of nothing newer."""
        await asyncio.sleep(0)
        self._known = self._topics.looked_at()

    async def outcome(self, position: Position, *, value: bytes) -> Outcome:
        """Return what became of the record of that value at that position."""
        await self.catch_up()
        record = self._topics.records[position.topic][position.offset]
        return record.outcome if record.value == value else Unknown("Kafka acknowledged another record")

    async def has_stated(self, token: str, *, topic: str) -> bool:
        """Tell whether the request of this token stands on the topic."""
        await self.catch_up()
        name = topic, request_claim(token)
        return name in self._known.claims or name in self._known.seen

    def position(self, topic: str, partition: int = 0) -> int:
        """Return the next offset."""
        return self._known.ends.get(topic, 0) if partition == 0 else 0

    # --- as FoldStore -------------------------------------------------------------------------------

    async def load(self, kind: str, aggregate: str) -> Loaded | None:
        """Return an aggregate, or None if no event concerned it yet."""
        return self._known.rows.get((kind, aggregate))

    async def read_page(self, query: KeysetQuery, *, after: str | None = None, limit: int) -> KeysetPage:
        """Return a page of a declared table, of the rows that the states come to."""
        rows: list[Row] = []
        for contract in self._topics.contracts:
            for projection in (each for each in contract.tables if each.table is query.table):
                of_kind = [name for kind, name in self._known.rows if kind == contract.kind]
                states = ((name, self._known.state(contract, name)) for name in of_kind)
                rows += (row for name, state in states for row in projection.rows_of(name, state).values())
        return query.page(query.among(rows, after=after), limit=limit)

    async def load_some(self, kind: str, aggregates: Collection[str]) -> dict[str, bytes]:
        """Return the encoded states of these aggregates by id."""
        return {
            name: self._known.rows[kind, name].state
            for name in aggregates
            if (kind, name) in self._known.rows
        }

    async def load_at(
        self, aggregates: Sequence[Pair]
    ) -> tuple[dict[tuple[str, int], int], dict[Pair, bytes]]:
        """Return the next offset of each folded topic, and the encoded states as they are there."""
        positions, rows = await self.rows_at(aggregates)
        return positions, {key: row.state for key, row in rows.items()}

    async def rows_at(
        self, aggregates: Sequence[Pair]
    ) -> tuple[dict[tuple[str, int], int], dict[Pair, Loaded]]:
        """Return as `load_at`, each state with its version; also versions of subjects on topics."""
        topics = sorted({contract.topic for contract in self._topics.contracts})
        positions = {(topic, 0): self._known.ends.get(topic, 0) for topic in topics}
        rows = {key: self._known.rows[key] for key in aggregates if key in self._known.rows}
        for topic in topics:
            kind = version_kind(topic)
            for key in aggregates:
                if key[0] == kind and (version := self._known.versions.get((topic, key[1]))) is not None:
                    rows[key] = Loaded(version, b"")
        return positions, rows

    async def load_for_command(self, kind: str, aggregate: str, *, topic: str) -> tuple[bytes | None, int]:
        """Return the encoded state and the version that the subject of that name has on the topic."""
        row = self._known.rows.get((kind, aggregate))
        return None if row is None else row.state, self._known.versions.get((topic, aggregate), 0)


def _names_of(record: MemoryRecord) -> tuple[str, ...]:
    names = () if record.event is None else claims_of(record.event)
    if not names:
        raise ValueError(f"{record.topic}: an event that claims no name cannot lose one to another")
    return names
