"""What consent needs from the world."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

from salus.access.actors import Actor
from salus.access.decisions import Inputs, Verdict
from salus.access.grants import GrantIndex
from salus.access.permits import Permit
from salus.access.state import PatientState, PolicyState, PolicyText, SubjectState
from salus.consent.domain.kept_decisions import KeptDecision
from salus.contracts.keyset import KeysetPage
from salus.contracts.queues import Queues
from salus.events.effect import Outcome
from salus.events.event_types import EventData
from salus.events.keyring import KeyRing
from salus.events.state_positions import Partition

_T = TypeVar("_T")


class Patients(Protocol):
    """The contract's host: executes commands on patients' aggregates."""

    def has_turns(self, aggregate: str) -> bool:
        """Tell whether a command on the patient is under way, for which another one would wait."""

    async def execute(
        self,
        aggregate: str,
        decide: Callable[[PatientState], Awaitable[EventData]],
        *,
        look: Callable[[], Awaitable[tuple[PatientState, int]]] | None = None,
    ) -> EventData:
        """Decide, publish and return once the event has taken effect; raises Refusal or ProblemError.

        Commands on one patient take turns; `decide` is asked when it is this one's turn, and again if
        another replica was first. What it goes by is what `look` returns, if that is given.
        """


@dataclass(frozen=True)
class Facts:
    """What is known of a patient, and up to where the topics had been folded that it follows from.

    `policy_set` is the digest of the policy set that is in force there; `grants` are her consents in `state`,
    found by what they allow; `version` is the one that a command on her expects.
    """

    state: PatientState
    subject: SubjectState
    policy_set: str
    positions: Mapping[Partition, int]
    grants: GrantIndex
    version: int


class FactSource(Protocol):
    """The folded state; every answer includes all that was published before the question."""

    async def facts(self, patient: str) -> Facts:
        """Return what is known of the patient; nothing is known of one that no event named."""

    async def facts_to_change(self, patient: str) -> Facts:
        """Return what is known of the patient, as `facts` does, for who is about to change it."""

    async def facts_of(self, patients: Collection[str]) -> Mapping[str, Facts]:
        """Return what is known of each of the patients, all at the same positions."""


class KeptDecisions(Protocol):
    """The decisions that were asked for under an Idempotency-Key."""

    async def kept(self, decisions: Collection[str]) -> Mapping[str, KeptDecision]:
        """Return those that stand on the topic now, by their ids."""


Rows = Sequence[Mapping[str, Any]]
IsShown = Callable[[Rows], Awaitable[Rows]]


class Reviews(Protocol):
    """The emergency accesses that await review, the first one due first."""

    async def page(
        self, steward: str, *, overdue: bool, after: str | None, limit: int, is_shown: IsShown
    ) -> KeysetPage:
        """Return the next accesses to patients of a steward; raises CursorError.

        Of the accesses that name no steward, `is_shown` returns those that the caller is shown.
        """

    async def overdue(self, *, limit: int) -> KeysetPage:
        """Return the accesses of everybody that were called overdue."""


class Permits(Protocol):
    """The host of permits: executes commands on them, which take turns."""

    def has_turns(self, aggregate: str) -> bool:
        """Tell whether a command on the permit is under way, for which another one would wait."""

    async def state(self, aggregate: str) -> Permit:
        """Return a permit, with everything folded that was published before the call."""

    async def states(self, aggregates: Collection[str]) -> Mapping[str, Permit]:
        """Return these permits by id, as `state` does; none that nobody proposed."""

    async def execute(
        self,
        aggregate: str,
        decide: Callable[[Permit], Awaitable[EventData]],
        *,
        look: Callable[[], Awaitable[tuple[Permit, int]]] | None = None,
    ) -> EventData:
        """Decide, publish and return once the event has taken effect; raises Refusal or ProblemError."""


@dataclass(frozen=True)
class PermitFacts:
    """What is known of a permit and of the patient that a question names, all at the same positions.

    `version` is the one that a command on the permit expects. Of no patient nothing is known.
    """

    permit: Permit
    version: int
    state: PatientState
    subject: SubjectState
    positions: Mapping[Partition, int]


class PermitSource(Protocol):
    """Permits as they are folded; every answer includes all that was published before the question."""

    async def known(self, permit: str, patient: str | None) -> PermitFacts:
        """Return what is known now of a permit, and of the patient."""

    async def page(
        self, party: str, *, status: str | None, after: str | None, limit: int, at: datetime
    ) -> KeysetPage:
        """Return the next permits that are a party's business; raises CursorError.

        Of proposals those that can still be approved at that moment, if only proposals are asked for.
        """


class Freshness(Protocol):
    """How old what is known may be."""

    async def within(self, look: Callable[[], Awaitable[_T]]) -> _T:
        """Return what is looked up; raises ProblemError 503 `state-stale` if that takes too long."""


class Statements(Protocol):
    """States facts that change nothing."""

    async def write(self, data: EventData, *, subject: str) -> Outcome:
        """Return what became of the fact, once it is folded; raises ProblemError if nothing was stated."""

    async def state(self, data: EventData, *, subject: str) -> None:
        """Return once the fact is folded; raises ProblemError unless it is known to be accepted."""


class Policies(Protocol):
    """A policy set; `evaluate` denies when anything went wrong, and never raises."""

    @property
    def digest(self) -> str:
        """The SHA-256 that names the policy set."""

    def evaluate(self, inputs: Inputs) -> Verdict:
        """Return the verdict."""

    def words(self, reasons: Iterable[str]) -> tuple[str, ...]:
        """Return what a person is told of reasons, one sentence for each."""


class PolicySets(Protocol):
    """The policy sets that are on the ledger, by their digests."""

    async def of(self, policy_set: str) -> Policies:
        """Return one; raises ProblemError 503 if it cannot be used, so that nothing is decided by it."""


class PolicyStates(Protocol):
    """Which policies are in force, of each service by its DID; commands on them take turns."""

    async def state(self, aggregate: str) -> PolicyState:
        """Return what is folded, with everything that was published before the call."""

    async def execute(
        self, aggregate: str, decide: Callable[[PolicyState], Awaitable[EventData]]
    ) -> EventData:
        """Decide, publish and return once the event has taken effect; raises Refusal or ProblemError."""


class PolicyTexts(Protocol):
    """The texts of policy sets, by their digests."""

    async def state(self, aggregate: str) -> PolicyText:
        """Return the text, with everything folded that was published before; empty if nobody stated it."""


@dataclass(frozen=True)
class Claims:
    """What a decision token is bound to."""

    service: str
    decision: str
    principal: str
    action: str
    object: str
    patient: str
    purpose: str
    epoch: int
    break_glass: bool
    roles: frozenset[str]
    issued: datetime
    expires: datetime


class Tokens(Protocol):
    """Makes decision tokens under the consent service's key."""

    def make(self, claims: Claims) -> str:
        """Return the signed token."""


