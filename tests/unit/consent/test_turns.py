"""Commands wait for their turn: each is decided by what is true then, and a revocation passes the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from msgspec import structs
from tests.asking import UNASKED, asked_by
from tests.unit.consent.test_handlers import (
    BROKEN,
    CLINICIAN,
    EMERGENCY,
    HOSPITAL,
    NOW,
    PATIENT,
    STEWARD,
    STRANGER,
    Memory,
    ask,
    limits_of,
)

from salus.access.actors import Asking
from salus.access.emergencies import GlassBreak
from salus.access.state import PatientState, SubjectState
from salus.consent.adapters.folded import SUBJECTS
from salus.consent.decision_handlers import Asked, decide_access
from salus.consent.domain.consents import (
    UNREVIEWED_MAX,
    UNREVIEWED_OF_ORGANISATION_MAX,
    UNREVIEWED_OF_PATIENT_MAX,
    Command,
    Grant,
    Link,
    Review,
    Revoke,
    Unlink,
)
from salus.consent.handlers import execute, grant
from salus.consent.ports import Facts
from salus.contracts.testing.turns import settled, turn_held
from salus.events.contexts.consent import ConsentGranted, ConsentRevoked
from salus.events.did import LocalSigner
from salus.events.parties import KnownKey, Party
from salus.events.verification_keys import VerificationKey
from salus.runtime.problems import ProblemError
from salus.runtime.refusal import Refusal

SIGNER = LocalSigner.from_seed(b"p" * 32)
SHE, OFFICER = SIGNER.did, "did:web:h.example:o"
AS_HERSELF = Asking(SHE, "person", frozenset({"patient"}), None, request=UNASKED)
AS_OFFICER = Asking(OFFICER, "person", frozenset({"privacy-officer"}), HOSPITAL, request=UNASKED)
AS_STRANGER = Asking(STRANGER, "member", frozenset(), None, request=UNASKED)


def party(did: str, kind: Any, *roles: str, member: str | None = None) -> Party:
    return Party(did, kind, frozenset(roles), member)


PARTIES = {
    SHE: party(SHE, "person", "patient"),
    OFFICER: party(OFFICER, "person", "privacy-officer", member=HOSPITAL),
    CLINICIAN: party(CLINICIAN, "person", "clinician", member=HOSPITAL),
    HOSPITAL: party(HOSPITAL, "member"),
    STRANGER: party(STRANGER, "member"),
}


made = partial(Memory, parties=PARTIES.values())


def a_grant(name: str = "c1") -> Grant:
    return Grant(name, PATIENT, STRANGER, ("read",), ("TREAT",), None, NOW + timedelta(days=9))


def lose_role(memory: Memory, did: str) -> None:
    memory.parties[did] = replace(memory.parties[did], roles=frozenset())


def erase(memory: Memory) -> None:
    memory.topics.put(SUBJECTS, PATIENT, SubjectState(HOSPITAL, erased=True))


def become_member(memory: Memory) -> None:
    memory.parties[STRANGER] = replace(memory.parties[STRANGER], kind="device")


OPEN = (GlassBreak("x.1", CLINICIAN),)
LINKED = PatientState(dids=(SHE,), glass_breaks=OPEN)


@pytest.mark.parametrize(
    ("command", "actor", "change", "code"),
    [
        (a_grant(), AS_HERSELF, lambda m: lose_role(m, SHE), "not-permitted"),
        (a_grant(), AS_OFFICER, lambda m: lose_role(m, OFFICER), "not-permitted"),
        (a_grant(), STEWARD, erase, "patient-erased"),
        (replace(a_grant(), expected_kind="member"), STEWARD, become_member, "grantee-differs"),
        (Link(PATIENT, SHE, is_patient=False), STEWARD, lambda m: lose_role(m, SHE), "not-a-patient"),
        (Review("x.1", PATIENT, "justified"), AS_OFFICER, lambda m: lose_role(m, OFFICER), "not-permitted"),
    ],
)
async def test_a_command_that_waited_is_decided_by_what_is_true_in_its_turn(
    command: Command, actor: Asking, change: Callable[[Memory], None], code: str
) -> None:
    """Case A14: the role was withdrawn while the command waited, and the grant took effect."""
    memory = made(state=replace_dids(LINKED, command))
    async with turn_held(memory.host, PATIENT):
        waiting = asyncio.create_task(execute(command, actor=actor, at=NOW, world=memory.world))
        await settled()
        assert not waiting.done()
        change(memory)
    with pytest.raises(Refusal, match=code):
        await waiting

    assert memory.log == []


class Overtaken:
    """A host that something happens at right after each command."""

    def __init__(self, host: Any, execute: Any) -> None:
        self.has_turns, self.execute = host.has_turns, execute


def replace_dids(state: PatientState, command: Command) -> PatientState:
    return PatientState(glass_breaks=state.glass_breaks) if isinstance(command, Link) else state


async def test_a_command_that_waited_is_not_carried_out_for_a_key_that_signs_no_more() -> None:
    """Case A14, sibling: a stolen key's commands wait, and the key is revoked."""
    proven = asked_by(SIGNER, "consent", "POST", "/consents", at=NOW, body={})
    memory = made(state=LINKED)
    key = KnownKey(
        VerificationKey.of(SIGNER.public_key),
        SHE,
        known_at=NOW - timedelta(days=1),
        valid_from=NOW - timedelta(days=1),
        valid_until=None,
    )
    memory.keys[SIGNER.verification_method] = key
    herself = replace(AS_HERSELF, request=proven)
    async with turn_held(memory.host, PATIENT):
        waiting = asyncio.create_task(execute(a_grant(), actor=herself, at=NOW, world=memory.world))
        await settled()
        assert not waiting.done()
        revoked = replace(key, revoked_at=NOW - timedelta(milliseconds=1))
        memory.keys[SIGNER.verification_method] = revoked
    with pytest.raises(Refusal, match="key-revoked"):
        await waiting

    assert memory.log == []


