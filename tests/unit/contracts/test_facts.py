"""Only what took effect is answered as done: every outcome of every publisher, case SEC1 and F4."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

import msgspec
import pytest
from tests.asking import NETWORK, UNASKED, truly_asked

from salus.client import DeliveryError
from salus.contracts.contract import DECISIONS_MAX, Contract, ContractHost, NameTakenError
from salus.contracts.facts import FactWriter
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import KeyRevoked, RoleGranted
from salus.events.contexts.storage import ReadRefused
from salus.events.did import LocalSigner
from salus.events.effect import Applied, NoEffect, Outcome, Refused, Unknown, WithoutEffect
from salus.events.event_types import EventData
from salus.messaging import MessagingError, Position
from salus.runtime.problems import ProblemError
from salus.runtime.publishing import Stated

NOW = datetime.now(UTC)
CALLER = LocalSigner.from_seed(b"c" * 32)
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
STATEMENT = truly_asked(
    ReadRefused(object="o", patient=PATIENT, reader=CALLER.did, reason="no-decision", request=UNASKED),
    CALLER,
    at=NOW,
)
CHANGE = truly_asked(RoleGranted(did=CALLER.did, role="clinician", request=UNASKED), CALLER, at=NOW)
NOT_DONE = [
    (Refused("key-revoked"), 503, "not-accepted"),
    (Refused("invalid-data"), 503, "not-accepted"),
    (Unknown("x"), 503, "outcome-unknown"),
]


@dataclass
class Host:
    """A publisher, a fold and a key; `outcomes` are what becomes of one event after the other."""

    outcomes: list[Outcome | Exception]
    key_fails: bool = False
    published: list[EventData] = field(default_factory=list)

    def require_for(self, _: str) -> None:
        if self.key_fails:
            raise ProblemError(503, "service-key-invalid", "no")

    async def publish(self, data: EventData, **_: object) -> Stated:
        self.published.append(data)
        if isinstance(self.outcomes[0], DeliveryError):
            raise self.outcomes.pop(0)  # type: ignore[misc]  # it is one
        return Stated(Position("t", 0, len(self.published)), b"value")

    async def outcome(self, _: Position, *, value: bytes) -> Outcome:
        assert value == b"value"
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def catch_up(self) -> None:
        pass

    async def load_for_command(self, *_: object, **__: object) -> tuple[None, int]:
        return None, 0

    @property
    def writer(self) -> FactWriter:
        return FactWriter(self, self, self, catalogue=CATALOGUE, network=NETWORK)


class Nothing(msgspec.Struct):
    pass


def contract_of(host: Host) -> ContractHost[Nothing]:
    contract = Contract("nothing", "t", Nothing, lambda state, _: state)
    return ContractHost(contract, follower=host, store=host, writer=host.writer)  # type: ignore[arg-type]  # as above


def host(*outcomes: Outcome | Exception, key_fails: bool = False) -> Host:
    return Host(list(outcomes), key_fails=key_fails)


async def refused(work: object) -> tuple[int, str]:
    with pytest.raises(ProblemError) as caught:
        await work  # type: ignore[misc]  # a coroutine
    return caught.value.status, caught.value.code


async def test_a_statement_that_is_accepted_is_stated() -> None:
    await host(Applied(0)).writer.state(STATEMENT, subject=PATIENT)


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        *NOT_DONE,
        (WithoutEffect(NoEffect.NAME_TAKEN), 409, "conflict"),
        (WithoutEffect(NoEffect.STALE), 409, "conflict"),
    ],
)
async def test_a_statement_that_is_not_known_to_stand_is_a_problem(
    outcome: Outcome, status: int, code: str
) -> None:
    assert await refused(host(outcome).writer.state(STATEMENT, subject=PATIENT)) == (status, code)


@pytest.mark.parametrize(("outcome", "status", "code"), NOT_DONE)
async def test_a_command_that_is_not_known_to_have_taken_effect_is_a_problem(
    outcome: Outcome, status: int, code: str
) -> None:
    assert await refused(contract_of(host(outcome)).execute("a", lambda _: CHANGE)) == (status, code)


@pytest.mark.parametrize("error", [DeliveryError([]), MessagingError("the fold did not get there")])
async def test_an_answer_that_does_not_come_is_an_outcome_that_nobody_knows(error: Exception) -> None:
    assert await refused(host(error).writer.state(STATEMENT, subject=PATIENT)) == (503, "outcome-unknown")


async def test_a_service_whose_key_does_not_sign_states_nothing() -> None:
    made = host(Applied(1), key_fails=True)

    assert await refused(made.writer.state(STATEMENT, subject=PATIENT)) == (503, "service-key-invalid")
    assert await refused(contract_of(made).execute("a", lambda _: CHANGE)) == (503, "service-key-invalid")
    assert made.published == []


async def test_who_was_overtaken_decides_again() -> None:  # case S3
    made, decided = host(*[WithoutEffect(NoEffect.STALE)] * 3, Applied(4)), []

    def decide(_: Nothing) -> EventData:
        decided.append(1)
        return CHANGE

    await contract_of(made).execute("a", decide)
    assert len(decided) == 4


async def test_who_is_overtaken_again_and_again_is_told() -> None:
    made = host(*[WithoutEffect(NoEffect.STALE)] * DECISIONS_MAX)

    assert await refused(contract_of(made).execute("a", lambda _: CHANGE)) == (409, "conflict")


async def test_a_taken_name_is_told_at_once() -> None:
    made = host(WithoutEffect(NoEffect.NAME_TAKEN), Applied(1))

    with pytest.raises(NameTakenError):
        await contract_of(made).execute("a", lambda _: CHANGE)
    assert len(made.published) == 1


ALTERED: list[EventData] = [
    msgspec.structs.replace(CHANGE, role="operator"),
    KeyRevoked(did=CALLER.did, key_id="k", reason="left", request=CHANGE.request),
]


@pytest.mark.parametrize("data", ALTERED, ids=["altered", "another"])
async def test_what_the_caller_did_not_sign_for_is_not_published(data: EventData) -> None:  # case SEC6
    made = host(Applied(1))

    assert await refused(contract_of(made).execute("a", lambda _: data)) == (422, "invalid-request")
    assert made.published == []


async def test_a_decision_may_look_things_up_and_does_so_again_if_another_was_first() -> None:  # case A14
    asked: list[Nothing] = []

    async def decide(state: Nothing) -> EventData:
        asked.append(state)
        return CHANGE

    made = host(WithoutEffect(NoEffect.STALE), Applied(1))

    assert await contract_of(made).execute("a", decide) == CHANGE
    assert (len(asked), made.published) == (2, [CHANGE, CHANGE])
