"""The event types that hold at a position of the identity topic: the release's, of services, of members.

A context that a package brings holds from when a service of the network has a role of it: what is installed
somewhere decides no verdict. What joins, is activated or withdrawn counts for records that the broker
appended afterwards, as every fact of identity does, so a record is judged by the types of its moment,
whenever that is done.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from operator import itemgetter

import msgspec

from salus.events.catalogue import Catalogue
from salus.events.context import Context
from salus.events.contexts.identity import (
    EventTypeActivated,
    EventTypeProposed,
    EventTypeWithdrawn,
    PartyKind,
)
from salus.events.event_types import EventType, dataschema_of
from salus.events.rights import Objection
from salus.events.schemas.compatibility import breaks_between
from salus.events.type_definition import definition, faults_of_definition
from salus.events.type_names import is_own_name
from salus.ledger.json_reader import JsonError, read_json

TYPES_MAX = 64
"""Names that one member may have brought: everybody keeps them, for ever."""
FAULTS_SHOWN_MAX = 5
FAULT_CHARS_MAX = 256

TypeFact = EventTypeProposed | EventTypeActivated | EventTypeWithdrawn


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a member proposed last for a type and nobody activated yet; `at` is when it was appended."""

    member: str
    schema: bytes
    dataschema: str
    at: datetime


@dataclass(frozen=True, slots=True)
class OwnType:
    """A type that was activated: in which revision, by which operator, since when, until when if it ended."""

    entry: EventType
    member: str
    revision: int
    by: str
    since: datetime
    until: datetime | None = None