@pytest.mark.parametrize("breaks_glass", [False, True])
async def test_a_command_that_waited_is_not_carried_out_for_a_key_that_has_ended(
    *, breaks_glass: bool
) -> None:
    """Case: a caller's key that ends, and is not revoked, while its command waits still counts."""
    proven = asked_by(SIGNER, "consent", "POST", "/consents", at=NOW, body={})
    she = replace(party(SHE, "person", "patient", "clinician"), member=HOSPITAL)
    memory = Memory(BROKEN, state=LINKED, parties=[*PARTIES.values(), she])
    memory.keys[SIGNER.verification_method] = KnownKey(
        VerificationKey.of(SIGNER.public_key),
        SHE,
        known_at=NOW - timedelta(days=1),
        valid_from=NOW - timedelta(days=1),
        valid_until=NOW + timedelta(seconds=60),
    )
    roles = frozenset({"patient", "clinician"})
    herself = replace(AS_HERSELF, roles=roles, member=HOSPITAL, request=proven)
    async with turn_held(memory.host, PATIENT):
        if breaks_glass:
            question = replace(EMERGENCY, principal=herself)
            waiting: asyncio.Task[Any] = asyncio.create_task(ask(memory, question))
        else:
            granting = execute(a_grant(), actor=herself, at=NOW, world=memory.world)
            waiting = asyncio.create_task(granting)
        await settled()
        assert not waiting.done()
        memory.now += timedelta(seconds=61)
    with pytest.raises(Refusal, match="key-"):
        await waiting

    assert memory.log == []


async def test_an_emergency_that_waited_needs_the_role_still() -> None:  # case A14, sibling
    memory = made(BROKEN)
    async with turn_held(memory.host, PATIENT):
        waiting = asyncio.create_task(ask(memory, EMERGENCY))
        await settled()
        lose_role(memory, CLINICIAN)
    with pytest.raises(ProblemError, match="conflict"):
        await waiting

    assert memory.log == []