class Ring(Protocol):
    """The key ring that says who is registered, with which roles."""

    async def catch_up(self) -> KeyRing:
        """Return the ring with everything that has been published until now."""


class Reservation(Protocol):
    """What an account may do once more."""

    def use(self) -> None:
        """Say that one is done."""


class Limit(Protocol):
    """How often an account may do something; raises ProblemError 429 `too-many-requests`."""

    def take(self, account: Actor) -> None:
        """Count one, or raise."""

    def reserved(self, account: Actor, number: int = 1) -> AbstractAsyncContextManager[Reservation]:
        """Hold so many, of which count those that are used, or raise."""


@dataclass(frozen=True)
class Limits:
    """What an account may do only so often, as each leaves something on the ledger for ever.

    `commands` are all that change something but `revocations` (of consents and of links).
    """

    denials: Limit
    glass_breaks: Limit
    commands: Limit
    revocations: Limit


@dataclass(frozen=True)
class World:
    """Everything of the outside that a handler uses."""

    patients: Patients
    facts: FactSource
    decisions: KeptDecisions
    reviews: Reviews
    permits: Permits
    permit_source: PermitSource
    freshness: Freshness
    statements: Statements
    policies: PolicySets
    policy_states: PolicyStates
    policy_texts: PolicyTexts
    # The DID of this service, whose policies they are.
    service: str
    tokens: Tokens
    ring: Ring
    limits: Limits
    queues: Queues
    now: Callable[[], datetime]
