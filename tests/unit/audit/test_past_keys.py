"""Which keys were valid at a block, as audit answers it from the ledger's identity events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from tests.asking import UNASKED, truly_asked
from tests.unit.audit.chain import Accepted, Chain, Chains, identity_topic
from tests.unit.audit.people import key_of, signer_of
from tests.unit.audit.samples import IDENTITY, MEMBER, NOON
from tests.unit.audit.test_api import ANALYST, document
from tests.unit.audit.test_indexing import CLINICIAN, PATIENT, index_all
from tests.unit.audit.test_order import registered

from salus.audit.adapters.sql import SqlTrail
from salus.audit.adapters.tables import IDENTITY as IDENTITY_EVENTS
from salus.audit.api import damaged
from salus.audit.domain.identity_history import stamped
from salus.audit.identity_chain import IdentityChain
from salus.audit.past_keys import PastKeys
from salus.audit.past_keys_api import past_keys_routes
from salus.audit.ports import DamagedTrailError
from salus.events.contexts.identity import KeyRevoked
from salus.events.identity_position import UNSEALED_MAX
from salus.events.parties import Party
from salus.ledger.block import header_key
from salus.runtime import problems
from salus.runtime.problems import ProblemError

TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
KEY = f"{CLINICIAN}#k"
STOLEN = NOON + timedelta(seconds=1)
REVOKED = KeyRevoked(CLINICIAN, KEY, "compromised", STOLEN, request=UNASKED)
JOINED, LATER, REVOKING, AFTER, BY_OLD_STATE = range(5)


@dataclass
class Asked:
    chain: Chain
    client: httpx.AsyncClient
    identity: IdentityChain
    caller: Party | None = ANALYST

    async def authenticate(self, _: object) -> Party:
        if self.caller is None:
            raise ProblemError(401, "unauthenticated", "send a bearer")
        return self.caller

    async def get(self, place: str, **query: Any) -> httpx.Response:
        return await self.client.get(f"/blocks/{place}/keys", params=query)

    async def keys(self, height: int, **query: Any) -> dict[str, bool]:
        """Return the ids of the keys that were valid, and whether each is in doubt."""
        answer = await self.get(f"0/{height}", **query)
        return {key["id"]: key["in_doubt"] for key in answer.json()["keys"]}


def one_document(height: int) -> Accepted:
    return Accepted(document(PATIENT, "obj-1"), name=f"doc-{height}")


@pytest.fixture
async def asked(trail: SqlTrail) -> AsyncIterator[Asked]:
    """A clinician joins in block 0, and her key is revoked in block 2; block 4 was judged before that."""
    chain = Chain()
    chain.seal([registered(CLINICIAN)])
    chain.seal([one_document(LATER)])
    at = NOON + timedelta(seconds=REVOKING)
    revoked = truly_asked(REVOKED, signer_of(MEMBER), at=at)
    chain.seal([Accepted(revoked, source=IDENTITY, name="revoked", time=at)])
    chain.seal([one_document(AFTER)])
    chain.seal([one_document(BY_OLD_STATE)], judged_at=1)
    stray = Chain(origin="salus.local/dev/shard/7", shard=7)
    stray.seal([one_document(7)], identity=("salus.other.events", 0))
    await index_all(chain, trail)
    await index_all(stray, trail, chain)
    ledger = Chains(chain, stray)
    identity = IdentityChain(ledger, ledger.keys, identity_topic(), trail.identity)
    await identity.read_on()
    app = FastAPI()
    problems.install(app)
    app.add_exception_handler(DamagedTrailError, damaged)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://audit")
    made = Asked(chain, client, identity)
    past = PastKeys(ledger, trail, ledger.keys, identity_topic(), identity)
    app.include_router(past_keys_routes(past, made.authenticate))
    yield made
    await made.client.aclose()


async def test_a_key_is_valid_from_when_it_joined_to_when_it_was_revoked(asked: Asked) -> None:
    found = {height: await asked.keys(height, party=CLINICIAN) for height in range(4)}

    assert found == {JOINED: {}, LATER: {KEY: True}, REVOKING: {KEY: True}, AFTER: {}}
    assert (await asked.keys(AFTER))[f"{MEMBER}#k"] is False


async def test_a_block_is_answered_by_the_state_that_it_was_judged_by(asked: Asked) -> None:
    """Whatever was asked before: the state of a position rests on the events below it alone."""
    for _ in range(2):
        assert await asked.keys(AFTER, party=CLINICIAN) == {}
        assert await asked.keys(BY_OLD_STATE, party=CLINICIAN) == {KEY: True}


async def test_the_answer_says_what_it_rests_on(asked: Asked) -> None:
    answer = (await asked.get(f"0/{LATER}", party=CLINICIAN)).json()

    assert answer == {
        "block": "0/1",
        "sealed": f"{NOON + timedelta(seconds=1):{TIME}}",
        "identity_position": 1,
        "keys": [
            {
                "id": KEY,
                "party": CLINICIAN,
                "multibase": key_of(CLINICIAN).multibase,
                "valid_from": f"{NOON:{TIME}}",
                "valid_until": None,
                "in_doubt": True,
            }
        ],
        "next": None,
    }


async def test_pages_have_every_key_once(asked: Asked) -> None:
    whole = await asked.keys(LATER)
    seen: list[str] = []
    after: str | None = None
    for _ in whole:
        page = (await asked.get(f"0/{LATER}", limit=1, **({"after": after} if after else {}))).json()
        seen += [key["id"] for key in page["keys"]]
        after = page["next"]

    assert seen == sorted(whole)
    assert after is None


@pytest.mark.parametrize("place", ["0/5", "0/9007199254740991", "1/0"])
async def test_a_block_that_the_trail_does_not_have_is_not_answered(asked: Asked, place: str) -> None:
    answer = await asked.get(place)

    assert (answer.status_code, answer.json()["code"]) == (404, "no-such-block")


@pytest.mark.parametrize("place", ["0/-1", "x/0", "0/9007199254740992"])
async def test_what_is_no_block_is_refused(asked: Asked, place: str) -> None:
    assert (await asked.get(place)).status_code == 422


async def test_a_header_that_is_missing_or_another_one_is_an_alarm_and_no_answer(asked: Asked) -> None:
    objects, there = asked.chain.objects, header_key(0, LATER)
    kept = objects[there]
    for put in (None, objects[header_key(0, AFTER)], kept.replace(b"salus.local/dev", b"salus.local/de2")):
        objects.pop(there, None)
        if put is not None:
            objects[there] = put
        answer = await asked.get(f"0/{LATER}")

        assert (answer.status_code, answer.json()["code"]) == (503, "trail-damaged")


@pytest.mark.parametrize("change", ["other", "gone", "last-gone", "more", "short"])
async def test_identity_events_that_another_hand_changed_are_an_alarm_and_no_answer(
    asked: Asked, trail: SqlTrail, change: str
) -> None:
    # review B9, finding 10: who writes to audit's database chose whose keys were valid
    assert await asked.keys(BY_OLD_STATE, party=CLINICIAN) == {KEY: True}
    kept = await trail.identity.identity_events(9)
    revoking = max(kept)
    changed = {
        "other": {**kept, revoking: stamped(kept[revoking][8:], 1)},
        "gone": {offset: value for offset, value in kept.items() if offset != min(kept)},
        "last-gone": {offset: value for offset, value in kept.items() if offset != revoking},
        "more": {-1: kept[revoking], **kept},
        "short": {**kept, revoking: b"x"},
    }[change]
    await put_events(trail, changed)
    answer = await asked.get(f"0/{REVOKING}")

    assert (answer.status_code, answer.json()["code"]) == (503, "trail-damaged")
    await put_events(trail, kept)
    assert await asked.keys(REVOKING, party=CLINICIAN) == {KEY: True}


async def put_events(trail: SqlTrail, events: Mapping[int, bytes]) -> None:
    async with trail.identity._connection() as connection:
        await connection.execute(IDENTITY_EVENTS.delete())
        rows = [{"offset": offset, "value": value} for offset, value in events.items()]
        await connection.execute(IDENTITY_EVENTS.insert(), rows)


async def test_a_state_that_was_not_read_yet_is_not_guessed(asked: Asked) -> None:
    """As of a replica that has just been started."""
    asked.identity._begin()
    answer = await asked.get(f"0/{LATER}")

    assert (answer.status_code, answer.json()["code"]) == (503, "behind")
    await asked.identity.read_on()
    assert (await asked.get(f"0/{LATER}")).status_code == 200


async def test_what_was_read_and_is_not_in_the_database_yet_is_waited_for(asked: Asked) -> None:
    asked.identity._unnoted = {1: b"the revocation"}
    assert await asked.keys(LATER, party=CLINICIAN) == {KEY: True}
    answer = await asked.get(f"0/{AFTER}")

    assert (answer.status_code, answer.json()["code"]) == (503, "behind")


async def test_a_state_that_there_never_was_is_named(asked: Asked, trail: SqlTrail) -> None:
    asked.chain.seal([one_document(5)], judged_at=UNSEALED_MAX + 3)
    await index_all(asked.chain, trail)
    for place in ("0/5", "7/0"):
        answer = await asked.get(place)

        assert (answer.status_code, answer.json()["code"]) == (409, "identity-ahead")


async def test_who_is_nobody_is_told_nothing(asked: Asked) -> None:
    asked.caller = None

    assert (await asked.get("0/1")).status_code == 401
