"""Only what took effect is answered as done: what is stated, and what is decided; case SEC1 and F4.

What hosts promise besides is in `salus.contracts.testing.host_promises`.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import UTC, datetime

import msgspec
import pytest
from tests.asking import NETWORK, UNASKED, truly_asked
from tests.unit.events.test_sessions import NOON
from tests.unit.events.test_step_up import asked, entered

from salus.contracts.contract import NameTakenError
from salus.contracts.facts import FactWriter
from salus.contracts.testing.faults import Fault
from salus.contracts.testing.host_promises import HELD_KEYS, HeldKeys
from salus.contracts.testing.memory import MemoryTopics
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import PatientLinked
from salus.events.contexts.identity import KeyRevoked, RoleGranted
from salus.events.contexts.storage import ReadRefused
from salus.events.did import LocalSigner
from salus.events.event_types import EventData
from salus.runtime.problems import ProblemError

NOW = datetime.now(UTC)
CALLER = LocalSigner.from_seed(b"c" * 32)
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
STATEMENT = truly_asked(
    ReadRefused(object="o", patient=PATIENT, reader=CALLER.did, reason="no-decision", request=UNASKED),
    CALLER,
    at=NOW,
)
CHANGE = truly_asked(RoleGranted(did=CALLER.did, role="clinician", request=UNASKED), CALLER, at=NOW)


def topics(*faults: Fault | None) -> MemoryTopics:
    return MemoryTopics([HELD_KEYS], catalogue=CATALOGUE, network=NETWORK, faults=faults)


async def refused(work: Awaitable[object]) -> tuple[int, str]:
    with pytest.raises(ProblemError) as caught:
        await work
    return caught.value.status, caught.value.code


async def test_a_statement_that_is_accepted_is_stated() -> None:
    made = topics()
    await made.replica().writer.state(STATEMENT, subject=PATIENT)

    assert made.applied == [STATEMENT]


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault.REFUSED, 503, "not-accepted"),
        (Fault.LOST, 503, "outcome-unknown"),
        (Fault.REPLACED, 503, "outcome-unknown"),
        (Fault.LATE, 503, "outcome-unknown"),
        (Fault.NAME_TAKEN, 409, "conflict"),
    ],
)
async def test_a_statement_that_is_not_known_to_stand_is_a_problem(
    fault: Fault, status: int, code: str
) -> None:
    made = topics(fault)

    assert await refused(made.replica().writer.state(STATEMENT, subject=PATIENT)) == (status, code)
    made.arrive()
    assert made.applied == [STATEMENT] * (fault is Fault.LATE)


async def test_what_takes_a_login_of_a_moment_ago_is_refused_before_it_is_stated() -> None:
    town, session = entered(step_up_acr=("two-factors", "token"))
    made = topics()
    writer = FactWriter(made, made.replica(), made, ring=lambda: town.ring, now=lambda: NOON)
    linked = asked(PatientLinked(patient=PATIENT, did=CALLER.did, request=UNASKED), session, at=NOON)
    with pytest.raises(ProblemError) as caught:
        await writer.write(linked, subject=PATIENT, expected_version=0)

    assert (caught.value.status, caught.value.code) == (401, "insufficient-user-authentication")
    assert caught.value.extra == {"max_age": 300, "acr_values": ["two-factors", "token"]}
    challenge = caught.value.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer error="insufficient_user_authentication", error_description="')
    assert challenge.endswith(', acr_values="two-factors token", max_age="300"')
    assert made.records == {}


async def test_a_service_whose_key_does_not_sign_states_nothing() -> None:
    made = topics()
    made.key_signs = False
    host, writer = made.host(HELD_KEYS), made.replica().writer

    assert await refused(writer.state(STATEMENT, subject=PATIENT)) == (503, "service-key-invalid")
    assert await refused(host.execute("a", lambda _: CHANGE)) == (503, "service-key-invalid")
    assert not made.records


async def test_a_taken_name_is_told_at_once() -> None:
    made, decided = topics(Fault.NAME_TAKEN), list[HeldKeys]()

    def decide(state: HeldKeys) -> EventData:
        decided.append(state)
        return CHANGE

    with pytest.raises(NameTakenError):
        await made.host(HELD_KEYS).execute(CALLER.did, decide)
    assert len(decided) == 1


ALTERED: list[EventData] = [
    msgspec.structs.replace(CHANGE, role="operator"),
    KeyRevoked(did=CALLER.did, key_id=f"{CALLER.did}#k", reason="left", request=CHANGE.request),
]


@pytest.mark.parametrize("data", ALTERED, ids=["altered", "another"])
async def test_what_the_caller_did_not_sign_for_is_not_published(data: EventData) -> None:  # case SEC6
    made = topics()
    host = made.host(HELD_KEYS)

    assert await refused(host.execute(CALLER.did, lambda _: data)) == (422, "invalid-request")
    assert not made.records


async def test_a_decision_may_look_things_up_and_does_so_again_if_another_was_first() -> None:  # case A14
    made, asked = topics(Fault.STALE), list[HeldKeys]()

    async def decide(state: HeldKeys) -> EventData:
        asked.append(state)
        return CHANGE

    assert await made.host(HELD_KEYS).execute(CALLER.did, decide) == CHANGE
    assert (len(asked), made.applied) == (2, [CHANGE])
