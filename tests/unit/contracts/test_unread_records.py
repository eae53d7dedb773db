"""A new user's case: services passed over their own records of another version, and were ready."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from tests.databases import Databases
from tests.unit.contracts.test_rebuilt_state import (
    CONSENT,
    CONSENT_TOPIC,
    GRANTED,
    HOSPITAL,
    IDENTITY,
    NOON,
    PATIENT,
    REVOKED,
    View,
    a_record,
    follower_of,
    founded,
    identity_says,
    rotated,
)

from salus.consent.adapters.folded import PATIENTS
from salus.contracts.fold_store import open_fold_store
from salus.events.contexts.identity import RoleWithdrawn
from salus.events.did import LocalSigner
from salus.events.effect import Refused
from salus.events.keyring import KeyRing
from salus.events.requests import Request
from salus.events.signature import sign_values
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import MessagingError, Record
from salus.runtime.identity_view import IDENTITY_TOPIC, IdentityView
from salus.runtime.own_key import OwnKey
from salus.runtime.unread_records import HALTED, UnreadRecordError

pytestmark = pytest.mark.usefixtures("backlog")
Change = Callable[[dict[str, Any]], dict[str, Any]]


class TakenView(IdentityView):
    """Has been given all that is in the topic."""

    async def catch_up(self) -> KeyRing:
        return self.ring


def of_another_schema(event: dict[str, Any]) -> dict[str, Any]:
    name, _, _ = event["dataschema"].rpartition(":")
    return event | {"dataschema": f"{name}:{'0' * 64}"}


def with_a_field_more(event: dict[str, Any]) -> dict[str, Any]:
    return event | {"data": event["data"] | {"ward": "7"}}


def of_a_type_to_come(event: dict[str, Any]) -> dict[str, Any]:
    return event | {"type": "salus.consent.consent-paused.v1"}


def with_an_attribute_more(event: dict[str, Any]) -> dict[str, Any]:
    return event | {"salusepoch": 1}


def changed(record: Record, change: Change, *, by: LocalSigner) -> Record:
    value = msgspec.json.encode(change(msgspec.json.decode(record.value or b"")))
    header = (SIGNATURE_HEADER, sign_values([value], by)[0])
    return Record(
        record.topic, record.partition, record.offset, record.timestamp_ms, record.key, value, (header,)
    )


def revoked(change: Change = lambda event: event, *, by: LocalSigner = CONSENT) -> list[Record]:
    return [
        a_record(
            CONSENT_TOPIC,
            GRANTED,
            offset=0,
            version=0,
            said=NOON,
            appended=NOON,
            by=CONSENT,
            subject=PATIENT,
            asker=HOSPITAL,
        ),
        changed(
            a_record(
                CONSENT_TOPIC,
                REVOKED,
                offset=1,
                version=1,
                said=NOON,
                appended=NOON,
                by=by,
                subject=PATIENT,
                asker=HOSPITAL,
            ),
            change,
            by=by,
        ),
    ]


@pytest.mark.parametrize(
    "change", [of_another_schema, with_a_field_more, of_a_type_to_come, with_an_attribute_more]
)
async def test_a_service_stops_before_its_own_record_of_another_version(
    databases: Databases, change: Change
) -> None:
    async with open_fold_store(await databases.url("a")) as store:
        follower = follower_of(store, View(founded()), PATIENTS)

        # Also after a start: the position stays before the record.
        for _ in range(2):
            with pytest.raises(UnreadRecordError, match=r"salus\.consent\.events 0 1 .* another version"):
                await follower._fold_batch(revoked(change), {(CONSENT_TOPIC, 0): 2})

        assert await store.positions() in ({}, {(CONSENT_TOPIC, 0): 0})
        assert HALTED.labels(CONSENT_TOPIC)._value.get() == 1


async def test_the_service_is_not_ready_then() -> None:
    follower = follower_of(cast("Any", None), View(founded()), PATIENTS)
    follower._reader = cast("Any", type("Whole", (), {"require_whole_topics": lambda _: None})())
    follower._trouble = UnreadRecordError(
        revoked()[1], "schema-violation", method=CONSENT.verification_method
    )

    with pytest.raises(MessagingError, match=r"folding waits: UnreadRecordError: .* another version"):
        await follower.check()


async def test_what_others_write_there_stops_nobody(databases: Databases) -> None:
    async with open_fold_store(await databases.url("a")) as store:
        follower = follower_of(store, View(founded()), PATIENTS)
        records = revoked(of_a_type_to_come, by=HOSPITAL)

        outcomes = await follower._fold_batch(records, {(CONSENT_TOPIC, 0): 2})

    assert outcomes[records[1].at] == Refused("unknown-type")


async def test_a_thief_of_the_key_stops_nobody_once_it_is_revoked(databases: Databases) -> None:
    history = [*founded(), rotated(CONSENT, 4, said_s=30)]
    async with open_fold_store(await databases.url("a")) as store:
        follower = follower_of(store, View(history), PATIENTS)

        outcomes = await follower._fold_batch(revoked(of_a_type_to_come), {(CONSENT_TOPIC, 0): 2})

    assert outcomes[revoked()[1].at] == Refused("unknown-type")


async def test_nobody_is_ready_without_what_identity_of_another_version_wrote() -> None:
    said = RoleWithdrawn(HOSPITAL.did, "operator", request=Request.of_service(IDENTITY.did))
    withdrawn = changed(identity_says(said, 4, 1, 0), of_another_schema, by=IDENTITY)
    network: Any = SimpleNamespace(restored_ranges=dict, new_ring=lambda: View(founded()).ring)
    view = TakenView(cast("Any", None), network)
    own = OwnKey(view, CONSENT, role="consent")
    await own.check()

    view._take([withdrawn])

    with pytest.raises(UnreadRecordError, match=r"salus\.identity\.events 0 4"):
        await own.check()
    assert HALTED.labels(IDENTITY_TOPIC)._value.get() == 1
