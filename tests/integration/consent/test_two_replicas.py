"""Two processes of consent on one PostgreSQL database: one is killed at work, nothing is lost or doubled."""

from __future__ import annotations

import uuid
from collections import Counter

import httpx
from tests.integration.consent.town import Town, signing
from tests.integration.replicas import Command, Load, replicas, taken

from salus.events.contexts.consent import ConsentGranted


def grants_of(town: Town) -> Command:
    body, headers = town.grant(), {"Idempotency-Key": str(uuid.uuid4())}

    async def grant(http: httpx.AsyncClient, url: str) -> str | None:
        try:
            answer = await http.post(
                f"{url}/consents", json=body, headers=headers, auth=signing(town.hospital)
            )
        except httpx.TransportError:
            return None
        return str(answer.json()["consent"]) if taken(answer) else None

    return grant


async def test_of_two_replicas_one_is_killed_and_nothing_is_lost_or_doubled(
    town: Town, postgres: str
) -> None:
    consents = f"/patients/{town.pseudonym}/consents"
    settings = town.settings(postgres, commands_burst_max=10_000)
    async with replicas("salus.consent", settings) as started, httpx.AsyncClient(trust_env=False) as http:
        load = Load(started, lambda: grants_of(town))
        left = await load.run()
        kept = (await http.get(f"{left.url}{consents}", auth=signing(town.hospital))).json()
    async with town.replica("anew.db") as anew:
        folded = (await anew.get(consents, auth=signing(town.hospital))).json()
    stated = [event.data for event in await town.events()]

    assert kept == folded, "what was folded by two is what one folds"
    listed = Counter(consent["consent"] for consent in kept["consents"])
    assert listed == Counter(load.answered), "each is there, and once"
    assert listed.keys() == {data.consent for data in stated if isinstance(data, ConsentGranted)}
