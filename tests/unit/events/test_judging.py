"""One verdict per record: the first reason in the order of `Reason`, in batches as one by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.asking import UNASKED, truly_asked
from tests.pseudonyms import patient_of
from tests.unit.events import samples
from tests.unit.events.samples import (
    EXPELLED,
    EXPIRED,
    FUTURE,
    GOVERNOR,
    MEMBER,
    NOON,
    OFFICER,
    OTHER_GOVERNOR,
    OTHER_MEMBER,
    PATIENT,
    RESEARCHER,
    REVIEWER,
    REVOKED,
    RING,
    SERVICES,
    STRANGER,
    SUSPENDED,
    Row,
    as_json,
    document,
    encoded,
    for_each_type,
    records_of,
    row,
    rows_of,
    verdict,
)

from salus.events import canonical, fitting
from salus.events.batch_judging import BatchJudging
from salus.events.canonical import Attribute
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import AccessDecided, GlassBreakReviewed, PolicySetAdopted
from salus.events.contexts.consent_oversight import CaseDecided
from salus.events.contexts.consent_permits import PermitGranted, PermitUsed
from salus.events.contexts.identity import EventTypeProposed, RoleGranted
from salus.events.contexts.identity_login import SessionOpened
from salus.events.contexts.network import TopicsRestored
from salus.events.contexts.storage import SubjectRegistered
from salus.events.did import LocalSigner
from salus.events.ed25519 import verifies
from salus.events.envelope import VALUE_BYTES_MAX, Event
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import schema_file, type_of
from salus.events.judging import Judged, judge_batch
from salus.events.parties import Party
from salus.events.requests import Request, RequestedData
from salus.events.signature import sign_values
from salus.ledger.hashing import split
from salus.ledger.merkle import leaf_hash
from salus.ledger.records import Flaw

VALUE = encoded(document())


def reason_of(record: Row) -> Reason | None:
    said = verdict(record)
    return said.reason if isinstance(said, RejectedError) else None


def json_with(**changes: Any) -> bytes:
    return json.dumps(as_json(VALUE) | changes).encode()


# A session is asked for by an ID token: `test_sessions`.
@for_each_type(of=[entry for entry in CATALOGUE.types() if entry.data is not SessionOpened])
def test_every_type_is_accepted_from_its_owner(data: Any) -> None:
    entry = type_of(data)
    signer = MEMBER if entry.owner == "member" else SERVICES[entry.owner]
    data = requested(data, service=signer.did)
    value = encoded(data, source=signer.did)
    record = row(value, signer=signer, topic=entry.topic, key=samples.subject_of(data).encode())
    said = verdict(record)

    assert isinstance(said, Judged)
    assert said.event.data == data
    assert said.signer.did == signer.did
    assert said.digest == leaf_hash(value)


# Fields that say who asked.
ASKERS = ("principal", "reviewer", "reader", "requested_by", "proposer")
# Whoever has a role that the type asks for; a member asks for the others.
ASKING = {
    PermitGranted: REVIEWER,
    PermitUsed: RESEARCHER,
    GlassBreakReviewed: OFFICER,
    CaseDecided: OFFICER,
}


def requested(data: Any, *, service: str) -> Any:
    """Return data of a service as a member or an operator asks for it, or as the service itself states it."""
    if not isinstance(data, RequestedData):
        return data
    if not CATALOGUE.may_be_asked(type(data)):
        return msgspec.structs.replace(data, request=Request.of_service(service))
    operators = type_of(data).operators
    signer = GOVERNOR if operators else ASKING.get(type(data), MEMBER)
    asked: dict[str, Any] = {name: signer.did for name in ASKERS if name in data.__struct_fields__}
    if isinstance(data, SubjectRegistered):
        asked["patient"] = patient_of(data.steward)
    if isinstance(data, EventTypeProposed):
        # Who proposes sends a schema, which is stated in its one form.
        asked["schema"] = schema_file({"title": data.schema}).decode()
    if isinstance(data, AccessDecided):
        # Nobody breaks the glass without having asked for it; each is asked for by itself.
        asked["break_glass"] = data.break_glass and data.emergency is not None
        asked |= {"item": None, "repeatable": False}
    second = OTHER_GOVERNOR if operators > 1 else None
    return truly_asked(msgspec.structs.replace(data, **asked), signer, at=NOON, second=second)


CONSENT = SERVICES["consent"]
FOREIGN = PolicySetAdopted(policy_set="0" * 64, contract="1" * 64, request=UNASKED)
CASES: dict[Reason, Row] = {
    Reason.UNREADABLE: row(VALUE, flaw=Flaw.UNREADABLE),
    Reason.TRANSACTIONAL: row(VALUE, flaw=Flaw.TRANSACTIONAL),
    Reason.CREATE_TIME: row(VALUE, flaw=Flaw.CREATE_TIME),
    Reason.TOMBSTONE: row(VALUE, value=None),
    Reason.TOO_LARGE: row(b"\xff" * (20 * VALUE_BYTES_MAX)),
    Reason.MISSING_SIGNATURE: row(VALUE, signature=None),
    Reason.MALFORMED_SIGNATURE: row(VALUE, signature=b"v1"),
    Reason.UNKNOWN_KEY: row(encoded(document(), source=STRANGER.did), signer=STRANGER),
    Reason.KEY_REVOKED: row(encoded(document(), source=REVOKED.did), signer=REVOKED),
    Reason.KEY_NOT_YET_VALID: row(encoded(document(), source=FUTURE.did), signer=FUTURE),
    Reason.KEY_EXPIRED: row(encoded(document(), source=EXPIRED.did), signer=EXPIRED),
    Reason.MEMBER_SUSPENDED: row(encoded(document(), source=SUSPENDED.did), signer=SUSPENDED),
    Reason.MEMBER_EXPELLED: row(encoded(document(), source=EXPELLED.did), signer=EXPELLED),
    Reason.BAD_SIGNATURE: row(VALUE, signature=sign_values([b"another"], MEMBER)[0]),
    Reason.MALFORMED_JSON: row(VALUE[:-1]),
    Reason.INVALID_ENVELOPE: row(json_with(specversion="0.3")),
    Reason.UNKNOWN_TYPE: row(json_with(type="salus.clinical.patient-healed.v1")),
    Reason.WRONG_SOURCE: row(VALUE, signer=OTHER_MEMBER),
    Reason.WRONG_TOPIC: row(VALUE, topic="salus.lab.events"),
    Reason.NOT_OWNER: row(encoded(FOREIGN), topic="salus.consent.events"),
    Reason.WRONG_KEY: row(VALUE, key=b"urn:uuid:someone-else"),
    Reason.SCHEMA_VIOLATION: row(json_with(data={})),
    Reason.INVALID_REQUEST: row(
        encoded(FOREIGN, source=CONSENT.did),
        signer=CONSENT,
        topic="salus.consent.events",
    ),
}


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.DUPLICATE])
def test_each_reason_has_a_record_that_gets_it(reason: Reason) -> None:
    assert reason_of(CASES[reason]) is reason


def test_every_reason_says_what_it_means() -> None:
    assert all(reason.meaning.endswith(".") for reason in Reason)


@pytest.mark.parametrize("key", [None, b"", PATIENT.encode() + b" ", PATIENT.upper().encode(), b"\xff"])
def test_a_key_that_is_not_exactly_the_subject_is_wrong(key: bytes | None) -> None:
    assert reason_of(row(VALUE, key=key)) is Reason.WRONG_KEY


def test_a_service_does_not_speak_for_members_nor_for_another_service() -> None:
    consent, storage = SERVICES["consent"], SERVICES["storage"]
    clinical = row(encoded(document(), source=consent.did), signer=consent)
    adopted = row(encoded(FOREIGN, source=storage.did), signer=storage, topic="salus.consent.events")

    assert reason_of(clinical) is Reason.NOT_OWNER
    assert reason_of(adopted) is Reason.NOT_OWNER


def test_a_role_without_being_the_service_is_not_enough() -> None:
    ring = samples.network_ring()
    ring.apply(RoleGranted(did=MEMBER.did, role="consent", request=UNASKED))
    said = verdict(row(encoded(FOREIGN), topic="salus.consent.events"), ring=ring)

    assert isinstance(said, RejectedError)
    assert said.reason is Reason.NOT_OWNER


@pytest.mark.parametrize(("member", "accepted"), [(None, False), (MEMBER.did, True)])
def test_a_person_speaks_for_members_only_when_acting_for_one(member: str | None, *, accepted: bool) -> None:
    ring = samples.network_ring()
    ring.parties[MEMBER.did] = Party(did=MEMBER.did, kind="person", roles=frozenset(), member=member)
    said = verdict(row(VALUE), ring=ring)

    assert isinstance(said, Judged) is accepted
    assert accepted or (isinstance(said, RejectedError) and said.reason is Reason.NOT_OWNER)


def test_what_operators_state_needs_the_role_and_no_service() -> None:
    restored = TopicsRestored(log_size=1, log_root="0" * 64, partitions=())
    record = row(encoded(restored), topic="salus.network.events", key=samples.subject_of(restored).encode())
    ring = samples.network_ring()
    ring.apply(RoleGranted(did=MEMBER.did, role="operator", request=UNASKED))

    assert reason_of(record) is Reason.NOT_OWNER
    assert not isinstance(verdict(record, ring=ring), RejectedError)


def test_a_whole_batch_that_someone_forged_is_refused() -> None:
    rows = rows_of([encoded(document(i), number=i) for i in range(4)], signer=FORGER)
    said = judge_batch(records_of(rows), ring=RING)

    assert [said.refused[row].reason for row in range(4)] == [Reason.BAD_SIGNATURE] * 4


# Each fault changes the attributes or the record so that its reason applies, whatever the others do.
ATTRIBUTE_FAULTS: dict[Reason, dict[str, Any]] = {
    Reason.INVALID_ENVELOPE: {"id": ""},
    Reason.UNKNOWN_TYPE: {"type": "salus.x.y.v1"},
    Reason.WRONG_SOURCE: {"source": "did:key:zSomeoneElse"},
    Reason.SCHEMA_VIOLATION: {"data": {}},
}
ROW_FAULTS: dict[Reason, Callable[[Row], Row]] = {
    Reason.UNREADABLE: lambda r: r.but(flaw=Flaw.UNREADABLE),
    Reason.TRANSACTIONAL: lambda r: r.but(flaw=Flaw.TRANSACTIONAL),
    Reason.CREATE_TIME: lambda r: r.but(flaw=Flaw.CREATE_TIME),
    Reason.TOMBSTONE: lambda r: r.but(value=None),
    Reason.MISSING_SIGNATURE: lambda r: r.but(signature=None),
    Reason.MALFORMED_SIGNATURE: lambda r: r.but(signature=b"v1 " + (r.signature or b"")),
    Reason.BAD_SIGNATURE: lambda r: r.but(value=(r.value or b"") + b" "),
    Reason.WRONG_TOPIC: lambda r: r.but(topic="salus.lab.events"),
    Reason.WRONG_KEY: lambda r: r.but(key=b"?"),
}
KEY_FAULTS = {
    Reason.UNKNOWN_KEY: STRANGER,
    Reason.KEY_REVOKED: REVOKED,
    Reason.KEY_NOT_YET_VALID: FUTURE,
    Reason.KEY_EXPIRED: EXPIRED,
    Reason.MEMBER_SUSPENDED: SUSPENDED,
    Reason.MEMBER_EXPELLED: EXPELLED,
}
FAULTS = [*ATTRIBUTE_FAULTS, *ROW_FAULTS, *KEY_FAULTS, Reason.TOO_LARGE, Reason.MALFORMED_JSON]


def faulty(faults: set[Reason]) -> Row:
    signers = [KEY_FAULTS[reason] for reason in KEY_FAULTS if reason in faults]
    signer = signers[0] if signers else MEMBER
    attributes = as_json(encoded(document(), source=signer.did))
    for reason in faults & ATTRIBUTE_FAULTS.keys():
        attributes |= ATTRIBUTE_FAULTS[reason]
    value = json.dumps(attributes).encode() + b"!" * (Reason.MALFORMED_JSON in faults)
    value += b" " * (VALUE_BYTES_MAX if Reason.TOO_LARGE in faults else 0)
    record = row(value, signer=signer)
    for reason in sorted(faults & ROW_FAULTS.keys(), key=list(Reason).index, reverse=True):
        record = ROW_FAULTS[reason](record)
    return record


@given(st.sets(st.sampled_from(FAULTS), max_size=4))
def test_of_many_faults_the_first_in_the_order_of_reasons_is_named(faults: set[Reason]) -> None:
    expected = min(faults, key=list(Reason).index, default=None)

    assert reason_of(faulty(faults)) is expected


@given(st.binary(max_size=40), st.binary(max_size=40) | st.none(), st.binary(max_size=40) | st.none())
def test_arbitrary_records_are_refused_and_nothing_else_happens(
    value: bytes, key: bytes | None, signature: bytes | None
) -> None:
    assert reason_of(row(value, key=key)) in {Reason.MALFORMED_JSON, Reason.INVALID_ENVELOPE}
    assert reason_of(row(value, signature=signature)) in {
        Reason.MISSING_SIGNATURE,
        Reason.MALFORMED_SIGNATURE,
    }


@given(st.integers(0, len(VALUE) * 8 - 1))
def test_a_flipped_bit_is_a_bad_signature_and_signed_again_no_accident(bit: int) -> None:
    value = bytearray(VALUE)
    value[bit // 8] ^= 1 << bit % 8

    assert reason_of(row(VALUE).but(value=bytes(value))) is Reason.BAD_SIGNATURE
    reason_of(row(bytes(value)))


# Signs with a key of its own under the member's name.
FORGER = LocalSigner(Ed25519PrivateKey.from_private_bytes(b"forg" * 8), MEMBER.verification_method)
SIGNERS = [MEMBER, OTHER_MEMBER, STRANGER, REVOKED, EXPIRED, FORGER]


@st.composite
def traffic(draw: st.DrawFn) -> list[Row]:
    """Records of several signed batches: some whole, some in part, some damaged, in any order."""
    rows: list[Row] = []
    for number in range(draw(st.integers(1, 4))):
        signer = draw(st.sampled_from(SIGNERS))
        size = draw(st.sampled_from([1, 2, 3, 5, 8]))
        values = [encoded(document(i), source=signer.did, number=number * 10 + i) for i in range(size)]
        batch = rows_of(values, signer=signer)
        rows += batch if draw(st.booleans()) else draw(st.lists(st.sampled_from(batch), max_size=size))
    for _ in range(draw(st.integers(0, 3))):
        if rows:
            index = draw(st.integers(0, len(rows) - 1))
            rows[index] = draw(st.sampled_from(damages(rows, index)))
    return draw(st.permutations(rows)) if draw(st.booleans()) else rows


def damages(rows: list[Row], index: int) -> list[Row]:
    record = rows[index]
    signature = record.signature or b""
    return [
        *(record.but(flaw=flaw) for flaw in Flaw),
        record.but(value=None),
        record.but(value=b"\xff" * (VALUE_BYTES_MAX + 1)),
        record.but(value=(record.value or b"") + b" "),
        record.but(signature=None),
        record.but(signature=signature + b"A"),
        record.but(signature=signature[:-3] + b"AA="),
        record.but(signature=signature.replace(b"v1 ", b"v1  ")),
        record.but(signature=signature.replace(b" 0/", b" 1/")),
        record.but(signature=signature.replace(b" 1/", b" 01/")),
        record.but(signature=rows[0].signature),
        record.but(key=b"?"),
        record.but(topic="salus.lab.events"),
        rows[0],
    ]


def same(said: Judged | RejectedError) -> tuple[Any, ...]:
    if isinstance(said, RejectedError):
        return said.reason, said.detail
    return *told(said.event), said.digest


def told(event: Event) -> tuple[Any, ...]:
    envelope = event.envelope
    texts = [text.encode() for text in (envelope.id, envelope.source, envelope.subject)]
    return event.type, *texts, envelope.time


def together(rows: list[Row]) -> list[tuple[Any, ...]]:
    said = judge_batch(records_of(rows), ring=RING)
    assert not said.accepted.keys() & said.refused.keys()
    assert [*said.signatures] == [record.signature for record in rows]
    assert [*said.values] == [
        None if r.value is None else r.value if len(r.value) <= VALUE_BYTES_MAX else b"" for r in rows
    ]
    found, texts = said.attributes, [said.attributes.texts(attribute) for attribute in Attribute]
    verdicts = []
    for number, digest in enumerate(split(said.digests)):
        if number in said.refused:
            verdicts.append(same(said.refused[number]))
        elif number in said.accepted:
            verdicts.append((*told(said.accepted[number]), digest))
        else:
            time = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=found.times[number])
            verdicts.append((found.type_of(number), *(text[number] for text in texts), time, digest))
    return verdicts


@pytest.mark.parametrize("way", ["compiled", "python", "half"])
@given(rows=traffic())
def test_a_batch_is_judged_as_its_records_are_one_by_one(way: str, rows: list[Row]) -> None:
    reader = None if way == "python" else canonical._reader(CATALOGUE)
    cases = None if way == "half" else fitting._cases
    with (
        mock.patch.object(canonical, "_reader", return_value=reader),
        mock.patch.object(fitting, "_cases", cases),
    ):
        assert together(rows) == [same(verdict(record)) for record in rows]


def by_steps(rows: list[Row]) -> list[Event | RejectedError]:
    judging = BatchJudging([record for part in records_of(rows) for record in part], ring=RING)
    while judging.judge(3):
        pass
    judging.verify()
    return judging.verdicts()


@given(rows=traffic())
def test_in_steps_records_are_judged_as_one_by_one(rows: list[Row]) -> None:
    said = [same(v) if isinstance(v, RejectedError) else told(v) for v in by_steps(rows)]

    assert said == [s if isinstance(s[0], Reason) else s[:-1] for s in map(same, map(verdict, rows))]


def registered(number: int) -> SubjectRegistered:
    patient = patient_of(MEMBER.did, number)
    return SubjectRegistered(
        patient=patient,
        steward=MEMBER.did,
        suite=samples.SEALED.suite,
        key=f"{patient}#1",
        public_key="A" * 1624,
        request=UNASKED,
    )


# A request that its caller signed, and one each that is forged, changed, and for something else.
def _as_signed(data: SubjectRegistered) -> SubjectRegistered:
    return data


def _as_forged(data: SubjectRegistered) -> SubjectRegistered:
    return truly_asked(data, FORGER, at=NOON)


def _as_changed(data: SubjectRegistered) -> SubjectRegistered:
    proof = data.request.proof or ""
    other = proof[:-9] + ("A" if proof[-9] != "A" else "B") + proof[-8:]
    return msgspec.structs.replace(data, request=msgspec.structs.replace(data.request, proof=other))


def _as_unasked(data: SubjectRegistered) -> SubjectRegistered:
    return msgspec.structs.replace(data, steward=OTHER_MEMBER.did)


WAYS = (_as_signed, _as_forged, _as_changed, _as_unasked)


@given(ways=st.lists(st.sampled_from(WAYS), min_size=1, max_size=12))
def test_a_signature_that_is_taken_for_good_first_is_verified_yet(ways: list[Any]) -> None:
    """Whatever is wrong with a request is found as by itself, and nothing that rests on another's."""
    service = SERVICES["storage"]
    values = []
    for number, way in enumerate(ways):
        data = registered(number)
        stated = way(truly_asked(data, MEMBER, at=NOON))
        values.append(encoded(stated, source=service.did, number=number))
    rows = [
        record.but(topic="salus.storage.events", key=as_json(record.value or b"")["subject"].encode())
        for record in rows_of(values, signer=service)
    ]
    said = by_steps(rows)

    assert [isinstance(v, Event) for v in said] == [way is _as_signed for way in ways]
    alone = [verdict(record) for record in rows]
    assert [same(v) for v in said if isinstance(v, RejectedError)] == [
        same(s) for s in alone if isinstance(s, RejectedError)
    ]


