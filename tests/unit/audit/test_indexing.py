"""The trail equals the ledger: every leaf once, in order, and nothing that does not verify."""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.asking import NETWORK, UNASKED
from tests.unit.audit.chain import Accepted, Chain, Chains, Refused, identity_topic
from tests.unit.audit.people import joining, nobody
from tests.unit.audit.samples import AROUND, CONSENT, IDENTITY, MEMBER, NOON, STORAGE

from salus.audit.adapters.signatures import OwnSignatures
from salus.audit.adapters.sql import SqlTrail, open_trail
from salus.audit.detectors import Detectors
from salus.audit.domain.blocks import BlockRefusedError
from salus.audit.domain.directory import Directory
from salus.audit.domain.probing import ProbingRule
from salus.audit.domain.search import Found, Question, Visibility
from salus.audit.handlers import Alarm, Bell, Follower, Indexer
from salus.audit.identity_chain import IdentityChain
from salus.audit.ports import Message, OutOfReachError, Published, Tip
from salus.audit.publication import Publisher
from salus.audit.publication_mark import Marks
from salus.events.contexts import CATALOGUE
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.contexts.consent import (
    AccessDecided,
    ConsentGranted,
    ConsentRevoked,
    PatientLinked,
    PatientUnlinked,
)
from salus.events.contexts.identity import PublicKey
from salus.events.contexts.storage import ObjectRead
from salus.events.did import LocalSigner
from salus.events.keyring import KeyRing
from salus.ledger.block import body_key, header_key

PATIENT = "urn:uuid:11111111-1111-4111-8111-111111111111"
CLINICIAN = "did:web:north-hospital.example:clinician"
DOCUMENT = DocumentRegistered(patient=PATIENT, object="obj-1", media_type="application/fhir+json")
READ = ObjectRead(
    object="obj-1", patient=PATIENT, reader=CLINICIAN, decision="dec-1", purpose="TREAT", request=UNASKED
)
MULTIBASE = "z6Mkf5rGMoatrSj1f4CyvuHBeXJELe9RPdzo2PKGNCKVtZxP"
GRANTED = ConsentGranted(
    consent="c-1",
    patient=PATIENT,
    grantee=CLINICIAN,
    actions=("read",),
    purposes=("TREAT",),
    valid_from=NOON - timedelta(days=1),
    valid_until=NOON + timedelta(days=1),
    epoch=1,
    request=UNASKED,
)
REVOKED = ConsentRevoked(consent="c-1", patient=PATIENT, epoch=2, request=UNASKED)
ALLOWED = AccessDecided(
    decision="dec-1",
    principal=CLINICIAN,
    action="read",
    object="obj-1",
    patient=PATIENT,
    purpose="TREAT",
    allowed=True,
    reasons=("consented-clinician-reads",),
    policy_set="a" * 64,
    inputs="b" * 64,
    decided_at=NOON,
    state_positions=(),
    epoch=1,
    valid_until=NOON + timedelta(seconds=60),
    request=UNASKED,
)
KEY = PublicKey(id=f"{CLINICIAN}#k", multibase=MULTIBASE, valid_from=NOON)
EVERYTHING = Visibility(everything=True)


def indexer_of(chain: Chain, trail: SqlTrail) -> Indexer:
    return indexer_of_all([chain], trail)


def indexer_of_all(chains: Sequence[Chain], trail: SqlTrail) -> Indexer:
    ledger = Chains(*chains)
    identity = IdentityChain(ledger, ledger.keys, identity_topic(), trail.identity)
    return Indexer(ledger, trail, ledger.keys, identity)


async def index_all(chain: Chain, trail: SqlTrail, *others: Chain) -> int:
    count = 0
    while (indexed := await indexer_of_all([chain, *others], trail).index_next(chain.shard)) is not None:
        count += indexed
    return count


async def all_of(trail: SqlTrail) -> list[Found]:
    return await trail.search(Question(after=0), EVERYTHING, limit=10_000)


