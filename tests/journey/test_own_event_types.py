"""A member brings an event type of its own: proposed, activated by two, stated, judged, in the trail.

Issue 13, section 1, on the whole platform: its parts, its services, the command line and fsck.
"""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.commands import Said, Salus
from tests.integration.cli.test_two_operators import SecondOperator
from tests.journey.test_disaster import check, trail
from tests.journey.test_integrator import status_of
from tests.own_types import name_of, schema_of

from salus.cli.callers import signer_of
from salus.cli.exits import Exit
from salus.client import Publisher, own_event_type
from salus.devkit.platform import Platform
from salus.events.did import LocalSigner
from salus.events.envelope import encode_event
from salus.events.errors import Reason
from salus.events.event_types import EventType, schema_file
from salus.events.signature import sign_values
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Position, Producer

pytestmark = pytest.mark.timeout(600)
PATIENT = "urn:uuid:6f1c7a52-6a0e-4f0e-9d2f-0d3a5c1b9e77"
GOOD = {"patient": PATIENT, "ward": "A.1", "beds": 3}


@pytest.fixture
async def platform(platform_factory: Any) -> Platform:
    made: Platform = await platform_factory()
    return made


@pytest.fixture
async def second(platform: Platform, tmp_path: Path) -> SecondOperator:
    """The second operator, of another organisation, who joins while one is enough."""
    folder = tmp_path / "second"
    folder.mkdir()
    (folder / "network.json").write_bytes(platform.network.file.read_bytes())
    joining = SecondOperator(folder, Salus(folder))
    await joining.prove(tmp_path / "entry")
    first = Salus(platform.state.folder)
    operator = ("--kind", "person", "--role", "operator", "--entry", tmp_path / "entry")
    joined = await first("party", "register", *operator)
    assert joined.code == 0, joined.err
    return joining


async def together(first: Salus, second: SecondOperator, folder: Path, *words: str) -> Said:
    """An act that the first operator asks for, the second approves, and the first sends."""
    request, approval = folder / "request", folder / "approval"
    prepared = await first(*words, "--to-approve", request)
    approved = await second.approve(request, "--yes", "--to", approval)
    assert (prepared.code, approved.code) == (0, 0), prepared.err + approved.err
    return await first("party", "submit", request, "--approval", approval, "--json")


async def test_a_member_brings_a_type_states_events_of_it_and_everybody_judges_them_alike(
    platform: Platform, second: SecondOperator, tmp_path: Path
) -> None:
    salus = Salus(platform.state.folder)
    registered = await together(salus, second, tmp_path, "party", "register", "hospital", "--kind", "member")
    assert registered.code == 0, registered.err
    signer = hospital(platform)
    schema = schema_of(signer.did)
    name, file, data = name_of(schema), tmp_path / "schema.json", json.dumps(GOOD)
    file.write_text(json.dumps(schema))
    mine, publish = ("--as", "hospital"), ("publish", name, "--subject", PATIENT, "--as", "hospital")

    # Nobody else may propose it, and what nobody activated is no type.
    assert (await salus("catalogue", "check", file, "--member", "hospital")).code == 0
    alien = await salus("catalogue", "propose", file, "--as", "operator")
    proposed = await salus("catalogue", "propose", file, *mine, "--json")
    early = await salus(*publish, "--data", data)
    assert (alien.code, proposed.code, early.code) == (Exit.NO, 0, Exit.NO), proposed.err
    assert proposed.json["status"] == "proposed"
    assert "is proposed and was never active" in early.err
    early_at = await send(platform, schema, GOOD)

    # One operator is not enough; two of different organisations are.
    seen = ("--yes", "--dataschema", proposed.json["proposed"]["dataschema"])
    unseen = await salus("catalogue", "activate", name)
    alone = await salus("catalogue", "activate", name, *seen)
    assert (alone.code, "second-operator-needed" in alone.err) == (Exit.NO, True)
    assert (unseen.code, "--dataschema" in unseen.err) == (Exit.USAGE, True)
    activated = await together(salus, second, tmp_path, "catalogue", "activate", name, *seen)
    assert (activated.code, activated.json["status"]) == (0, "active"), activated.err

    # What is as its schema says is accepted; of what is not, the place is named, here and by the ledger.
    receipt = tmp_path / "receipt"
    sent = await salus(*publish, "--data", data, "--receipt", receipt, "--json")
    wrong = await salus(*publish, "--data", json.dumps(GOOD | {"ward": "somewhere"}))
    wrong_at = await send(platform, schema, GOOD | {"ward": "no ward"})
    assert (sent.code, wrong.code) == (0, Exit.NO), sent.err
    assert "$.ward" in wrong.err
    assert (await salus("verify", receipt)).code == 0
    assert await status_of(platform, wrong_at, None) == f"rejected:{Reason.SCHEMA_VIOLATION}"
    assert await status_of(platform, early_at, None) == f"rejected:{Reason.UNKNOWN_TYPE}"

    # Integrators hear of it: on identity's topic, over HTTP and in the document that their tools read.
    listed, table = await salus("catalogue", "list", "--json"), await salus("catalogue", "list")
    assert (table.code, "revision 1 since" in " ".join(table.out.split())) == (0, True), table.out
    assert {each["type"]: each.get("status") for each in listed.json}[name] == "active"
    async with httpx.AsyncClient(base_url=platform.service_url("identity"), timeout=60) as http:
        document = (await http.get("/asyncapi.json")).json()
        shown = (await http.get(f"/event-types/{name}/schema")).content
    assert name in document["components"]["messages"]
    entry = own_event_type(shown, member=signer.did)

    await require_evolution(platform, second, tmp_path, entry)
    await require_end(platform, schema)
    assert (await check(platform)).findings == []