async def test_who_may_not_is_refused_without_waiting() -> None:
    """Case A14: anybody's refused commands kept the patient's queue long."""
    memory = made(state=LINKED)
    async with turn_held(memory.host, PATIENT):
        asking = asyncio.create_task(execute(a_grant(), actor=AS_STRANGER, at=NOW, world=memory.world))
        await settled()

        assert isinstance(asking.exception(), Refusal)


async def test_who_may_not_is_refused_without_waiting_while_others_wait_in_the_queue() -> None:
    """Case A14, sibling: between two turns nobody has the patient's, and the next one waits in the queue."""
    memory = made(state=LINKED)
    async with memory.world.queues.of("command", PATIENT):
        asking = asyncio.create_task(execute(a_grant(), actor=AS_STRANGER, at=NOW, world=memory.world))
        await settled()

        assert not memory.host.has_turns(PATIENT)
        assert isinstance(asking.exception(), Refusal)


async def test_a_command_that_nobody_is_before_looks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    memory, looks = made(state=LINKED), []
    looked = memory.world.facts.facts_to_change

    async def counted(patient: str) -> Facts:
        looks.append(patient)
        return await looked(patient)

    monkeypatch.setattr(memory.world.facts, "facts_to_change", counted)
    await execute(a_grant(), actor=STEWARD, at=NOW, world=memory.world)

    assert (len(memory.log), looks) == (1, [PATIENT])


async def test_a_grant_is_answered_as_it_took_effect_whatever_came_after_it() -> None:
    """Looked at once more, a grant that took effect was refused as taken back, a moment later."""
    memory = made(state=LINKED)
    taken_back = ConsentRevoked(consent="c1", patient=PATIENT, epoch=1, request=UNASKED)
    stated = memory.world.patients.execute

    async def execute_then_revoke(*arguments: Any, **named: Any) -> Any:
        event = await stated(*arguments, **named)
        memory.topics.append(taken_back, subject=PATIENT)
        return event

    world = replace(memory.world, patients=Overtaken(memory.host, execute_then_revoke))
    granted = await grant(a_grant(), actor=STEWARD, at=NOW, repeatable=True, world=world)

    assert (granted.id, granted.grantee, granted.revoked_epoch) == ("c1", STRANGER, None)
    assert memory.state.consents[0].revoked_epoch == 1


@pytest.mark.parametrize("revocation", [Revoke("c0", PATIENT), Unlink(PATIENT, SHE)])
async def test_a_revocation_waits_for_one_command_and_one_emergency_and_no_more(
    revocation: Revoke | Unlink,
) -> None:
    """Case A14: the queue of grants, which nothing limited, delayed a revocation."""
    memory = made(BROKEN, state=LINKED, limits=limits_of(60))
    await execute(a_grant("c0"), actor=STEWARD, at=NOW, world=memory.world)
    async with turn_held(memory.host, PATIENT):
        others = [
            asyncio.create_task(execute(a_grant(f"c{n}"), actor=STEWARD, at=NOW, world=memory.world))
            for n in range(1, 31)
        ]
        emergencies = [asyncio.create_task(ask(memory, EMERGENCY)) for _ in range(30)]
        await settled()
        revoking = asyncio.create_task(execute(revocation, actor=AS_OFFICER, at=NOW, world=memory.world))
        await settled()
    revoked = await revoking
    await asyncio.gather(*others, *emergencies)
    turns = [type(event).__name__ for event in memory.log if type(event).__name__ != "AccessDecided"]

    # First what was granted before, then one command and one emergency.
    assert turns.index(type(revoked).__name__) == 3
    assert turns.count("ConsentGranted") == 31
    assert turns.count("GlassBroken") == 30