def documents(count: int, start: int = 0) -> list[Accepted | Refused]:
    return [Accepted(DOCUMENT, name=f"event-{index}") for index in range(start, start + count)]


async def test_every_leaf_accepted_or_rejected_becomes_one_entry_in_order(trail: SqlTrail) -> None:
    chain = Chain()
    chain.seal([*documents(2), Refused("bad-signature"), Refused("tombstone")])
    chain.seal(documents(1, start=2))

    assert await index_all(chain, trail) == 5

    found = await all_of(trail)
    assert [each.seq for each in found] == [1, 2, 3, 4, 5]
    assert [(e.entry.place.height, e.entry.place.index) for e in found] == [
        (0, 0),
        (0, 1),
        (0, 2),
        (0, 3),
        (1, 0),
    ]
    assert [each.entry.rejection for each in found] == [None, None, "bad-signature", "tombstone", None]
    assert len({each.entry.uid for each in found}) == 5


async def test_an_empty_ledger_gives_an_empty_trail(trail: SqlTrail) -> None:
    assert await indexer_of(Chain(), trail).index_next(0) is None

    assert await trail.end() == 0


async def test_indexing_again_changes_nothing(trail: SqlTrail) -> None:
    chain = Chain()
    chain.seal(documents(3))
    await index_all(chain, trail)
    before = await all_of(trail)

    assert await index_all(chain, trail) == 0

    assert await all_of(trail) == before


async def test_two_indexers_at_once_index_each_block_once(trail: SqlTrail) -> None:
    chain = Chain()
    for height in range(4):
        chain.seal(documents(2, start=height * 2))

    await asyncio.gather(*(index_all(chain, trail) for _ in range(3)))

    assert [each.entry.id for each in await all_of(trail)] == [f"event-{index}" for index in range(8)]


async def test_an_append_from_where_the_shard_no_longer_is_changes_nothing(trail: SqlTrail) -> None:
    start, first, second = Tip(0, None), Tip(1, b"first"), Tip(2, b"second")
    assert await trail.append([], Directory(nobody()), shard=0, tip=first, before=start)

    assert not await trail.append([], Directory(nobody()), shard=0, tip=first, before=start)
    assert not await trail.append([], Directory(nobody()), shard=0, tip=second, before=Tip(7, b"seventh"))

    assert await trail.tip(0) == first


async def test_a_rebuilt_trail_equals_the_first(trail: SqlTrail, tmp_path: Path) -> None:
    chain = Chain()
    chain.seal([*documents(2), Refused("duplicate")])
    chain.seal([Accepted(READ, source=STORAGE, name="read-1", subject=PATIENT)])
    await index_all(chain, trail)

    async with open_trail(f"sqlite+aiosqlite:///{tmp_path}/again.db") as again:
        await index_all(chain, again)

        assert await all_of(again) == await all_of(trail)


async def test_actors_are_shown_with_the_member_they_act_for(trail: SqlTrail) -> None:
    person = joining(CLINICIAN)
    chain = Chain()
    chain.seal([Accepted(READ, source=STORAGE, name="read-0", subject=PATIENT)])
    chain.seal([Accepted(person, source=IDENTITY, name="party-1")])
    chain.seal([Accepted(READ, source=STORAGE, name="read-1", subject=PATIENT)])
    await index_all(chain, trail)

    members = [each.entry.member for each in await all_of(trail)]
    assert members == [None, None, MEMBER]


async def test_a_patient_is_known_by_her_pseudonym(trail: SqlTrail) -> None:
    chain = Chain()
    chain.seal(
        [
            Accepted(
                PatientLinked(patient=PATIENT, did=CLINICIAN, request=UNASKED),
                source=CONSENT,
                subject=PATIENT,
            )
        ]
        * 2
    )
    await index_all(chain, trail)

    assert await trail.pseudonyms(CLINICIAN) == {PATIENT}
    assert await trail.pseudonyms(MEMBER) == frozenset()

    unlinked = PatientUnlinked(patient=PATIENT, did=CLINICIAN, epoch=1, request=UNASKED)
    chain.seal([Accepted(unlinked, source=CONSENT, subject=PATIENT)])
    await index_all(chain, trail)

    assert await trail.pseudonyms(CLINICIAN) == frozenset()


