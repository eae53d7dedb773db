"""How many commands an account may give to identity: what is registered stays on the ledger for ever."""

from __future__ import annotations

from tests.unit.identity.test_dids_in_paths import PATH, client_of
from tests.unit.identity.test_handlers import Memory

from salus.runtime.limits import Rate


async def test_an_account_gives_so_many_commands_and_is_told_when_it_may_go_on() -> None:
    async with client_of(Memory(), commands=Rate(burst=2, per_minute=1)) as client:
        answers = [await client.post(f"/parties/{PATH}/roles", json={"role": "patient"}) for _ in range(3)]
        read = await client.get("/parties")

    assert [answer.status_code for answer in answers] == [404, 404, 429]
    assert answers[-1].json()["code"] == "too-many-requests"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert read.status_code == 200