def test_before_they_are_verified_there_is_no_verdict() -> None:
    stated = truly_asked(registered(0), MEMBER, at=NOON)
    value = encoded(stated, source=SERVICES["storage"].did)
    [record] = rows_of([value], signer=SERVICES["storage"])
    record = record.but(topic="salus.storage.events", key=stated.patient.encode())
    judging = BatchJudging([*records_of([record])[0]], ring=RING)
    judging.judge(1)

    with pytest.raises(IndexError):
        judging.verdicts()


@pytest.mark.skipif(
    canonical._reader(CATALOGUE) is None or fitting._cases is None, reason="no C compiler, or no lanes"
)
def test_a_batch_as_most_are_is_read_together() -> None:
    rows = rows_of([encoded(document(i), number=i) for i in range(64)])
    said = judge_batch(records_of(rows), ring=RING)

    assert not said.accepted
    assert not said.refused
    assert len(said.attributes.numbers) == 64


def test_of_no_records_nothing_is_said() -> None:
    said = judge_batch([], ring=RING)

    assert (said.digests, [*said.values], said.accepted, said.refused) == (b"", [], {}, {})


def test_a_signed_batch_costs_one_verification_in_however_many_parts_it_comes() -> None:
    rows = rows_of([encoded(document(i), number=i) for i in range(64)])
    verifies.cache_clear()
    whole = judge_batch(records_of(rows), ring=RING)
    part = judge_batch(records_of(rows[10:50]), ring=RING)

    assert verifies.cache_info().misses == 1
    assert not whole.refused
    assert not part.refused