async def test_a_header_of_another_key_is_refused(trail: SqlTrail) -> None:
    chain, forger = Chain(), Chain()
    forger.signer = type(chain.signer)(chain.signer.name, Chain(shard=5).signer._key)
    forger.seal(documents(1))
    chain.objects = forger.objects

    with pytest.raises(BlockRefusedError) as refused:
        await index_all(chain, trail)

    assert (refused.value.code, await trail.end()) == ("header-signature", 0)


async def test_a_header_that_does_not_follow_the_one_before_is_refused(trail: SqlTrail) -> None:
    chain, other = Chain(), Chain()
    chain.seal(documents(1))
    await index_all(chain, trail)
    other.seal(documents(1, start=5))
    other.seal(documents(1, start=6))
    chain.objects |= {key: value for key, value in other.objects.items() if "000000000001/" in key}

    with pytest.raises(BlockRefusedError) as refused:
        await index_all(chain, trail)

    assert (refused.value.code, await trail.end()) == ("previous", 1)


@given(st.data())
@settings(max_examples=15, deadline=None)
def test_no_changed_byte_of_a_block_is_indexed(data: Any) -> None:
    async def check() -> None:
        chain = Chain()
        header = chain.seal(documents(3))
        key = data.draw(st.sampled_from([header_key(0, 0), body_key(0, 0, header.root)]))
        changed = bytearray(chain.objects[key])
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] ^= data.draw(st.integers(1, 255))
        chain.objects[key] = bytes(changed)
        async with open_trail("sqlite+aiosqlite://") as trail:
            with pytest.raises(BlockRefusedError):
                await index_all(chain, trail)
            assert await trail.end() == 0

    asyncio.run(check())


async def test_a_shard_that_stands_still_says_so_and_goes_on_when_the_block_is_restored(
    trail: SqlTrail,
) -> None:
    chain = Chain()
    header = chain.seal(documents(1))
    key = body_key(0, 0, header.root)
    body, chain.objects[key] = chain.objects[key], b"broken"
    grown = Bell()
    outputs = FakeOutputs()
    alarm = Alarm(outputs, AROUND, lambda: NOON)
    follower = Follower(indexer_of(chain, trail), alarm, announced=Bell(), grown=grown, poll_s=0.01)
    outputs.fault = "LOST"
    for _ in range(3):
        assert not await follower.step(0)

    with pytest.raises(BlockRefusedError):
        await follower.check()

    chain.objects[key] = body
    running = asyncio.create_task(follower.run())
    await grown.wait(10)
    running.cancel()

    await follower.check()
    assert await trail.end() == 1
    (finding,) = [json.loads(message.value) for message in outputs.messages]
    assert (finding["severity"], finding["metadata"]["event_code"]) == ("Critical", "ledger-block-refused")
    assert "shard 0 block 0" in finding["message"]


async def test_a_block_that_was_refused_is_forgotten_where_its_chain_has_ended(trail: SqlTrail) -> None:
    """Case redB8 1: an operator ended the chain before it, and audit stayed red until it was started anew."""
    chain = Chain()
    header = chain.seal(documents(1))
    chain.objects[body_key(0, 0, header.root)] = b"broken"
    indexer = indexer_of(chain, trail)
    alarm = Alarm(FakeOutputs(), AROUND, lambda: NOON)
    follower = Follower(indexer, alarm, announced=Bell(), grown=Bell(), poll_s=0.01)
    await follower.step(0)
    with pytest.raises(BlockRefusedError):
        await follower.check()

    chain.objects.clear()
    await follower.step(0)

    await follower.check()


async def test_an_archive_that_is_away_is_waited_for(trail: SqlTrail) -> None:
    chain = Chain()
    chain.seal(documents(1))
    chain.away = True

    with pytest.raises(OutOfReachError):
        await index_all(chain, trail)

    chain.away = False
    assert await index_all(chain, trail) == 1


