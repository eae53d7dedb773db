"""Versions of a service on one database, in turns or side by side: what another one folded is folded anew."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from tests.asking import UNASKED
from tests.databases import Databases
from tests.unit.contracts.test_rebuilt_state import (
    CONSENT,
    CONSENT_TOPIC,
    HOSPITAL,
    IDENTITY,
    LISTED,
    LISTING,
    PATIENT,
    View,
    follower_of,
    founded,
    identity_says,
)
from tests.unit.contracts.test_unread_records import (
    TakenView,
    changed,
    of_a_type_to_come,
    of_another_schema,
    revoked,
)

from salus.access.state import PatientState
from salus.consent.adapters.folded import PATIENTS, POLICIES
from salus.contracts.fold_store import FoldStore, Mark, OtherCodeError, open_fold_store
from salus.contracts.projection import Contract, digest_of
from salus.events.catalogue import Catalogue
from salus.events.contexts import CATALOGUE, CONTEXTS
from salus.events.contexts.identity import KeyRevoked
from salus.events.did import LocalSigner
from salus.identity.domain import PartyState
from salus.identity.folded import PARTIES
from salus.messaging import Position
from salus.runtime.identity_view import IDENTITY_TOPIC
from salus.runtime.own_key import OwnKey
from salus.runtime.unread_records import UnreadRecordError

pytestmark = pytest.mark.usefixtures("backlog")
AT, HERE = (CONSENT_TOPIC, 0), (IDENTITY_TOPIC, 0)
OLD, NEW = b"1" * 32, b"2" * 32


async def test_the_same_code_goes_on_where_it_was(databases: Databases) -> None:
    async with open_fold_store(await databases.url("a")) as store:
        await store.begin([AT], code=OLD)
        await follower_of(store, View(founded()), PATIENTS)._fold_batch(revoked()[:1], {AT: 1})
        await store.begin([AT], code=OLD)

        assert await store.positions() == {AT: 1}
        assert await store.load("patient", PATIENT) is not None


async def test_what_another_version_folded_is_folded_anew(databases: Databases) -> None:
    # Case: an upgrade was taken back, and the database was kept.
    async with open_fold_store(await databases.url("a")) as store:
        await store.begin([AT], code=NEW)
        await follower_of(store, View(founded()), PATIENTS)._fold_batch(revoked(), {AT: 2})
        marks = await store.marks()

    async with open_fold_store(await databases.url("a")) as store:
        await store.begin([AT], code=OLD)
        empty = await store.load("patient", PATIENT), await store.positions()
        async with store.engine.begin() as connection:
            forgotten = await store.outcomes(connection, [Position(*AT, 0)])
        again = follower_of(store, View(founded()), PATIENTS)
        with pytest.raises(UnreadRecordError):
            await again._fold_batch(revoked(of_a_type_to_come), {AT: 2})

        assert empty == (None, {AT: 0})
        assert "too long ago" in str(forgotten)
        # By them Kafka is known again.
        assert await store.marks() == marks == {AT: Mark(1, marks[AT].digest)}
        assert await store.load("patient", PATIENT) is None


async def test_two_versions_do_not_fold_side_by_side(databases: Databases) -> None:
    # Case: a rolling upgrade; the older replica reads and writes nothing of what the newer one folded.
    url = await databases.url("a")
    async with open_fold_store(url) as older, open_fold_store(url) as newer:
        await older.begin([AT], code=OLD, tables=[LISTED])
        follower = follower_of(older, View(founded()), PATIENTS)
        await follower._fold_batch(revoked()[:1], {AT: 1})
        await newer.begin([AT], code=NEW)
        await follower_of(newer, View(founded()), PATIENTS)._fold_batch(revoked(), {AT: 2})

        for use in (
            lambda: follower._fold_batch(revoked()[1:], {AT: 2}),
            older.ping,
            older.restart,
            lambda: older.load("patient", PATIENT),
            lambda: older.read_page(LISTING, limit=9),
            lambda: older.load_for_command("patient", PATIENT, topic=CONSENT_TOPIC),
            lambda: older.has_stated("token", topic=CONSENT_TOPIC),
        ):
            with pytest.raises(OtherCodeError, match="another version of this service"):
                await use()
        await newer.ping()
        loaded = await newer.load("patient", PATIENT)

    assert loaded is not None
    assert msgspec.json.decode(loaded.state, type=PatientState).consents[0].revoked_epoch == 1


async def begun(url: str, code: bytes, *, release: int) -> None:
    async with open_fold_store(url, release=release) as store:
        await store.begin([AT], code=code)


async def test_a_pod_of_an_older_release_that_restarts_takes_nothing_back(databases: Databases) -> None:
    """Case: it took the tables back, and the newer one waited until somebody restarted it."""
    url = await databases.url("a")
    await begun(url, OLD, release=1)
    async with open_fold_store(url, release=2) as newer:
        await newer.begin([AT], code=NEW)
        await follower_of(newer, View(founded()), PATIENTS)._fold_batch(revoked(), {AT: 2})
        for release in (0, 1):
            with pytest.raises(OtherCodeError, match=f"release 2 .* this is {release}"):
                await begun(url, OLD, release=release)

        assert await newer.positions() == {AT: 2}
        assert await newer.load("patient", PATIENT) is not None


async def test_an_upgrade_that_is_taken_back_has_a_number_of_its_own(databases: Databases) -> None:
    url = await databases.url("a")
    await begun(url, OLD, release=1)
    await begun(url, NEW, release=2)
    await begun(url, OLD, release=3)

    with pytest.raises(OtherCodeError, match="release 3"):
        await begun(url, NEW, release=2)


@pytest.mark.parametrize(("earlier", "later"), [(0, 0), (0, 5), (5, 5)])
async def test_without_a_higher_number_there_who_starts_last_folds(
    databases: Databases, earlier: int, later: int
) -> None:
    url = await databases.url("a")
    await begun(url, NEW, release=earlier)
    await begun(url, OLD, release=later)


async def test_the_same_code_of_an_older_release_goes_on_and_lowers_nothing(databases: Databases) -> None:
    url = await databases.url("a")
    await begun(url, NEW, release=2)
    await begun(url, NEW, release=1)

    with pytest.raises(OtherCodeError, match="release 2"):
        await begun(url, OLD, release=1)


async def party_in(store: FoldStore, signer: LocalSigner) -> tuple[PartyState, int]:
    state, version = await store.load_for_command("party", signer.did, topic=IDENTITY_TOPIC)
    assert state is not None
    return msgspec.json.decode(state, type=PartyState), version


# Case: the party was broken for good, for ring and database counted its versions differently.
async def test_identity_folds_anew_what_its_older_version_passed_over(databases: Databases) -> None:
    said = KeyRevoked(HOSPITAL.did, HOSPITAL.verification_method, "compromised", request=UNASKED)
    true = identity_says(said, 4, 1, 0, asker=HOSPITAL)
    strange = changed(true, of_another_schema, by=IDENTITY)
    network: Any = SimpleNamespace(restored_ranges=dict, new_ring=lambda: View([]).ring)
    view = TakenView(cast("Any", None), network)
    view._take([*founded(), strange])
    async with open_fold_store(await databases.url("a")) as store:
        await store.begin([HERE], code=OLD, tables=PARTIES.tables)
        await follower_of(store, cast("Any", view), PARTIES)._fold_batch([*founded(), strange], {HERE: 5})
        passed_over, _ = await party_in(store, HOSPITAL)

    knowing = View([*founded(), true])
    async with open_fold_store(await databases.url("a")) as store:
        await store.begin([HERE], code=NEW, tables=PARTIES.tables)
        await follower_of(store, knowing, PARTIES)._fold_batch([*founded(), true], {HERE: 5})
        party, version = await party_in(store, HOSPITAL)

    assert (passed_over.keys[0].revoked, party.keys[0].revoked) == (None, "compromised")
    assert version == knowing.ring.versions[HOSPITAL.did]


def test_the_digest_is_of_events_states_and_tables() -> None:
    def anew(state: type[msgspec.Struct]) -> Contract[Any]:
        return Contract(PATIENTS.kind, PATIENTS.topic, state, lambda state, _: state)

    more = msgspec.defstruct("PatientState", [("paused", bool, False)], bases=(PatientState,), frozen=True)
    here = digest_of([PATIENTS, POLICIES], CATALOGUE)

    assert digest_of([POLICIES, PATIENTS], Catalogue(CONTEXTS)) == here
    assert digest_of([anew(more), POLICIES], CATALOGUE) != here
    assert digest_of([replace(PATIENTS, version=PATIENTS.version + 1), POLICIES], CATALOGUE) != here
    assert digest_of([PARTIES], CATALOGUE) != digest_of([replace(PARTIES, tables=())], CATALOGUE)
    assert digest_of([PATIENTS, POLICIES], Catalogue(CONTEXTS[:1])) != here


def test_nobody_but_identity_answers_while_the_ring_may_lack_a_revocation() -> None:
    said = KeyRevoked(HOSPITAL.did, HOSPITAL.verification_method, "compromised", request=UNASKED)
    strange = changed(identity_says(said, 4, 1, 0, asker=HOSPITAL), of_another_schema, by=IDENTITY)
    network: Any = SimpleNamespace(restored_ranges=dict, new_ring=lambda: View(founded()).ring)
    view = TakenView(cast("Any", None), network)
    own = OwnKey(view, CONSENT, role="consent")
    own.require()
    identity = OwnKey(view, IDENTITY, role="identity")

    view._take([strange])

    # There the key of a thief who wrote it is revoked.
    identity.require()
    identity.require_for(IDENTITY.did)
    with pytest.raises(UnreadRecordError):
        identity.require_for(HOSPITAL.did)

    with pytest.raises(UnreadRecordError):
        own.require()
