"""Who asked for what a service states: nobody can invent a request, alter one, or use it for another."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import msgspec
import pytest
from tests.asking import NETWORK, UNASKED, asked_by, truly_asked
from tests.pseudonyms import nonce_of, patient_of
from tests.unit.events import samples
from tests.unit.events.samples import (
    MEMBER,
    NOON,
    OTHER_MEMBER,
    PATIENT,
    REVOKED,
    RING,
    SERVICES,
    STRANGER,
    Row,
    encoded,
    network_ring,
    party,
    public_key,
    row,
    verdict,
)

from salus.client.auth import RequestLine, make_approval
from salus.events.accountability import TRANSFER_S_MAX
from salus.events.bearer import CLOCKS
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import ConsentGranted
from salus.events.contexts.consent_prohibitions import AccessProhibited
from salus.events.contexts.identity import (
    KeyAdded,
    KeyRevoked,
    MemberReinstated,
    MemberSuspended,
    PartyRegistered,
)
from salus.events.contexts.storage import ObjectStored, SubjectRegistered
from salus.events.did import LocalSigner
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import type_of
from salus.events.keyring import KeyRing
from salus.events.recipients import RecipientRole
from salus.events.requests import Request, RequestedData

CONSENT, STORAGE = SERVICES["consent"], SERVICES["storage"]
# A pseudonym is of its steward: only MEMBER registers this one.
OWN_PATIENT = patient_of(MEMBER.did)
GRANT = ConsentGranted(
    consent="00000000-0000-4000-8000-000000000001.0123456789abcdef0123",
    patient=PATIENT,
    grantee=OTHER_MEMBER.did,
    actions=("read",),
    purposes=("TREAT",),
    valid_from=NOON,
    valid_until=NOON + timedelta(days=1),
    epoch=0,
    request=UNASKED,
)
STORED = ObjectStored(
    object="o-1",
    patient=PATIENT,
    steward=MEMBER.did,
    media_type="text/plain",
    plaintext_bytes=1,
    ciphertext_bytes=1,
    ciphertext_sha256="0" * 64,
    commitment="0" * 64,
    salt=samples.SEALED,
    request=UNASKED,
)


def stated(data: RequestedData, *, by: Any = CONSENT, **changes: Any) -> Row:
    """The record by which a service states something."""
    value = encoded(data, source=by.did, **changes)
    key = getattr(data, type_of(data).subject_field or "patient").encode()
    return row(value, signer=by, topic=type_of(data).topic, key=key)


def refusal(record: Row, *, ring: KeyRing = RING, **facts: Any) -> str:
    said = verdict(record, ring=ring, **facts)
    assert isinstance(said, RejectedError)
    assert said.reason is Reason.INVALID_REQUEST
    return said.detail


def replaced(data: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(data, **changes)


def request_with(data: Any, **changes: Any) -> Any:
    return replaced(data, request=replaced(data.request, **changes))


def test_what_somebody_signed_for_is_accepted() -> None:
    assert not isinstance(verdict(stated(truly_asked(GRANT, MEMBER, at=NOON))), RejectedError)


def test_a_service_cannot_invent_a_request() -> None:  # case SEC6
    own = replaced(GRANT, request=Request.of_service(CONSENT.did))
    nobody = replaced(GRANT, request=Request(by=MEMBER.did, authentication="did-jwt"))
    forged = request_with(truly_asked(GRANT, STRANGER, at=NOON), by=MEMBER.did)

    assert "somebody must have asked" in refusal(stated(own))
    assert "token is missing" in refusal(stated(nobody))
    assert "who is said to have asked" in refusal(stated(forged))


def suspended(at: int, *, reinstated: int | None = None) -> KeyRing:
    """A ring in which MEMBER was suspended so many minutes after noon, and reinstated."""
    ring = network_ring()
    facts: list[tuple[int | None, Any]] = [
        (at, MemberSuspended(MEMBER.did, "inquiry", request=UNASKED)),
        (reinstated, MemberReinstated(MEMBER.did, "resolved", request=UNASKED)),
    ]
    for minute, fact in facts:
        if minute is not None:
            ring.apply(fact, at=NOON + timedelta(minutes=minute))
    return ring


def test_what_a_suspended_member_asked_for_is_refused_whoever_states_it() -> None:
    # As of a key that was revoked, the clocks of services and brokers may differ.
    asked = stated(truly_asked(GRANT, MEMBER, at=NOON))
    verdicts = {
        minute: verdict(asked, ring=suspended(minute), at=NOON + timedelta(minutes=1)) for minute in (-6, -4)
    }

    assert isinstance(verdicts[-6], RejectedError)
    assert "who is said to have asked" in verdicts[-6].detail
    assert not isinstance(verdicts[-4], RejectedError)
    assert "who is said" in refusal(asked, ring=suspended(-9, reinstated=3), at=NOON + timedelta(minutes=1))


@pytest.mark.parametrize("reinstated", [-30, -1, 0])
def test_what_a_member_asks_for_once_it_is_reinstated_is_accepted(reinstated: int) -> None:
    asked = stated(truly_asked(GRANT, MEMBER, at=NOON))
    ring = suspended(-40, reinstated=reinstated)

    assert not isinstance(verdict(asked, ring=ring, at=NOON + timedelta(minutes=1)), RejectedError)


def test_what_a_patient_of_a_suspended_member_asks_for_is_accepted() -> None:
    ring, person = suspended(-40), LocalSigner.from_seed(b"pati" * 8)
    key = public_key(person)
    joined = PartyRegistered(person.did, "person", (key,), ("patient",), MEMBER.did, request=UNASKED)
    ring.apply(joined, at=NOON - timedelta(days=1))
    asked = truly_asked(GRANT, person, at=NOON)
    clinical = row(encoded(samples.document(), source=person.did), signer=person)

    assert not isinstance(verdict(stated(asked), ring=ring, at=NOON), RejectedError)
    # She states nothing as one of the member's people.
    refused = verdict(clinical, ring=ring, at=NOON)
    assert isinstance(refused, RejectedError)
    assert refused.reason is Reason.MEMBER_SUSPENDED


ALTERED: list[dict[str, Any]] = [
    {"grantee": MEMBER.did},
    {"role": "clinician"},
    {"actions": ("read", "write")},
    {"purposes": ("HRESCH",)},
    {"valid_until": NOON + timedelta(days=2)},
    {"valid_from": NOON - timedelta(days=2)},
    {"patient": PATIENT[:-1] + "9"},
]


@pytest.mark.parametrize("change", ALTERED, ids=lambda change: next(iter(change)))
def test_a_service_cannot_alter_what_was_asked(change: dict[str, Any]) -> None:  # case SEC6
    asked = truly_asked(GRANT, MEMBER, at=NOON)

    assert "asks for something else" in refusal(stated(replaced(asked, **change)))


@pytest.mark.parametrize("role", ["clinician", None])
def test_a_service_cannot_alter_which_role_is_forbidden(role: RecipientRole | None) -> None:
    forbidden = AccessProhibited(
        prohibition=GRANT.consent,
        patient=PATIENT,
        party=OTHER_MEMBER.did,
        role="researcher",
        valid_from=NOON,
        epoch=1,
        request=UNASKED,
    )
    asked = truly_asked(forbidden, MEMBER, at=NOON)

    assert not isinstance(verdict(stated(asked)), RejectedError)
    assert "asks for something else" in refusal(stated(replaced(asked, role=role)))


def test_a_request_for_one_thing_is_none_for_another() -> None:
    asked = truly_asked(GRANT, MEMBER, at=NOON)
    revoked = KeyRevoked(did=MEMBER.did, key_id=public_key(MEMBER).id, reason="left", request=asked.request)

    detail = refusal(stated(revoked, by=SERVICES["identity"]))
    assert "another service" in detail


def test_a_request_to_one_network_is_none_in_another() -> None:
    # Who signs with one key in two networks: readers of one's topics had all that they needed in the other.
    elsewhere = dataclasses.replace(RING, network="salus.local/other")
    asked = truly_asked(GRANT, MEMBER, at=NOON)

    assert not isinstance(verdict(stated(asked)), RejectedError)
    assert "another service or network" in refusal(stated(asked), ring=elsewhere)


def test_the_body_must_be_the_one_that_was_signed() -> None:
    asked = truly_asked(GRANT, MEMBER, at=NOON)
    body = json.loads(asked.request.body or "") | {"grantee": MEMBER.did}
    altered = request_with(replaced(asked, grantee=MEMBER.did), body=json.dumps(body))

    assert "another body" in refusal(stated(altered))
    assert "something else" in refusal(stated(request_with(asked, body=None)))


def test_a_name_twice_in_the_body_is_no_body() -> None:  # case F1
    raw = json.dumps({"did": MEMBER.did, "reason": "left", "key_id": "x"})
    twice = raw[:-1] + f', "key_id": "{public_key(MEMBER).id}"}}'
    data = KeyRevoked(did=MEMBER.did, key_id=public_key(MEMBER).id, reason="left", request=UNASKED)
    target = f"/parties/{MEMBER.did}/keys/revoke"
    asked = asked_by(MEMBER, "identity", "POST", target, at=NOON, raw=twice.encode())

    assert "something else" in refusal(stated(replaced(data, request=asked), by=SERVICES["identity"]))


@pytest.mark.parametrize("late", [timedelta(minutes=-1), timedelta(minutes=6)])
def test_a_token_of_another_time_is_none(late: timedelta) -> None:
    asked = truly_asked(GRANT, MEMBER, at=NOON)

    assert "the token" in refusal(stated(asked, time=NOON + late), at=NOON + late)


def test_nobody_states_what_is_to_be_done_later() -> None:
    # A revocation would count from that day only, and the key ring's time would end keys of others.
    ahead = NOON + CLOCKS
    record = stated(truly_asked(GRANT, MEMBER, at=ahead), time=ahead)

    assert not isinstance(verdict(record, at=NOON), RejectedError)
    assert "$.time" in refusal(record, at=NOON - timedelta(milliseconds=1))


def test_the_last_request_of_an_upload_asks_for_its_object_and_no_other() -> None:
    def said(method: str, path: str, **query: str) -> Any:
        target = f"{path}?{urlencode({'patient': PATIENT, 'object': 'o-1', **query})}"
        asked = asked_by(MEMBER, "storage", method, target, at=NOON)
        return stated(replaced(STORED, request=asked), by=STORAGE)

    assert not isinstance(verdict(said("PATCH", "/uploads/1")), RejectedError)
    for other in (
        said("PATCH", "/uploads/1", object="o-2"),
        said("PATCH", "/uploads/1", patient="urn:uuid:00000000-0000-4000-8000-000000000009"),
        said("POST", "/uploads"),
        said("DELETE", "/uploads/1"),
    ):
        assert "something else" in refusal(other)


def test_an_upload_may_outlast_its_token_and_not_for_ever() -> None:
    asked = truly_asked(STORED, MEMBER, at=NOON)
    long = timedelta(seconds=TRANSFER_S_MAX)
    record = stated(asked, by=STORAGE, time=NOON + long)
    too_long = stated(asked, by=STORAGE, time=NOON + long + timedelta(minutes=6))

    assert not isinstance(verdict(record, at=NOON + long), RejectedError)
    assert "expired" in refusal(too_long, at=NOON + long + timedelta(minutes=6))


def test_a_key_signs_its_own_revocation_and_nothing_after_but_for_clocks_that_differ() -> None:
    ring = network_ring()
    revocation = KeyRevoked(did=MEMBER.did, key_id=public_key(MEMBER).id, reason="left", request=UNASKED)
    record = stated(truly_asked(revocation, MEMBER, at=NOON), by=SERVICES["identity"])
    ring.apply(revocation, at=NOON)

    assert not isinstance(verdict(record, ring=ring), RejectedError)
    # Who takes requests refuses it at once; judged again, another clock may have been behind.
    later = NOON + CLOCKS
    near = stated(truly_asked(GRANT, MEMBER, at=later), time=later)
    assert not isinstance(verdict(near, ring=ring, at=later), RejectedError)
    later += timedelta(seconds=1)
    after = stated(truly_asked(GRANT, MEMBER, at=later), time=later)
    assert "who is said to have asked" in refusal(after, ring=ring, at=later)


def test_a_revoked_key_asks_for_nothing() -> None:
    asked = truly_asked(GRANT, REVOKED, at=NOON)

    assert "who is said to have asked" in refusal(stated(asked))


def test_nobody_acts_for_a_member_that_is_not_theirs() -> None:
    ring = network_ring()
    ring.apply(party(STRANGER, "person"))
    asked = truly_asked(GRANT, STRANGER, at=NOON)

    assert "no such member" in refusal(stated(request_with(asked, behalf=MEMBER.did)), ring=ring)


def test_without_a_steward_in_the_body_the_caller_s_organisation_is_the_steward() -> None:
    """The second red team: with storage's key one could be chosen."""
    asked = asked_by(MEMBER, "storage", "POST", "/subjects", at=NOON, body={"nonce": nonce_of(OWN_PATIENT)})
    registered = registration(OWN_PATIENT, MEMBER.did, asked)

    assert not isinstance(verdict(stated(registered, by=STORAGE)), RejectedError)
    other = replaced(registered, steward=OTHER_MEMBER.did)
    assert "something else" in refusal(stated(other, by=STORAGE))


