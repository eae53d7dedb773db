"""What a block has as accepted is judged again before the trail says it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from tests import own_types
from tests.asking import truly_asked
from tests.unit.audit.chain import IDENTITY_PARTITION, TOPIC, Accepted, Chain, identity_topic
from tests.unit.audit.people import new_ring
from tests.unit.audit.samples import STORAGE as NOBODY
from tests.unit.audit.test_indexing import documents
from tests.unit.audit.test_order import registered
from tests.unit.events import samples
from tests.unit.events.samples import MEMBER, MORNING, NOON, PATIENT, RING, SERVICES, STRANGER
from tests.unit.events.test_accountability import GRANT, stated

from salus.audit.adapters.sql import SqlTrail
from salus.audit.domain.blocks import judge_rows
from salus.audit.handlers import Indexer
from salus.audit.identity_chain import IdentityChain, IdentityTopic
from salus.events.envelope import decode_event
from salus.events.errors import RejectedError
from salus.events.event_types import schema_file
from salus.events.keyring import KeyRing
from salus.events.type_definition import definition
from salus.ledger.block import ACCEPTED, Header
from salus.ledger.check_blocks import Row
from salus.ledger.merkle import leaf_hash
from salus.ledger.records import appended_at


def sealed(record: samples.Row, *, status: str = ACCEPTED) -> Row:
    """Return the row of a block whose sequencer says that it accepted the record."""
    assert record.value is not None
    assert record.key is not None
    return Row(
        topic=record.topic,
        partition=0,
        offset=5,
        timestamp=appended_at(record.timestamp_ms),
        status=status,
        id="id",
        source="source",
        type="type",
        subject=record.key.decode(),
        time=NOON,
        leaf_hash=leaf_hash(record.value),
        digest=None,
        signature=record.signature,
        value=record.value,
    )


def document() -> samples.Row:
    return samples.row(samples.encoded(samples.document()))


def test_what_was_signed_and_asked_for_is_taken() -> None:
    rows = [sealed(document()), sealed(stated(truly_asked(GRANT, MEMBER, at=NOON)))]

    assert judge_rows(rows, RING, None) == {}


INVENTED: dict[str, Row] = {
    "signed by nobody": sealed(document().but(signature=None)),
    "under a signature of something else": sealed(document().but(value=samples.encoded(samples.document(7)))),
    "signed by a stranger": sealed(samples.row(samples.encoded(samples.document()), signer=STRANGER)),
    "asked for by nobody": sealed(stated(truly_asked(GRANT, STRANGER, at=NOON))),
    "on another topic": sealed(document().but(topic="salus.lab.events")),
    "signed by one of no such right": sealed(
        stated(truly_asked(GRANT, MEMBER, at=NOON), by=SERVICES["storage"])
    ),
}


@pytest.mark.parametrize("way", INVENTED)
def test_an_invented_act_is_found(way: str) -> None:
    # Case B2: the thief of a shard's key sealed "DID read OBJECT", and the trail said so with a tick.
    assert list(judge_rows([sealed(document()), INVENTED[way]], RING, None)) == [1]


def test_what_is_sealed_as_rejected_is_nobody_s_act() -> None:
    missing = INVENTED["signed by nobody"]._replace(status="rejected:missing-signature")

    assert judge_rows([missing], RING, None) == {}


def test_a_type_of_a_newer_version_is_told_as_unknown_if_its_signature_is_good() -> None:
    value = samples.encoded(samples.document()).replace(b"document-registered.v1", b"document-registered.v9")
    with pytest.raises(RejectedError):
        decode_event(value, RING.catalogue)

    assert judge_rows([sealed(samples.row(value))], RING, None) == {}
    assert judge_rows([sealed(samples.row(value).but(signature=None))], RING, None) == {
        0: "rejected:missing-signature"
    }


def test_what_is_no_event_is_of_no_newer_version() -> None:
    assert judge_rows([sealed(samples.row(b"garbage"))], RING, None) == {0: "rejected:malformed-json"}


def test_a_member_s_own_type_is_known_and_judged_as_any_other() -> None:
    ring, schema = samples.network_ring(), own_types.schema_of()
    for fact in (own_types.proposed(schema), own_types.activated(schema)):
        ring.types.apply(fact, at=MORNING)
    data = definition(schema_file(schema)).data(patient=PATIENT, ward="A", beds=1)
    another_s = samples.row(samples.encoded(data, source=MEMBER.did))

    assert judge_rows([sealed(another_s)], ring, None) == {0: "rejected:not-owner"}


def judged() -> IdentityTopic:
    """The identity topic of a network whose blocks are judged again."""
    return replace(identity_topic(), judge=judge_rows)


async def test_an_invented_party_is_nobody_to_later_blocks(trail: SqlTrail) -> None:
    chain = Chain()
    chain.seal([Accepted(registered(NOBODY).data, source=NOBODY)])
    keys = {0: chain.signer.verifier}
    identity = IdentityChain(chain, keys, judged(), trail.identity)
    await identity.step()

    assert identity.position == 1
    assert identity.history.ring.parties == new_ring().parties
    assert await trail.identity.identity_events(9) == {}


async def test_each_row_is_judged_once_and_a_body_is_fetched_once(
    trail: SqlTrail, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged_rows: list[tuple[str, int]] = []
    fetched: list[int] = []
    chain = Chain()
    chain.seal([*documents(2), registered(NOBODY)])
    chain.seal(documents(1, start=2))
    body = chain.body

    async def counted(shard: int, header: Header) -> bytes:
        fetched.append(header.height)
        return await body(shard, header)

    monkeypatch.setattr(chain, "body", counted)

    def judge(rows: Sequence[Row], _ring: KeyRing, _unread_ms: int | None) -> dict[int, str]:
        judged_rows.extend((row.topic, row.offset) for row in rows)
        return {}

    counting = replace(identity_topic(), judge=judge)
    keys = {0: chain.signer.verifier}
    indexer = Indexer(chain, trail, keys, IdentityChain(chain, keys, counting, trail.identity))
    while await indexer.index_next(0) is not None:
        pass

    assert sorted(judged_rows) == [(TOPIC, 0), (TOPIC, 1), (TOPIC, 2), (IDENTITY_PARTITION[0], 0)]
    assert fetched == [0, 1]
