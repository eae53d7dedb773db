"""Two processes of identity on one PostgreSQL database: one is killed at work, nothing is lost or doubled."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import httpx
from tests.integration.identity.test_identity import HOSPITAL, hospital, key_of, network, replica, signing
from tests.integration.replicas import Command, Load, replicas, taken

from salus.devkit.addresses import Addresses
from salus.devkit.network import NetworkFolder
from salus.events.did import LocalSigner
from salus.identity.settings import Settings

__all__ = ["network"]


def registration_of(member: LocalSigner) -> Command:
    did = f"{HOSPITAL}:staff:{os.urandom(8).hex()}"
    _, key = key_of(did, member=HOSPITAL)
    body: dict[str, Any] = {"did": did, "kind": "person", "keys": [key], "member": HOSPITAL}

    async def register(http: httpx.AsyncClient, url: str) -> str | None:
        try:
            answer = await http.post(f"{url}/parties", json=body, auth=signing(member))
        except httpx.TransportError:
            return None
        # Nobody else registers it: what an earlier attempt did is found.
        return did if answer.json().get("code") == "party-exists" or taken(answer) else None

    return register


async def people(http: httpx.AsyncClient, url: str) -> list[dict[str, Any]]:
    """Return the hospital's people, page by page."""
    found: list[dict[str, Any]] = []
    after: dict[str, str] = {}
    while True:
        page = (await http.get(f"{url}/parties", params={"member": HOSPITAL, **after})).json()
        found += page["parties"]
        if not page.get("next"):
            return found
        after = {"after": page["next"]}


async def test_of_two_replicas_one_is_killed_and_nothing_is_lost_or_doubled(
    parts: Addresses, network: NetworkFolder, postgres: str
) -> None:
    settings = Settings(
        kafka_bootstrap=parts.kafka_bootstrap,
        network_file=network.file,
        signing_key_file=network.key_file("identity"),
        database_url=postgres,
        http_port=0,
    )
    async with replicas("salus.identity", settings) as started, httpx.AsyncClient(trust_env=False) as http:
        async with httpx.AsyncClient(trust_env=False, base_url=started[0].url) as first:
            member = await hospital(first, network)
        load = Load(started, lambda: registration_of(member))
        left = await load.run()
        kept = await people(http, left.url)
    async with replica(parts, network, "anew.db") as anew:
        folded = await people(anew, "")

    assert kept == folded, "what was folded by two is what one folds"
    assert Counter(party["did"] for party in kept) == Counter(load.answered), "each is there, and once"
