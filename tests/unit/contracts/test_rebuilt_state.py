"""A state that is folded anew is the one that was, though clocks differ; one that went back is noticed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import msgspec
import pytest
from sqlalchemy import Column, MetaData, Table
from sqlalchemy.ext.asyncio import AsyncConnection
from tests.asking import NETWORK, UNASKED, proofs_of, truly_asked
from tests.databases import Databases
from tests.founding import public_key

from salus.access.state import PatientState
from salus.consent.adapters.folded import PATIENTS
from salus.contracts.fold import Follower
from salus.contracts.fold_store import FoldStore, StateBehindError, open_fold_store
from salus.contracts.keyset import KeysetQuery
from salus.contracts.table_projection import TableProjection, text_column
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import ConsentGranted, ConsentRevoked
from salus.events.contexts.identity import KeyAdded, KeyRevoked, PartyRegistered, RoleGranted, RoleWithdrawn
from salus.events.did import LocalSigner
from salus.events.effect import Applied, Effect, NoEffect, Outcome, Refused, WithoutEffect
from salus.events.envelope import encode_event
from salus.events.keyring import KeyRing
from salus.events.parties import Founder
from salus.events.requests import Request, RequestedData
from salus.events.signature import Signer, sign_values
from salus.identity.domain import PartyState
from salus.identity.folded import PARTIES
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Record
from salus.runtime.identity_view import IDENTITY_TOPIC, IdentityView, apply_identity_record

pytestmark = pytest.mark.usefixtures("backlog")
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
PATIENT = "urn:uuid:6f1c3a52-7a0e-4d5f-9c2b-1f2e3d4c5b6a"
CONSENT_TOPIC = "salus.consent.events"
IDENTITY, CONSENT, OPERATOR, HOSPITAL, CLINICIAN = (
    LocalSigner.from_seed(s * 32) for s in (b"i", b"c", b"o", b"h", b"x")
)
SECOND = LocalSigner.from_seed(b"2" * 32, f"{IDENTITY.did}#second")
GRANTED = ConsentGranted(
    consent=f"{PATIENT.removeprefix('urn:uuid:')}.00000000",
    patient=PATIENT,
    grantee=CLINICIAN.did,
    actions=("read",),
    purposes=("TREAT",),
    valid_from=NOON,
    valid_until=NOON + timedelta(days=9),
    epoch=0,
    request=UNASKED,
)
LISTED = TableProjection[PatientState](
    Table("listed", MetaData(), Column("patient", text_column(64), primary_key=True)), lambda _: ()
)
LISTING = KeysetQuery(LISTED.table, order=("patient",))
REVOKED = ConsentRevoked(consent=GRANTED.consent, patient=PATIENT, epoch=1, request=UNASKED)


def seconds(count: float) -> datetime:
    return NOON + timedelta(seconds=count)


def a_record(  # what a record is made of
    topic: str,
    data: RequestedData,
    *,
    offset: int,
    version: int,
    said: datetime,
    appended: datetime,
    by: LocalSigner,
    subject: str,
    asker: Signer | None = None,
    proofs: dict[str, str] | None = None,
) -> Record:
    """A record that a service, whose clock says `said`, had the broker append at another time."""
    if asker is not None:
        data = truly_asked(data, asker, at=said, proofs=proofs or {})
    value = encode_event(
        data, id=f"e{offset}", source=by.did, subject=subject, time=said, expected_version=version
    )
    header = (SIGNATURE_HEADER, sign_values([value], by)[0])
    return Record(topic, 0, offset, int(appended.timestamp() * 1000), subject.encode(), value, (header,))


class View:
    """The identity topic as far as it was given, folded by when records were appended."""

    def __init__(self, records: Sequence[Record]) -> None:
        founders = [Founder(OPERATOR.did, "person", ("operator",), public_key(OPERATOR))]
        founders += [Founder(CONSENT.did, "service", ("consent",), public_key(CONSENT))]
        founders += [Founder(CLINICIAN.did, "person", ("clinician",), public_key(CLINICIAN))]
        founders += [Founder(HOSPITAL.did, "member", (), public_key(HOSPITAL))]
        self.ring = KeyRing.rooted(
            CATALOGUE, network=NETWORK, did=IDENTITY.did, key=public_key(IDENTITY), founders=founders
        )
        self.outcomes: dict[int, Effect | Refused] = {}
        self.take(records)

    def take(self, records: Sequence[Record]) -> None:
        for record in records:
            self.outcomes[record.offset] = apply_identity_record(self.ring, record)

    def outcome(self, offset: int) -> Effect | Refused:
        return self.outcomes[offset]

    async def catch_up(self) -> KeyRing:
        return self.ring


def follower_of(store: FoldStore, view: View, contract: Any) -> Follower:
    return Follower(cast("Any", None), store=store, identity=cast("IdentityView", view), contracts=[contract])


# Identity's clock is a minute behind the broker's.
BEHIND_S = 60.0


def identity_says(data: Any, offset: int, version: int, said_s: float, **facts: Any) -> Record:
    given = {"by": IDENTITY, "subject": data.did, **facts}
    said, appended = seconds(said_s), seconds(said_s + BEHIND_S)
    return a_record(
        IDENTITY_TOPIC, data, offset=offset, version=version, said=said, appended=appended, **given
    )


def founded() -> list[Record]:
    request = Request.of_service(IDENTITY.did)
    rows: list[tuple[LocalSigner, Any, tuple[Any, ...]]] = [
        (OPERATOR, "person", ("operator",)),
        (CONSENT, "service", ("consent",)),
        (CLINICIAN, "person", ("clinician",)),
        (HOSPITAL, "member", ()),
    ]
    return [
        identity_says(
            PartyRegistered(who.did, kind, (public_key(who),), roles, request=request),
            number,
            0,
            number - 9000,
        )
        for number, (who, kind, roles) in enumerate(rows)
    ]


def rotated(signer: LocalSigner, offset: int, *, said_s: float) -> Record:
    data = KeyRevoked(signer.did, signer.verification_method, "rotated", request=UNASKED)
    return identity_says(data, offset, 1, said_s, asker=signer)


async def folded(url: str, view: View) -> tuple[list[Outcome], PatientState]:
    """Fold what consent said of the patient an hour ago and at noon."""
    records = [
        a_record(
            CONSENT_TOPIC,
            data,
            offset=offset,
            version=offset,
            said=moment,
            appended=moment,
            by=CONSENT,
            subject=PATIENT,
            asker=HOSPITAL,
        )
        for offset, (data, moment) in enumerate([(GRANTED, seconds(-3600)), (REVOKED, NOON)])
    ]
    async with open_fold_store(url) as store:
        outcomes = await follower_of(store, view, PATIENTS)._fold_batch(records, {(CONSENT_TOPIC, 0): 2})
        loaded = await store.load("patient", PATIENT)
        assert loaded is not None
        return [*outcomes.values()], msgspec.json.decode(loaded.state, type=PatientState)


@pytest.mark.parametrize("whose", [CONSENT, HOSPITAL], ids=["the service's key", "the caller's key"])
async def test_what_was_done_is_done_after_its_key_was_rotated(
    databases: Databases, whose: LocalSigner
) -> None:
    # The key is rotated half a minute later; by identity's clock that is half a minute before.
    live = await folded(await databases.url("live"), View(founded()))
    rebuilt = await folded(await databases.url("new"), View([*founded(), rotated(whose, 4, said_s=-30)]))

    assert live[0] == [Applied(1), Applied(2)]
    assert live[1].consents[0].revoked_epoch == 1
    assert rebuilt == live


async def test_identitys_own_state_is_folded_anew_as_everybody_has_it(databases: Databases) -> None:
    proofs = proofs_of(SECOND, at=seconds(-100))
    history = [
        *founded(),
        identity_says(
            KeyAdded(IDENTITY.did, public_key(SECOND), request=UNASKED),
            4,
            0,
            -100,
            asker=IDENTITY,
            proofs=proofs,
        ),
        identity_says(RoleWithdrawn(CLINICIAN.did, "clinician", request=UNASKED), 5, 1, -30, asker=OPERATOR),
        identity_says(
            KeyRevoked(IDENTITY.did, IDENTITY.verification_method, "rotated", request=UNASKED),
            6,
            1,
            0,
            by=SECOND,
            asker=SECOND,
        ),
    ]
    view = View(history)
    async with open_fold_store(await databases.url("new")) as store:
        await store.begin([(IDENTITY_TOPIC, 0)], code=b"1" * 32, tables=PARTIES.tables)
        follower = follower_of(store, view, PARTIES)
        outcomes = await follower._fold_batch(history, {(IDENTITY_TOPIC, 0): len(history)})
        again = identity_says(
            RoleGranted(CLINICIAN.did, "patient", request=UNASKED), 7, 2, 90, by=SECOND, asker=OPERATOR
        )
        view.take([again])
        next_one = await follower._fold_batch([again], {(IDENTITY_TOPIC, 0): 8})
        loaded = await store.load("party", CLINICIAN.did)

    assert [*outcomes.values()] == [view.outcomes[offset] for offset in range(7)]
    assert [*next_one.values()] == [Applied(3)] == [view.outcomes[7]]
    assert loaded is not None
    assert (
        set(msgspec.json.decode(loaded.state, type=PartyState).roles)
        == view.ring.parties[CLINICIAN.did].roles
    )


async def test_a_database_that_went_back_is_folded_again_and_not_over_the_gap(databases: Databases) -> None:
    view, at = View(founded()), (CONSENT_TOPIC, 0)
    facts = [(GRANTED, 0), (REVOKED, 1)]
    records = [
        a_record(
            CONSENT_TOPIC,
            data,
            offset=number,
            version=number,
            said=seconds(number),
            appended=seconds(number),
            by=CONSENT,
            subject=PATIENT,
            asker=HOSPITAL,
        )
        for data, number in facts
    ]
    async with open_fold_store(await databases.url("a")) as store:
        await store.begin([at], code=b"1" * 32, tables=[LISTED])
        follower = follower_of(store, view, PATIENTS)
        await follower._fold_batch(records[:1], {at: 1})
        await store.engine.dispose()
        await databases.save("a")
        await follower._fold_batch(records[1:], {at: 2})
        await store.engine.dispose()
        await databases.put_back("a")

        for reading in (
            # redB6 10c: a service that nobody asks is not ready either.
            store.ping,
            lambda: store.load("patient", PATIENT),
            lambda: store.read_page(LISTING, limit=9),
            lambda: store.load_at([("patient", PATIENT)]),
            lambda: store.load_for_command("patient", PATIENT, topic=CONSENT_TOPIC),
            lambda: follower._fold_batch(records[1:], {at: 2}),
        ):
            with pytest.raises(StateBehindError):
                await reading()
            store._is_behind = False
        stored = await store.restart()
        await follower._fold_batch(records[stored[at] :], {at: 2})
        loaded = await store.load("patient", PATIENT)

    assert stored == {at: 1}
    assert loaded is not None
    assert msgspec.json.decode(loaded.state, type=PatientState).consents[0].revoked_epoch == 1


@pytest.mark.parametrize("reading", ["load", "read_page", "load_at", "load_for_command"])
async def test_what_is_folded_while_somebody_reads_is_no_gap(
    databases: Databases, monkeypatch: pytest.MonkeyPatch, reading: str
) -> None:
    view, at = View(founded()), (CONSENT_TOPIC, 0)
    first, second = (
        a_record(
            CONSENT_TOPIC,
            data,
            offset=number,
            version=number,
            said=NOON,
            appended=NOON,
            by=CONSENT,
            subject=PATIENT,
            asker=HOSPITAL,
        )
        for number, data in enumerate((GRANTED, REVOKED))
    )
    meanwhile: list[Record] = []
    execute = AsyncConnection.execute

    async def slow(connection: AsyncConnection, *statement: Any) -> Any:
        answer = await execute(connection, *statement)
        if meanwhile:
            await follower._fold_batch([meanwhile.pop()], {at: 2})
        return answer

    async with open_fold_store(await databases.url("a")) as store:
        await store.begin([at], code=b"1" * 32, tables=[LISTED])
        follower = follower_of(store, view, PATIENTS)
        await follower._fold_batch([first], {at: 1})
        monkeypatch.setattr(AsyncConnection, "execute", slow)
        meanwhile.append(second)
        readings: dict[str, Callable[[], Awaitable[Any]]] = {
            "load": lambda: store.load("patient", PATIENT),
            "read_page": lambda: store.read_page(LISTING, limit=9),
            "load_at": lambda: store.load_at([("patient", PATIENT)]),
            "load_for_command": lambda: store.load_for_command("patient", PATIENT, topic=CONSENT_TOPIC),
        }
        await readings[reading]()
        store.require_reached()

    assert not meanwhile


async def test_a_request_whose_event_had_no_effect_is_not_answered_again(databases: Databases) -> None:
    # Its token stands on the topic, where all can read it while it is valid.
    stale = a_record(
        CONSENT_TOPIC,
        REVOKED,
        offset=0,
        version=1,
        said=NOON,
        appended=NOON,
        by=CONSENT,
        subject=PATIENT,
        asker=HOSPITAL,
    )
    unentitled = identity_says(
        RoleGranted(CLINICIAN.did, "operator", request=UNASKED), 4, 1, 0, asker=HOSPITAL
    )
    async with open_fold_store(await databases.url("a")) as store:
        view = View([*founded(), unentitled])
        consent, identity = follower_of(store, view, PATIENTS), follower_of(store, view, PARTIES)
        outcomes = await consent._fold_batch([stale], {(CONSENT_TOPIC, 0): 1})
        outcomes |= await identity._fold_batch([unentitled], {(IDENTITY_TOPIC, 0): 5})
        stated = [
            await store.has_stated(token_of(record), topic=record.topic) for record in (stale, unentitled)
        ]

    assert [*outcomes.values()] == [
        WithoutEffect(NoEffect.STALE),
        WithoutEffect(NoEffect.NOT_ENTITLED),
    ]
    assert stated == [True, True]


def token_of(record: Record) -> str:
    token: str = msgspec.json.decode(record.value or b"")["data"]["request"]["proof"]
    return token