@dataclass
class TypeRegistry:
    """The event types of a release, and of services that joined and of members at each moment that is known.

    `release` has what is installed, contexts that no service joined for included. `proposed` and `own` have
    members' types by name. An `own` one that was withdrawn has an `until`.
    """

    release: Catalogue
    proposed: dict[str, Proposal] = field(default_factory=dict)
    own: dict[str, OwnType] = field(default_factory=dict)
    # The contexts of packages that no service has joined for yet, by each role that lets them hold.
    _waiting: dict[str, Context] = field(init=False, repr=False)
    # The catalogue before any moment, and after each at which it changed, in their order.
    _first: Catalogue = field(init=False, repr=False)
    _catalogues: list[tuple[datetime, Catalogue]] = field(default_factory=list, repr=False)
    _known: Catalogue | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Begin without the contexts that a service has to join for."""
        self._waiting = self.release.joining()
        self._first = self._without_waiting()

    def catalogue_at(self, at: datetime) -> Catalogue:
        """Return the catalogue by which a record is judged that was appended at a moment."""
        if not self._catalogues:
            return self._first
        number = bisect_left(self._catalogues, at, key=itemgetter(0))
        return self._catalogues[number - 1][1] if number else self._first

    @property
    def present(self) -> Catalogue:
        """The catalogue by which the next record will be judged."""
        return self._catalogues[-1][1] if self._catalogues else self._first

    @property
    def known(self) -> Catalogue:
        """The catalogue to read accepted events with: with every type that was ever activated."""
        if self._known is None:
            self._known = self.release.with_types(own.entry for own in self.own.values())
        return self._known

    def catalogue_for(self, kind: PartyKind) -> Catalogue:
        """Return the catalogue whose roles a party of this kind may be given.

        A service may have one of a context that nobody joined for: it is the first.
        """
        return self.release if kind == "service" else self.present

    def join(self, role: str, *, at: datetime) -> None:
        """Let the context of a service's role hold after the moment `at`, if it does not yet."""
        joined = self._waiting.get(role)
        if joined is not None:
            self._waiting = {name: it for name, it in self._waiting.items() if it is not joined}
            self._change(at=at)

    def member_of(self, name: str) -> str | None:
        """Return whose type this is, if it was proposed or activated."""
        found = self.own.get(name) or self.proposed.get(name)
        return None if found is None else found.member

    def objection(self, data: TypeFact) -> Objection | None:
        """Return why a fact about a type cannot be, whoever asks for it; None: it can."""
        match data:
            case EventTypeProposed():
                return self._objection_to_proposal(data)
            case EventTypeActivated():
                waiting = self.proposed.get(data.type)
                if waiting is None or waiting.dataschema != data.dataschema:
                    return Objection("not-proposed", "dataschema: it is not what waits for activation")
            case EventTypeWithdrawn():
                own = self.own.get(data.type)
                if data.type not in self.proposed and (own is None or own.until is not None):
                    return Objection("not-active", "type: it is neither active nor proposed")
        return None

    def apply(self, data: TypeFact, *, at: datetime) -> None:
        """Take a fact as it is; it counts after the moment `at`."""
        match data:
            case EventTypeProposed():
                schema = data.schema.encode()
                dataschema = dataschema_of(data.type, schema)
                self.proposed[data.type] = Proposal(data.member, schema, dataschema, at)
            case EventTypeActivated():
                waiting = self.proposed.pop(data.type, None)
                if waiting is not None:
                    self._activate(data, waiting, at=at)
            case EventTypeWithdrawn():
                self.proposed.pop(data.type, None)
                own = self.own.get(data.type)
                if own is not None and own.until is None:
                    self._put(data.type, replace(own, until=at), at=at)

    def _activate(self, data: EventTypeActivated, waiting: Proposal, *, at: datetime) -> None:
        before = self.own.get(data.type)
        older = frozenset[str]()
        if before is not None:
            older = (before.entry.older_dataschemas | {before.entry.dataschema}) - {waiting.dataschema}
        revision = 1 if before is None else before.revision + 1
        entry = definition(waiting.schema, older)
        self._put(data.type, OwnType(entry, waiting.member, revision, data.request.by, at), at=at)

    def _put(self, name: str, own: OwnType, *, at: datetime) -> None:
        self.own[name] = own
        self._known = None
        self._change(at=at)

    def _change(self, *, at: datetime) -> None:
        active = (each.entry for each in self.own.values() if each.until is None)
        # A broker's clock may be set back: what stands later on the topic does not count earlier.
        at = max(at, self._catalogues[-1][0]) if self._catalogues else at
        self._catalogues.append((at, self._without_waiting().with_types(active)))

    def _without_waiting(self) -> Catalogue:
        return self.release.without([*self._waiting.values()]) if self._waiting else self.release

    def _objection_to_proposal(self, data: EventTypeProposed) -> Objection | None:
        try:
            schema = read_json(data.schema.encode())
        except JsonError as error:
            return Objection("invalid-schema", f"schema: {error.why}")
        size, topics = len(data.schema.encode()), self.release.topics_of_members()
        faults = faults_of_definition(schema, size=size, member=data.member, topics=topics)
        if not faults and schema["x-salus"]["type"] != data.type:
            faults = ["$.x-salus.type: it is not the type that the event is about"]
        if faults:
            return Objection("invalid-schema", _joined(faults))
        own = self.own.get(data.type)
        if own is None:
            names = self.own.keys() | self.proposed.keys() | {data.type}
            if sum(self.member_of(name) in {None, data.member} for name in names) > TYPES_MAX:
                return Objection("too-many-types", f"a member brings {TYPES_MAX} types at most")
            return None
        if own.until is None and own.entry.schema == data.schema.encode():
            return Objection("type-active", "schema: it is active already")
        breaks = breaks_between(msgspec.json.decode(own.entry.schema), schema)
        return Objection("incompatible-schema", _joined([*map(str, breaks)])) if breaks else None


def own_type_of(schema: Mapping[str, object]) -> str:
    """Return the type that a schema names, or nothing if it names none that a member could bring."""
    about = schema.get("x-salus")
    name = about.get("type") if isinstance(about, dict) else None
    return name if isinstance(name, str) and is_own_name(name) else ""


def _joined(sentences: list[str]) -> str:
    """Return some of the sentences; names in them were sent, and may be as long as a schema is."""
    cut = [f"{one[:FAULT_CHARS_MAX]}…" if len(one) > FAULT_CHARS_MAX else one for one in sentences]
    shown = "; ".join(cut[:FAULTS_SHOWN_MAX])
    more = len(sentences) - FAULTS_SHOWN_MAX
    return f"{shown}; and {more} more" if more > 0 else shown
