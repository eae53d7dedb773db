"""What a stolen key signed is named as in doubt, wherever the trail shows it, and stays as it was."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import fields
from datetime import timedelta
from hashlib import sha256

import msgspec
import pytest
from tests.asking import UNASKED, truly_asked
from tests.unit.audit.chain import Accepted, Chain
from tests.unit.audit.people import key_of, signer_of
from tests.unit.audit.samples import AROUND, MEMBER, NOON, STORAGE
from tests.unit.audit.test_api import World
from tests.unit.audit.test_indexing import CLINICIAN, PATIENT, READ, index_all

from salus.audit.adapters.sql import SqlTrail
from salus.audit.domain.fhir import audit_event_of
from salus.audit.domain.meanings import facts_of
from salus.audit.domain.ocsf import ocsf_of
from salus.audit.domain.search import Question, Visibility
from salus.audit.domain.signing_keys import signing_keys
from salus.client.auth import RequestLine, make_approval
from salus.events.contexts.identity import KeyRevoked, PartyRegistered
from salus.events.did import LocalSigner
from salus.events.logins import KnownSession
from salus.events.parties import KnownKey
from salus.events.requests import Request
from salus.events.signature import sign_values
from salus.events.step_up import Authentication

KEY = f"{CLINICIAN}#k"
STOLEN = NOON + timedelta(seconds=1)
REVOKED = KeyRevoked(CLINICIAN, KEY, "compromised", STOLEN, request=UNASKED)


@pytest.fixture
async def world(trail: SqlTrail) -> AsyncIterator[World]:
    """Three reads by a clinician, a second apart, of which the last two were appended since the theft."""
    chain = Chain()
    for number in range(3):
        read = truly_asked(
            msgspec.structs.replace(READ, decision=f"dec-{number}"), signer_of(CLINICIAN), at=NOON
        )
        other = msgspec.structs.replace(READ, reader=MEMBER, decision=f"own-{number}")
        chain.seal(
            [
                Accepted(read, source=STORAGE, name=f"read-{number}", subject=PATIENT),
                Accepted(
                    truly_asked(other, signer_of(MEMBER), at=NOON), source=STORAGE, name=f"own-{number}"
                ),
            ]
        )
    await index_all(chain, trail)
    made = World(trail)
    made.ring.apply(
        PartyRegistered(CLINICIAN, "person", (key_of(CLINICIAN),), member=MEMBER, request=UNASKED)
    )
    yield made
    await made.client.aclose()


async def test_nothing_is_in_doubt_before_somebody_says_so(world: World) -> None:
    entries = (await world.get("/trail")).json()["entries"]

    assert [entry["in_doubt"] for entry in entries] == [[]] * 6
    assert await world.ids(in_doubt=KEY) == []


async def test_what_was_asked_with_a_stolen_key_since_then_is_in_doubt_and_stays(world: World) -> None:
    before = (await world.get("/trail")).json()["entries"]
    world.ring.apply(REVOKED, at=NOON + timedelta(minutes=1))

    entries = (await world.get("/trail")).json()["entries"]
    assert {entry["id"]: entry["in_doubt"] for entry in entries} == {
        "read-0": [], "read-1": [KEY], "read-2": [KEY], "own-0": [], "own-1": [], "own-2": [],
    }  # fmt: skip
    assert [entry | {"in_doubt": []} for entry in entries] == before
    assert await world.ids(in_doubt=KEY) == ["read-2", "read-1"]
    assert await world.ids(in_doubt=f"{MEMBER}#k") == []
    # An id that others begin with is no pattern.
    assert await world.ids(in_doubt=KEY[:-1]) == await world.ids(in_doubt="%") == []
    leaf = next(entry["uid"] for entry in entries if entry["id"] == "read-2")
    assert (await world.get(f"/trail/leaf/{leaf}")).json()["in_doubt"] == [KEY]


async def test_what_was_asked_in_a_stolen_session_is_listed_too(world: World) -> None:
    """Case redC8 12: the list asked for keys of parties alone, and was empty."""
    world.ring.apply(REVOKED, at=NOON + timedelta(minutes=1))
    known = {each.name: getattr(world.ring.keys[KEY], each.name) for each in fields(KnownKey)}
    del world.ring.keys[KEY]
    login = Authentication(NOON, None)
    session = KnownSession(**known, provider="clinic", authentication=login, levels=None)
    world.ring.logins.keys[KEY] = session

    assert await world.ids(in_doubt=KEY) == ["read-2", "read-1"]


async def test_soc_and_fhir_hold_what_tells_doubt(world: World) -> None:
    found = await world.trail.search(Question(after=0), Visibility(everything=True), limit=10)
    entry = next(each.entry for each in found if each.entry.id == "read-1")

    assert ocsf_of(entry, AROUND)["unmapped"]["keys"] == [KEY]
    details = audit_event_of(entry, AROUND)["entity"][1]["detail"]
    assert {"type": "keys", "valueString": KEY} in details
    facts = facts_of(REVOKED)
    assert facts is not None
    revoked = msgspec.structs.replace(entry, facts=facts)
    assert ocsf_of(revoked, AROUND)["unmapped"]["doubted_since"] == STOLEN.isoformat()
    assert ocsf_of(revoked, AROUND)["severity_id"] == 4
    details = audit_event_of(revoked, AROUND)["entity"][1]["detail"]
    assert {"type": "doubted-since", "valueString": STOLEN.isoformat()} in details


def test_an_event_rests_on_the_keys_of_its_author_of_who_asked_and_of_who_approved() -> None:
    service, asker, second = (LocalSigner.from_seed(sha256(name).digest()) for name in (b"s", b"a", b"o"))
    asked = truly_asked(msgspec.structs.replace(REVOKED, since=None), asker, at=NOON)
    approval = make_approval(second, RequestLine("POST", "/", b""), network="n", now=NOON)
    data = msgspec.structs.replace(asked, request=msgspec.structs.replace(asked.request, approval=approval))
    (signature,) = sign_values([b"value"], service)

    ids = (service.verification_method, asker.verification_method, second.verification_method)
    assert signing_keys(signature, data) == ids
    assert signing_keys(signature, None) == ids[:1]
    own = msgspec.structs.replace(REVOKED, request=Request.of_service(service.did))
    assert signing_keys(signature, own) == ids[:1]
    assert signing_keys(b"no signature", None) == signing_keys(None, None) == ()
