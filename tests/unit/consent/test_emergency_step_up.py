"""An emergency that is refused for want of a fresh login uses up none (review B9, finding 7)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.asking import asked_by
from tests.unit.consent.test_handlers import BROKEN, EMERGENCY, Memory, limits_of
from tests.unit.events.test_sessions import NOON, NORA, NORTH, Town, login
from tests.unit.events.test_step_up import entered

from salus.access.actors import Asking
from salus.consent.decision_handlers import Asked, decide_access
from salus.events.contexts.consent import AccessDecided, GlassBroken
from salus.events.did import LocalSigner
from salus.events.keyring import KeyRing
from salus.runtime.problems import ProblemError

BURST = 2


class Entered(Memory):
    """Consent in a network where a person has a session."""

    def __init__(self, town: Town) -> None:
        super().__init__(BROKEN, limits=limits_of(BURST))
        self.town, self.now = town, NOON

    async def catch_up(self) -> KeyRing:
        return self.town.ring

    async def break_glass(self, session: LocalSigner) -> str | None:
        body = {name: getattr(EMERGENCY, name) for name in ("patient", "object", "action", "purpose")}
        body["break_glass"] = {"reason": EMERGENCY.break_glass}
        request = asked_by(session, "consent", "POST", "/decisions", at=NOON, body=body)
        nora = Asking(NORA, "person", frozenset(), NORTH, request=request)
        asked = Asked(replace(EMERGENCY, principal=nora), f"{next(self.numbers):020x}")
        return (await decide_access(asked, statement=None, at=NOON, world=self.world)).token


async def test_who_has_to_log_in_again_has_used_no_emergency_up() -> None:
    town, stale = entered(signed_on_s_ago=7000)
    memory = Entered(town)
    for _ in range(BURST + 1):
        with pytest.raises(ProblemError, match="insufficient-user-authentication") as refused:
            await memory.break_glass(stale)
        assert refused.value.status == 401
    assert memory.log == []

    again = login()
    opened = again.session(provider=town.ring.logins.providers["north-login"])
    assert town.state(opened) == "done"
    fresh = LocalSigner(again.key, opened.key.id)
    for _ in range(BURST):
        assert await memory.break_glass(fresh)
    assert [type(event) for event in memory.log] == [GlassBroken, AccessDecided] * BURST
    with pytest.raises(ProblemError, match="too-many-requests"):
        await memory.break_glass(fresh)
