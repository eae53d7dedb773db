"""A newcomer's case: `salus publish` sent an event of an own type that could only be refused."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from tests.own_types import HOSPITAL, dataschema, name_of, schema_of

from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import NetworkAccess, PartyFacts
from salus.cli.type_facts import writable_type
from salus.events.event_types import schema_file

CLINIC = "did:web:clinic.example"
PARTIES = {
    HOSPITAL: PartyFacts(HOSPITAL, "member", ()),
    CLINIC: PartyFacts(CLINIC, "member", ()),
    f"{HOSPITAL}:doctor": PartyFacts(f"{HOSPITAL}:doctor", "person", (), member=HOSPITAL),
    f"{CLINIC}:doctor": PartyFacts(f"{CLINIC}:doctor", "person", (), member=CLINIC),
}


class Network:
    """Answers as identity does of one event type, and of the parties."""

    def __init__(self, *, owner: str, status: str = "active") -> None:
        self.schema = schema_of(about={"owner": owner})
        self.facts: dict[str, Any] = {
            "type": name_of(self.schema),
            "status": status,
            "meaning": "A bed is occupied.",
            "topic": "salus.clinical.events",
            "owner": owner,
            "sealed": [],
            "retention": "record",
            "dataschema": dataschema(self.schema),
            "member": HOSPITAL,
            "until": "2026-11-30T00:00:00Z" if status == "withdrawn" else None,
        }

    async def ask(self, target: str, **_: object) -> bytes:
        return schema_file(self.schema) if target.endswith("/schema") else json.dumps(self.facts).encode()

    async def party(self, did: str) -> PartyFacts:
        return PARTIES[did]


async def written(network: Network, signer: str) -> str:
    entry = await writable_type(cast("NetworkAccess", network), network.facts["type"], signer=signer)
    return entry.name


@pytest.mark.parametrize(
    ("owner", "signer"),
    [
        (HOSPITAL, HOSPITAL),
        (HOSPITAL, f"{HOSPITAL}:doctor"),
        ("member", CLINIC),
        ("member", f"{CLINIC}:doctor"),
    ],
)
async def test_who_may_state_a_type_publishes_it(owner: str, signer: str) -> None:
    network = Network(owner=owner)

    assert await written(network, signer) == network.facts["type"]


@pytest.mark.parametrize("signer", [CLINIC, f"{CLINIC}:doctor"])
async def test_a_type_of_another_member_is_not_sent_and_its_owner_is_named(signer: str) -> None:
    with pytest.raises(CommandError, match=f"not sent: not-owner: .* its owner is {HOSPITAL}") as refused:
        await written(Network(owner=HOSPITAL), signer)

    assert refused.value.code is Exit.NO


async def test_a_withdrawn_type_is_not_sent() -> None:
    with pytest.raises(CommandError, match=r"was withdrawn at 2026-11-30T00:00:00Z.* unknown-type"):
        await written(Network(owner=HOSPITAL, status="withdrawn"), HOSPITAL)
