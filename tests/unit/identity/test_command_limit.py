"""How many commands an account may give to identity: what is registered stays on the ledger for ever."""

from __future__ import annotations

from tests.unit.identity.test_dids_in_paths import PATH, PORT, client_of
from tests.unit.identity.test_handlers import Memory

from salus.identity.api import KEYS_ADDED
from salus.runtime.limits import Rate


async def test_an_account_gives_so_many_commands_and_is_told_when_it_may_go_on() -> None:
    async with client_of(Memory(), commands=Rate(burst=2, per_minute=1)) as client:
        answers = [await client.post(f"/parties/{PATH}/roles", json={"role": "patient"}) for _ in range(3)]
        read = await client.get("/parties")

    assert [answer.status_code for answer in answers] == [404, 404, 429]
    assert answers[-1].json()["code"] == "too-many-requests"
    assert 1 <= int(answers[-1].headers["Retry-After"]) <= 60
    assert read.status_code == 200


async def test_an_organisation_adds_so_many_keys_to_one_party() -> None:
    # Revoked keys do not count towards the number of keys, and stay for ever.
    key = {"id": f"{PATH}#1", "multibase": "z6Mk", "valid_from": "2026-11-22T12:00:00Z"}
    async with client_of(Memory()) as client:
        for _ in range(KEYS_ADDED.burst):
            unknown = await client.post(f"/parties/{PATH}/keys", json={"key": key})
            assert unknown.status_code == 404
        one_more = await client.post(f"/parties/{PATH}/keys", json={"key": key})
        of_another = await client.post(f"/parties/{PORT}/keys", json={"key": key})

    assert (one_more.status_code, one_more.json()["code"]) == (429, "too-many-requests")
    assert "32 at once and 1 an hour" in one_more.json()["detail"]
    assert of_another.status_code == 404
