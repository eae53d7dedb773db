"""Identity's database is compared with its topic, and folded anew, beside the service that runs on it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update
from sqlalchemy.ext.asyncio import create_async_engine
from tests.databases import Databases, SqliteDatabases
from tests.integration.identity.test_identity import HOSPITAL, hospital, key_of, network, replica, signing
from tests.integration.postgres import PostgresDatabases

from salus.client.auth import RequestSigner
from salus.contracts.__main__ import DIFFERS, SAME, compare, fold_anew
from salus.devkit.addresses import Addresses
from salus.devkit.network import NetworkFolder
from salus.devkit.waiting import until
from salus.identity.__main__ import SERVICE
from salus.identity.folded import BY_DID
from salus.identity.settings import Settings

__all__ = ["network"]


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Databases:
    if request.param == "sqlite":
        return SqliteDatabases(tmp_path)
    return PostgresDatabases(request.getfixturevalue("postgres_server"))


async def join(client: httpx.AsyncClient, name: str, by: RequestSigner) -> None:
    did = f"{HOSPITAL}:staff:{name}"
    body = {"did": did, "kind": "person", "keys": [key_of(did, member=HOSPITAL)[1]], "member": HOSPITAL}
    assert (await client.post("/parties", json=body, auth=by)).status_code == 201


async def test_a_corrupted_row_is_found_and_gone_once_it_is_folded_anew(
    parts: Addresses, network: NetworkFolder, databases: Databases, capsys: pytest.CaptureFixture[str]
) -> None:
    url = await databases.url("a")
    settings = Settings(
        kafka_bootstrap=parts.kafka_bootstrap,
        network_file=network.file,
        database_url=url,
        http_port=0,
        signing_key_file=network.key_file("identity"),
    )
    staff = f"{HOSPITAL}:staff:1"
    async with replica(parts, network, database_url=url) as client:
        by = signing(await hospital(client, network))
        await join(client, "1", by)
        # Others join while it is compared.
        joining = [asyncio.create_task(join(client, f"more-{n}", by)) for n in range(5)]
        found = [await compare(SERVICE, settings)]
        await asyncio.gather(*joining)

        engine = create_async_engine(url)
        async with engine.begin() as connection:
            await connection.execute(update(BY_DID).where(BY_DID.c.did == staff).values(member="did:web:x"))
        await engine.dispose()
        capsys.readouterr()
        found.append(await compare(SERVICE, settings))
        said = capsys.readouterr().out

        before = (await client.get("/parties", params={"limit": 500})).json()
        await fold_anew(SERVICE, settings)

        async def is_folded() -> bool:
            listed = await client.get("/parties", params={"limit": 500})
            return listed.status_code == 200 and listed.json() == before

        assert await until(is_folded, deadline_s=60)
        found.append(await compare(SERVICE, settings))
        await join(client, "later", by)

    assert found == [SAME, DIFFERS, SAME]
    assert f"identity_parties ('{staff}',): the topics come to another member" in said