def publisher_of(trail: SqlTrail, outputs: "FakeOutputs", *chains: Chain) -> Publisher:
    ledger = Chains(*chains)

    async def learn() -> None:
        pass

    # Every look at the clock is a while later, so that what failed is tried again at once.
    clock = count(step=10).__next__
    marks = Marks(trail, outputs, AROUND, learn)
    detectors = Detectors(trail, ProbingRule(refusals=3, window_s=60), AROUND)
    return Publisher(ledger, trail, ledger.keys, outputs, AROUND, marks, detectors, clock)


async def publish_all(publisher: Publisher) -> None:
    while await publisher.round():
        pass


class FakeOutputs:
    """The topics in memory; the next publication may be LOST or LATE."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.signatures = OwnSignatures(LocalSigner.from_seed(b"a" * 32), lambda: KeyRing(CATALOGUE, NETWORK))
        self.fault: str | None = None

    def sign(self, statement: bytes) -> bytes:
        return self.signatures.of([statement])[0]

    def is_own(self, statement: bytes, signature: bytes) -> bool:
        return self.signatures.are_on(statement, signature)

    async def publish(self, messages: Sequence[Message]) -> None:
        fault, self.fault = self.fault, None
        if fault == "LOST":
            raise OutOfReachError("lost")
        self.messages += messages
        if fault == "LATE":
            raise OutOfReachError("late")


@pytest.mark.parametrize("fault", [None, "LOST", "LATE"])
async def test_publication_leaves_no_gap_and_repeats_with_the_same_ids(
    trail: SqlTrail, fault: str | None
) -> None:
    chain, outputs = Chain(), FakeOutputs()
    publisher = publisher_of(trail, outputs, chain)
    chain.seal(documents(3))
    await index_all(chain, trail)
    outputs.fault = fault
    if fault:
        assert not await publisher.round()
        assert publisher.waiting

    await publish_all(publisher)
    assert not publisher.waiting
    chain.seal(documents(2, start=3))
    await index_all(chain, trail)
    await publish_all(publisher)

    assert not await publisher.round()
    expected = [each.entry.uid for each in await all_of(trail)]
    for topic, key in (("salus.audit.ocsf", MEMBER), ("salus.audit.fhir", PATIENT)):
        published = [message for message in outputs.messages if message.topic == topic]
        once = dict.fromkeys(message.uid for message in published)
        assert list(once) == expected
        assert len({(message.uid, message.value) for message in published}) == 5
        assert {message.key for message in published} == {key}


async def test_a_mark_is_written_only_over_the_one_that_was_read(trail: SqlTrail) -> None:
    first, second = Published(1, b"a"), Published(2, b"b")
    assert await trail.set_published(7, first, before=None)

    assert not await trail.set_published(7, second, before=None)
    assert not await trail.set_published(7, second, before=Published(1, b"other"))
    assert await trail.published(7) == first
    assert await trail.set_published(7, second, before=first)


async def test_a_decision_is_shown_with_the_consents_that_it_names(trail: SqlTrail) -> None:
    """Case people.md: who read patient X under which consent."""
    under = msgspec.structs.replace(ALLOWED, consents=("c-1",))
    chain = Chain(topic="salus.consent.events")
    chain.seal(
        [
            Accepted(ALLOWED, source=CONSENT, name="under-none", subject=PATIENT),
            Accepted(GRANTED, source=CONSENT, name="granted", subject=PATIENT),
            Accepted(under, source=CONSENT, name="under-one", subject=PATIENT),
            Accepted(REVOKED, source=CONSENT, name="revoked", subject=PATIENT),
        ]
    )
    await index_all(chain, trail)

    entries = {each.entry.id: each.entry for each in await all_of(trail)}
    assert [entries[name].facts.consents for name in ("under-none", "under-one")] == [(), ("c-1",)]
    assert entries["revoked"].facts.party == CLINICIAN