def registration(patient: str, steward: str, request: Request) -> SubjectRegistered:
    return SubjectRegistered(
        patient=patient,
        steward=steward,
        suite=samples.SEALED.suite,
        key=f"{patient}#1",
        public_key="A" * 1624,
        request=request,
    )


@pytest.mark.parametrize(
    "body",
    [
        {"nonce": nonce_of(OWN_PATIENT)},
        {"nonce": nonce_of(OWN_PATIENT), "patient": OWN_PATIENT},
        {"nonce": "0" * 32, "patient": OWN_PATIENT},
        {"nonce": nonce_of(OWN_PATIENT), "patient": OWN_PATIENT, "steward": OTHER_MEMBER.did},
        {"patient": OWN_PATIENT},
        {},
    ],
)
def test_a_pseudonym_that_another_member_made_is_nobody_else_s_to_register(body: dict[str, str]) -> None:
    """Case HIGH 4 of red team B: who read it on a topic and came first was the patient's steward."""
    asked = asked_by(OTHER_MEMBER, "storage", "POST", "/subjects", at=NOON, body=body)

    squatted = stated(registration(OWN_PATIENT, OTHER_MEMBER.did, asked), by=STORAGE)
    assert "something else" in refusal(squatted)


def test_nobody_registers_a_patient_for_a_steward_whom_he_does_not_name() -> None:
    body = {"nonce": nonce_of(OWN_PATIENT), "patient": OWN_PATIENT}
    asked = asked_by(OTHER_MEMBER, "storage", "POST", "/subjects", at=NOON, body=body)

    assert "something else" in refusal(stated(registration(OWN_PATIENT, MEMBER.did, asked), by=STORAGE))