async def require_evolution(
    platform: Platform, second: SecondOperator, folder: Path, entry: EventType
) -> None:
    """A compatible schema replaces the one before; one that breaks is refused, and the break is named."""
    salus, file, signer = Salus(platform.state.folder), folder / "next.json", hospital(platform)
    file.write_text(json.dumps(schema_of(signer.did, required=("patient", "ward", "beds"))))
    breaking = await salus("catalogue", "propose", file, "--as", "hospital")
    assert "$.beds: it was optional and is required" in breaking.err
    wider = schema_of(signer.did, fields={"floor": {"type": "integer", "minimum": 0, "maximum": 9}})
    file.write_text(json.dumps(wider))
    proposed = await salus("catalogue", "propose", file, "--as", "hospital", "--json")
    seen = ("--yes", "--dataschema", proposed.json["proposed"]["dataschema"])
    revised = await together(salus, second, folder, "catalogue", "activate", entry.name, *seen)
    assert revised.json["revision"] == 2, revised.err
    # Whoever still writes by the schema before is heard.
    async with Publisher(platform.kafka_bootstrap, signer, types=[entry]) as publisher:
        handle = await publisher.publish(entry.data(**GOOD), subject=PATIENT)
        older_at = await handle.position()
    assert await status_of(platform, older_at, handle.value) == "accepted"


async def require_end(platform: Platform, schema: dict[str, Any]) -> None:
    """After it is withdrawn, nothing of a type is taken; what is on the ledger stays, in the trail too."""
    salus, name = Salus(platform.state.folder), name_of(schema)
    withdrawn = await salus("catalogue", "withdraw", name, "--as", "hospital", "--json")
    assert (withdrawn.code, withdrawn.json["status"]) == (0, "withdrawn"), withdrawn.err
    late_at = await send(platform, schema, GOOD)
    assert await status_of(platform, late_at, None) == f"rejected:{Reason.UNKNOWN_TYPE}"
    entries = await trail(platform, type=name)
    assert {e["summary"] for e in entries} == {f"{name}: A bed of a ward is occupied."}
    assert {e["patient"] for e in entries} == {PATIENT}
    acts = await trail(platform, about=name, object=name)
    assert {"salus.identity.event-type-proposed.v1", "salus.identity.event-type-activated.v1"} <= {
        e["type"] for e in acts
    }


def hospital(platform: Platform) -> LocalSigner:
    return signer_of(platform, "hospital", None)


async def send(platform: Platform, schema: dict[str, Any], data: dict[str, Any]) -> Position:
    """Send an event of the hospital by other means than our client, which would refuse it."""
    signer = hospital(platform)
    entry = own_event_type(schema_file(schema), member=signer.did)
    value = encode_event(
        entry.data(**GOOD), id=str(uuid.uuid4()), source=signer.did, subject=PATIENT, time=datetime.now(UTC)
    )
    event = json.loads(value)
    event["data"] |= data
    value = json.dumps(event).encode()
    headers = [(SIGNATURE_HEADER, sign_values([value], signer)[0])]
    async with Producer(platform.kafka_bootstrap, client_id="hospital") as producer:
        answer = await producer.enqueue(entry.topic, key=PATIENT.encode(), value=value, headers=headers)
        return await answer
