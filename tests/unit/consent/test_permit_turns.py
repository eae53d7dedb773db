"""Uses of a permit wait for their turn, and a withdrawal passes them; nothing is told by what is too old."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.consent.permits import (
    ACTORS,
    NOW,
    OPERATOR,
    PARTIES,
    PERMIT,
    RESEARCHER,
    asked,
    granted,
    proposed,
)
from tests.unit.consent.test_handlers import Memory, limits_of

from salus.access.state import SubjectState
from salus.consent.adapters.folded_permits import PERMITS
from salus.consent.adapters.freshness import Freshness
from salus.consent.domain.permits import EVERYBODY, Withdraw
from salus.consent.permit_handlers import Usage, execute_permit, use_permit
from salus.consent.ports import World
from salus.contracts.testing.turns import settled, turn_held
from salus.events.contexts.consent_permits import PermitUsed, PermitUseDenied, PermitWithdrawn
from salus.runtime.problems import ProblemError


def town() -> Memory:
    memory = Memory(parties=PARTIES, subject=SubjectState("did:web:h.example"), limits=limits_of(99))
    memory.now = NOW
    memory.topics.put(PERMITS, PERMIT, granted(uses_max=50))
    return memory


async def ask(world: World, number: int, *, repeatable: bool = False) -> Usage:
    return await use_permit(
        asked(number), actor=ACTORS[RESEARCHER], at=NOW, repeatable=repeatable, world=world
    )


async def test_a_withdrawal_waits_for_one_use_and_no_more() -> None:
    """Case: a researcher asks for all uses at once, and who withdraws the permit comes last."""
    memory = town()
    host: Any = memory.world.permits
    async with turn_held(host, PERMIT):
        uses = [asyncio.create_task(ask(memory.world, number)) for number in range(1, 31)]
        await settled()
        command, actor = Withdraw(PERMIT, "misused"), ACTORS[OPERATOR]
        withdrawing = asyncio.create_task(execute_permit(command, actor=actor, at=NOW, world=memory.world))
        await settled()
    await withdrawing
    answers = await asyncio.gather(*uses)

    assert [type(event) for event in memory.log] == [PermitUsed, PermitWithdrawn, *29 * [PermitUseDenied]]
    assert [answer.reasons for answer in answers[1:]] == 29 * [("permit-withdrawn",)]


async def test_a_repeated_use_is_not_answered_by_a_state_that_is_too_old() -> None:
    memory = town()
    first = await ask(memory.world, 1, repeatable=True)
    looked = memory.world.permit_source.known
    looks = 0

    class Slow:
        async def known(self, permit: str, patient: str | None) -> Any:
            nonlocal looks
            looks += 1
            if looks > 1:
                # Kafka does not say where its topics end.
                await asyncio.Event().wait()
            return await looked(permit, patient)

    freshness = Freshness(age_s_max=0.2, clock=asyncio.get_running_loop().time)
    source: Any = Slow()
    world = replace(memory.world, freshness=freshness, permit_source=source)
    with pytest.raises(ProblemError, match="state-stale"):
        async with asyncio.timeout(60):
            await ask(world, 1, repeatable=True)

    assert first.use is not None


async def test_proposals_that_are_over_hide_none_that_waits_for_an_approval() -> None:
    """Case: a member fills the queue of reviewers with proposals for a second each."""
    memory, names = town(), [f"permit-{number:020x}" for number in range(1, 5)]
    for number, name in enumerate(names):
        end = NOW + timedelta(seconds=number)
        permit = proposed(permit=name, valid_until=end + timedelta(microseconds=1))
        memory.topics.put(PERMITS, name, permit)

    async def listed(status: str | None, after: str | None = None) -> list[str]:
        asked_for: dict[str, Any] = {"status": status, "after": after, "limit": 2}
        at = NOW + timedelta(seconds=1.5)
        page = await memory.world.permit_source.page(EVERYBODY, at=at, **asked_for)
        found = [row["permit"] for row in page.rows]
        return found if page.next is None else [*found, *await listed(status, page.next)]

    assert await listed("proposed") == names[2:]
    assert await listed(None) == [*names, PERMIT]
