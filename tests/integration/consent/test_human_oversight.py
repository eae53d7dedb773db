"""What a policy leaves to a person, on real Kafka: it waits, an officer allows it, and a revocation wins."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
from tests.integration.consent.town import Town, signing

from salus.access.policy_files import read_policies

LEFT = (
    b'@id("left") @review("human") permit (principal, action, resource) unless { context has break_glass };'
)


async def research_of(town: Town, client: httpx.AsyncClient) -> list[str]:
    """Have a permit proposed, approved, used once by two replicas that are asked at once, and withdrawn."""
    told: list[str] = []
    use = {"owner": town.hospital.did, "data_set": "cohort-1", "purpose": "HRESCH"}
    until = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = {**use, "recipient": town.researcher.did, "valid_until": until, "uses_max": 1}
    await client.post("/prohibitions", json={"patient": town.pseudonym}, auth=signing(town.hospital))
    made = (await client.post("/permits", json=body, auth=signing(town.hospital))).json()
    url, terms = f"/permits/{made['permit']}", {"terms": made["terms"]}
    own = await client.post(f"{url}/approve", json=terms, auth=signing(town.hospital))
    approved = await client.post(f"{url}/approve", json=terms, auth=signing(town.reviewer))
    about = {**use, "patient": town.pseudonym}
    forbidden = await client.post(f"{url}/uses", json=about, auth=signing(town.researcher))
    async with town.replica("other.db") as other:
        asked = (one.post(f"{url}/uses", json=use, auth=signing(town.researcher)) for one in (client, other))
        uses = [answer.json() for answer in await asyncio.gather(*asked)]
    gone = await client.post(f"{url}/withdraw", json={"ground": "misused"}, auth=signing(town.operator))
    told += [made["standing"], own.json()["code"], approved.json()["standing"], *forbidden.json()["reasons"]]
    told += sorted((",".join(one["reasons"]) for one in uses), reverse=True)
    return [*told, "gone" if gone.json()["standing"] == "withdrawn" else gone.text]


async def test_an_access_waits_for_an_officer_and_is_allowed_by_asking_again(
    town: Town, tmp_path: Path
) -> None:
    for name, text in read_policies(files("salus.access").joinpath("policies")).items():
        (tmp_path / name).write_bytes(text)
    (tmp_path / "left.cedar").write_bytes(LEFT)
    async with town.replica(policies_folder=tmp_path) as client:

        async def ask() -> dict[str, Any]:
            return await town.ask(signing(town.clinician), client)

        granted = await client.post("/consents", json=town.grant(), auth=signing(town.hospital))
        waiting, again = await ask(), await ask()
        queue = (await client.get("/reviews", auth=signing(town.officer))).json()["reviews"]
        url, body = f"/cases/{waiting['case']}", {"outcome": "approved", "ground": "needed"}
        own = await client.post(f"{url}/decide", json=body, auth=signing(town.clinician))
        approved = await client.post(f"{url}/decide", json=body, auth=signing(town.officer))
        allowed = await ask()
        seen = (await client.get(url, auth=signing(town.clinician))).json()
        await client.post(f"/consents/{granted.json()['consent']}/revoke", auth=signing(town.hospital))
        after = await ask()
        research = await research_of(town, client)
        names = [event.type.name.split(".")[2] for event in await town.events()]

    assert (waiting["allowed"], waiting["pending"], waiting["token"]) == (False, True, None)
    assert again["case"] == waiting["case"]
    assert [(one["kind"], one["decision"]) for one in queue] == [("case", waiting["case"])]
    assert (own.status_code, own.json()["code"]) == (403, "not-permitted")
    assert (approved.status_code, approved.json()["outcome"]) == (200, "approved")
    assert (allowed["allowed"], allowed["case"], bool(allowed["token"])) == (True, waiting["case"], True)
    assert (seen["reviewer"], seen["ground"]) == (town.officer.did, "needed")
    assert (after["allowed"], after["pending"]) == (False, False)
    assert research == [
        "proposed",
        "not-permitted",
        "granted",
        "patient-forbids",
        "permit-used-up",
        "",
        "gone",
    ]
    assert names == [
        "consent-granted",
        "case-opened",
        "access-decided",
        "access-decided",
        "case-decided",
        "access-decided",
        "consent-revoked",
        "access-decided",
        "access-prohibited",
    ]