def test_a_resource_that_was_sent_is_named_by_its_digest() -> None:
    """The red team: a token for `POST /fhir/Consent` that named no body stood for any grant."""
    named = asked_by(MEMBER, "consent", "POST", "/fhir/Consent", at=NOON, raw=b'{"resourceType": "Consent"}')
    unnamed = asked_by(MEMBER, "consent", "POST", "/fhir/Consent", at=NOON)

    sent = replaced(GRANT, request=replaced(named, body=None))
    assert not isinstance(verdict(stated(sent)), RejectedError)
    assert "something else" in refusal(stated(replaced(GRANT, request=unnamed)))


@pytest.mark.parametrize(
    "target", ["//[", "//a]b/consents", "//\u2100/consents", "?", "", "//", "#", "/%ff%"]
)
def test_no_target_stops_who_judges(target: str) -> None:
    body = json.loads(truly_asked(GRANT, MEMBER, at=NOON).request.body or "")
    asked = asked_by(MEMBER, "consent", "POST", target, at=NOON, body=body)

    assert "something else" in refusal(stated(replaced(GRANT, request=asked)))


@pytest.mark.parametrize("target", ["//host/consents", "http://host/consents", "/consents#x", "/con\tsents"])
def test_a_target_is_read_as_servers_read_it(target: str) -> None:
    body = json.loads(truly_asked(GRANT, MEMBER, at=NOON).request.body or "")
    asked = asked_by(MEMBER, "consent", "POST", target, at=NOON, body=body)

    assert "something else" in refusal(stated(replaced(GRANT, request=asked)))