async def test_an_account_gives_so_many_commands_and_may_still_revoke() -> None:
    """Case A14: POST /consents has no limit."""
    memory = made(state=LINKED, limits=limits_of(3))
    for number in range(3):
        await execute(a_grant(f"c{number}"), actor=STEWARD, at=NOW, world=memory.world)
    for command in (a_grant("c9"), Link(PATIENT, SHE, is_patient=False)):
        with pytest.raises(ProblemError, match="too-many-requests"):
            await execute(command, actor=STEWARD, at=NOW, world=memory.world)
    for number in range(3):
        await execute(Revoke(f"c{number}", PATIENT), actor=STEWARD, at=NOW, world=memory.world)
    with pytest.raises(ProblemError, match="too-many-requests"):
        await execute(Unlink(PATIENT, SHE), actor=STEWARD, at=NOW, world=memory.world)
    # Each account by itself.
    await execute(a_grant("c9"), actor=AS_OFFICER, at=NOW, world=memory.world)

    assert [type(event) for event in memory.log] == 3 * [ConsentGranted] + 3 * [ConsentRevoked] + [
        ConsentGranted
    ]


async def test_so_many_emergencies_of_one_principal_await_review_and_no_more() -> None:
    """Case A19: unreviewed emergencies made one patient's state grow without end."""
    mine = tuple(GlassBreak(f"x.{number}", CLINICIAN) for number in range(UNREVIEWED_MAX))
    memory = made(BROKEN, state=PatientState(glass_breaks=mine))
    with pytest.raises(Refusal, match="too-many-unreviewed") as refused:
        await ask(memory, EMERGENCY)

    assert (refused.value.status, memory.log) == (409, [])
    await execute(Review("x.0", PATIENT, "justified"), actor=AS_OFFICER, at=NOW, world=memory.world)
    assert await ask(memory, EMERGENCY)
    with pytest.raises(Refusal, match="too-many-unreviewed"):
        await ask(memory, EMERGENCY)
    # What others did is not counted, so nobody keeps somebody else from an emergency.
    others = tuple(GlassBreak(f"x.{number}", STRANGER) for number in range(UNREVIEWED_MAX))
    assert await ask(made(BROKEN, state=PatientState(glass_breaks=others)), EMERGENCY)


async def test_accounts_of_one_organisation_fill_no_patient_s_state() -> None:
    # Red team 4: a member makes accounts at will, and each had 200 emergencies that nobody reviewed.
    def of(member: str | None, number: int) -> tuple[GlassBreak, ...]:
        return tuple(GlassBreak(f"{member}.{i}", f"{member}:{i}", member=member) for i in range(number))

    asked = structs.replace(UNASKED, behalf=HOSPITAL)
    question = replace(EMERGENCY, principal=replace(EMERGENCY.principal, request=asked))
    own = of(HOSPITAL, UNREVIEWED_OF_ORGANISATION_MAX - 1)
    memory = made(BROKEN, state=PatientState(glass_breaks=own))
    assert await ask(memory, question)
    assert memory.state.glass_breaks[-1].organisation == HOSPITAL
    with pytest.raises(Refusal, match="your organisation's"):
        await ask(memory, question)
    for others, refused in ((UNREVIEWED_OF_PATIENT_MAX - 1, False), (UNREVIEWED_OF_PATIENT_MAX, True)):
        memory = made(BROKEN, state=PatientState(glass_breaks=of("did:web:x", others)))
        with pytest.raises(Refusal, match="of all") if refused else nullcontext():
            assert await ask(memory, question)


async def test_emergencies_at_once_do_not_pass_the_maximum() -> None:  # case A19
    mine = tuple(GlassBreak(f"x.{number}", CLINICIAN) for number in range(UNREVIEWED_MAX - 1))
    memory = made(BROKEN, state=PatientState(glass_breaks=mine))
    async with turn_held(memory.host, PATIENT):
        asking = [asyncio.create_task(ask_under(memory, number)) for number in range(5)]
        await settled()
    answers = await asyncio.gather(*asking, return_exceptions=True)

    assert sum(isinstance(one, Refusal) for one in answers) == 4


async def ask_under(memory: Memory, number: int) -> str | None:
    suffix = f"{number:020x}"
    decision = await decide_access(Asked(EMERGENCY, suffix), statement=None, at=NOW, world=memory.world)
    return decision.token
