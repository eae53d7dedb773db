"""How many commands an account may give to identity: what is registered stays on the ledger for ever."""

from __future__ import annotations

from datetime import UTC, datetime

from tests.unit.identity.test_dids_in_paths import PATH, PORT, client_of, registered
from tests.unit.identity.test_handlers import NETWORK, Memory

from salus.client.auth import make_possession
from salus.events.did import LocalSigner, multibase_of
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


def key_of(seed: int) -> dict[str, str]:
    signer = LocalSigner.from_seed(seed.to_bytes(32), f"{PATH}#{seed}")
    return {
        "id": signer.verification_method,
        "multibase": multibase_of(signer.public_key),
        "valid_from": "2026-11-22T12:00:00Z",
        "proof": make_possession(signer, member=None, network=NETWORK.origin, now=datetime.now(UTC)),
    }


async def test_an_organisation_adds_so_many_keys_to_one_party() -> None:
    # Revoked keys do not count towards the number of keys, and stay for ever.
    memory = Memory()
    await registered(PATH, 9, memory)
    async with client_of(memory) as client:
        for seed in range(100, 100 + KEYS_ADDED.burst):
            added = await client.post(f"/parties/{PATH}/keys", json={"key": key_of(seed)})
            assert added.status_code == 201
            revocation = {"key_id": f"{PATH}#{seed}", "reason": "rotated"}
            assert (await client.post(f"/parties/{PATH}/keys/revoke", json=revocation)).status_code == 200
        one_more = await client.post(f"/parties/{PATH}/keys", json={"key": key_of(99)})

    assert (one_more.status_code, one_more.json()["code"]) == (429, "too-many-requests")
    assert "32 at once and 1 an hour" in one_more.json()["detail"]


async def test_keys_that_are_not_added_use_up_no_limit() -> None:
    # Fifth attack, 5: names of parties that do not exist filled the limit, and nobody added a key.
    memory = Memory()
    await registered(PATH, 9, memory)
    unproven = {**key_of(99), "proof": None}
    async with client_of(memory) as client:
        for _ in range(KEYS_ADDED.burst + 1):
            unknown = await client.post(f"/parties/{PORT}/keys", json={"key": key_of(99)})
            refused = await client.post(f"/parties/{PATH}/keys", json={"key": unproven})

            assert (unknown.status_code, refused.status_code) == (404, 422)
        added = await client.post(f"/parties/{PATH}/keys", json={"key": key_of(99)})

    assert added.status_code == 201