WAYS: dict[str, Callable[[Request], dict[str, Any]]] = {
    "another way": lambda _: {"authentication": "oidc"},
    "no token": lambda _: {"proof": "a.b.c"},
    "cut": lambda request: {"proof": (request.proof or "")[:-2]},
    "flipped": lambda request: {"proof": _flipped(request.proof or "")},
}


def _flipped(token: str) -> str:
    head, _, signature = token.rpartition(".")
    return f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"


@pytest.mark.parametrize("way", WAYS)
def test_what_is_no_proof_proves_nothing(way: str) -> None:
    asked = truly_asked(GRANT, MEMBER, at=NOON)

    refusal(stated(request_with(asked, **WAYS[way](asked.request))))


def test_a_key_added_is_the_key_that_was_asked_for() -> None:
    added = KeyAdded(did=MEMBER.did, key=public_key(STRANGER, id=f"{MEMBER.did}#2"), request=UNASKED)
    asked = truly_asked(added, MEMBER, at=NOON)
    other = replaced(asked, key=public_key(OTHER_MEMBER, id=f"{MEMBER.did}#2"))

    assert not isinstance(verdict(stated(asked, by=SERVICES["identity"])), RejectedError)
    assert "something else" in refusal(stated(other, by=SERVICES["identity"]))


def test_every_fact_of_a_service_says_who_asked_and_can_be_asked_for() -> None:
    contracts = {"identity", "consent", "storage"}
    facts = [entry.data for entry in CATALOGUE.types() if entry.owner in contracts]

    assert all(issubclass(data, RequestedData) for data in facts)
    assert {data.__name__ for data in facts if not CATALOGUE.may_be_asked(data)} == {
        "PolicySetAdopted",
        "ReviewOverdue",
        "SubjectKeyDestroyed",
    }


def test_an_approval_stands_in_no_event_but_identity_s() -> None:
    """The third red team: one that had ended kept a read that broke off out of the trail."""
    asked = truly_asked(GRANT, MEMBER, at=NOON)
    line = RequestLine("POST", "/consents", (asked.request.body or "").encode())
    approval = make_approval(OTHER_MEMBER, line, network=NETWORK, now=NOON)

    assert "approval" in refusal(stated(request_with(asked, approval=approval)))
