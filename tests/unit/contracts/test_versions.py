"""A version belongs to topic and subject, so services that fold only some events agree with the owner."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
from tests.asking import UNASKED
from tests.databases import Databases

from salus.contracts.contract import Contract
from salus.contracts.fold_batch import FoldBatch
from salus.contracts.fold_store import FoldStore, open_fold_store
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import AccessDecided, ConsentGranted, ConsentRevoked
from salus.events.effect import Applied
from salus.events.envelope import decode_event, encode_event
from salus.events.event_types import EventData
from salus.events.parties import Party

TOPIC = "salus.consent.events"
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
SERVICE = Party(did="did:web:consent.example", kind="service", roles=frozenset({"consent"}), member=None)


class Epoch(msgspec.Struct, frozen=True):
    epoch: int = 0


def evolve(state: Epoch, data: EventData) -> Epoch:
    return Epoch(data.epoch) if isinstance(data, ConsentRevoked) else state


def only_revocations(subject: str, data: EventData) -> str | None:
    return subject if isinstance(data, ConsentRevoked) else None


EPOCHS = Contract("epoch", TOPIC, Epoch, evolve, only_revocations)
GRANT = ConsentGranted(
    consent="c",
    patient=PATIENT,
    grantee="did:web:h.example",
    actions=("read",),
    purposes=("TREAT",),
    valid_from=NOW,
    valid_until=NOW,
    epoch=0,
    request=UNASKED,
)
DECIDED = AccessDecided(
    decision="d",
    principal="did:web:h.example",
    action="read",
    object="o",
    patient=PATIENT,
    purpose="TREAT",
    allowed=False,
    reasons=(),
    policy_set="0" * 64,
    inputs="0" * 64,
    decided_at=NOW,
    state_positions=(),
    epoch=0,
    valid_until=NOW,
    request=UNASKED,
)
REVOCATION = ConsentRevoked(consent="c", patient=PATIENT, epoch=1, request=UNASKED)


async def fold(store: FoldStore, data: EventData, expected_version: int | None) -> int | None:
    value = encode_event(
        data, id="1", source=SERVICE.did, subject=PATIENT, time=NOW, expected_version=expected_version
    )
    event = decode_event(value, CATALOGUE)
    batch = FoldBatch([EPOCHS])
    async with store.engine.begin() as connection:
        batch.expect(TOPIC, event)
        await batch.load(connection)
        effect = batch.fold(TOPIC, event)
        if not isinstance(effect, Applied):
            return None
        await batch.write(connection)
        await store.set_positions(connection, {(TOPIC, 0): effect.version}, marks={})
    return effect.version


async def test_a_follower_of_revocations_only_sees_the_one_after_a_grant(databases: Databases) -> None:
    async with open_fold_store(await databases.url("a")) as store:
        versions = [await fold(store, GRANT, 0), await fold(store, REVOCATION, 1)]
        raw, version = await store.load_for_command("epoch", PATIENT, topic=TOPIC)

    assert versions == [1, 2]
    assert raw is not None
    assert msgspec.json.decode(raw, type=Epoch) == Epoch(1)
    assert version == 2


async def test_an_event_that_expects_another_version_is_stale_for_everybody(databases: Databases) -> None:
    async with open_fold_store(await databases.url("a")) as store:
        versions = [await fold(store, GRANT, 0), await fold(store, REVOCATION, 0)]
        raw, version = await store.load_for_command("epoch", PATIENT, topic=TOPIC)

    assert versions == [1, None]
    assert raw is None
    assert version == 1


async def test_a_fact_that_changes_nothing_makes_no_command_stale(databases: Databases) -> None:
    async with open_fold_store(await databases.url("a")) as store:
        versions = [await fold(store, DECIDED, None), await fold(store, GRANT, 0)]

    assert versions == [0, 1]
