"""Every event type of the catalogue reaches the trail, OCSF and FHIR, and nothing sealed comes with it."""

import gzip
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.asking import NETWORK, UNASKED
from tests.own_types import SEALED, schema_of
from tests.unit.audit import balp, samples
from tests.unit.audit.people import nobody
from tests.unit.audit.test_indexing import ALLOWED, CLINICIAN, PATIENT, READ
from tests.unit.events.samples import SEALED as SEALED_VALUE

from salus.audit.adapters.signatures import OwnSignatures
from salus.audit.domain.describe import Named, describe, describe_rejected, describe_unknown
from salus.audit.domain.directory import Directory
from salus.audit.domain.entry import Activity, Severity, TrailEntry
from salus.audit.domain.fhir import PROFILES, audit_event_of
from salus.audit.domain.meanings import facts_of, short
from salus.audit.domain.ocsf import ocsf_of
from salus.events.catalogue import Catalogue
from salus.events.context import Context
from salus.events.contexts import CATALOGUE
from salus.events.contexts.consent import ConsentGranted
from salus.events.contexts.consent_permits import PermitUsed
from salus.events.contexts.consent_prohibitions import AccessProhibited
from salus.events.contexts.identity import (
    MemberExpelled,
    MemberReinstated,
    MemberSuspended,
    PartyKind,
    PartyRegistered,
    PublicKey,
    RoleWithdrawn,
)
from salus.events.contexts.network import TopicsRestored
from salus.events.did import LocalSigner, multibase_of
from salus.events.effect import Applied
from salus.events.envelope import decode_event, encode_event
from salus.events.errors import Reason, RejectedError
from salus.events.event_types import EventData, Retention, schema_file
from salus.events.fields import SEALED_CHARS_MIN, RoleName, Text
from salus.events.judging import judge
from salus.events.keyring import KeyRing
from salus.events.requests import Request, RequestedData
from salus.events.signature import sign_values
from salus.events.type_definition import definition

DATA = Path(__file__).parents[2] / "data"
CLASSES = {entry.name: entry.data for entry in CATALOGUE.types()}
TYPES = list(CLASSES)
SLOW = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))


def _schemas() -> dict[int, Any]:
    found = {}
    for path in (DATA / "ocsf" / "json-schema").glob("*.gz"):
        schema = json.loads(gzip.decompress(path.read_bytes()))
        found[int(path.name.partition("-")[0])] = jsonschema.Draft202012Validator(schema)
    return found


OCSF = _schemas()
_R4 = json.loads(gzip.decompress((DATA / "fhir/definitions/fhir.schema.r4.medplum.json.gz").read_bytes()))
FHIR = jsonschema.Draft6Validator({"$ref": "#/definitions/AuditEvent", "definitions": _R4["definitions"]})


def check(entry: TrailEntry) -> tuple[dict[str, Any], dict[str, Any]]:
    ocsf = json.loads(json.dumps(ocsf_of(entry, samples.AROUND)))
    fhir = json.loads(json.dumps(audit_event_of(entry, samples.AROUND)))
    OCSF[ocsf["class_uid"]].validate(ocsf)
    FHIR.validate(fhir)
    for profile in fhir.get("meta", {}).get("profile", []):
        assert balp.violations(fhir, profile) == []
    text = samples.as_json([entry, ocsf, fhir])
    assert samples.SECRET not in text
    assert ocsf["type_uid"] == ocsf["class_uid"] * 100 + ocsf["activity_id"]
    assert fhir["id"] == ocsf["metadata"]["uid"] == entry.uid
    return ocsf, fhir


@pytest.mark.parametrize("name", TYPES)
def test_every_type_of_the_catalogue_has_a_meaning(name: str) -> None:
    @SLOW
    @given(samples.data_of(CLASSES[name]))
    def any_data_is_described(data: Any) -> None:
        assert facts_of(data) is not None

    any_data_is_described()


@pytest.mark.parametrize(
    ("name", "activity"),
    [
        ("salus.consent.consent-granted.v1", "consent-created"),
        ("salus.consent.consent-revoked.v1", "consent-ended"),
        ("salus.consent.access-prohibited.v1", "access-prohibited"),
        ("salus.consent.prohibition-lifted.v1", "prohibition-lifted"),
    ],
)
def test_a_prohibition_is_not_counted_as_a_consent(name: str, activity: str) -> None:
    @SLOW
    @given(samples.data_of(CLASSES[name]))
    def any_data_is_called_so(data: Any) -> None:
        facts = facts_of(data)
        assert facts is not None
        assert facts.activity == activity

    any_data_is_called_so()


@pytest.mark.parametrize("subject", ["patient", "ward"])
def test_an_event_of_a_members_own_type_maps_and_tells_nothing_that_is_sealed(subject: str) -> None:
    fields = {"content": SEALED} if subject == "patient" else {}
    entry = definition(schema_file(schema_of(samples.MEMBER, about={"subject": subject}, fields=fields)))
    ciphertext = samples.SECRET.rstrip("=") + "A" * SEALED_CHARS_MIN
    content = msgspec.structs.replace(SEALED_VALUE, key=f"{PATIENT}#1", ciphertext=ciphertext)
    data = entry.data(patient=PATIENT, ward="A.1", **({"content": content} if fields else {}))
    event = samples.event_of(data, source=samples.MEMBER, catalogue=CATALOGUE.with_types([entry]))

    told = describe(event, Applied(0), samples.place(), None, Directory(nobody()))

    check(told)
    assert (told.facts.object, told.facts.patient) == (getattr(data, subject), PATIENT)
    assert told.facts.summary == f"{entry.name}: A bed of a ward is occupied."


@pytest.mark.parametrize("name", TYPES)
def test_every_type_maps_to_valid_ocsf_and_fhir(name: str) -> None:
    @SLOW
    @given(samples.data_of(CLASSES[name]), st.sampled_from([samples.MEMBER, samples.STORAGE]))
    def any_event_maps(data: Any, source: str) -> None:
        event = samples.event_of(data, source=source)
        check(describe(event, Applied(1), samples.place(), None, Directory(nobody())))

    any_event_maps()


@pytest.mark.parametrize("reason", list(Reason))
def test_every_rejection_maps_to_valid_ocsf_and_fhir(reason: Reason) -> None:
    entry = describe_rejected(samples.place(), reason, None, Directory(nobody()))

    ocsf, fhir = check(entry)

    assert (ocsf["class_uid"], ocsf["status_id"], ocsf["status_code"]) == (6003, 2, reason)
    assert fhir["outcome"] == "4"


def _entry(data: Any, source: str, directory: Directory | None = None) -> TrailEntry:
    event = samples.event_of(data, source=source)
    return describe(event, Applied(1), samples.place(), None, directory or Directory(nobody()))


def test_a_decision_by_consent_is_in_the_consent_profile_of_balp() -> None:
    under = msgspec.structs.replace(ALLOWED, consents=("c-1",))

    ocsf, fhir = check(_entry(under, samples.CONSENT))

    assert fhir["meta"]["profile"] == [PROFILES + "AuthZconsent"]
    assert [e["what"].get("identifier", {}).get("value") for e in fhir["entity"]] == [PATIENT, "c-1", "dec-1"]
    assert (ocsf["class_uid"], ocsf["privileges"], ocsf["status"]) == (3003, ["read:TREAT"], "Success")


def test_a_use_of_a_permit_says_to_a_soc_by_which_one() -> None:
    used = PermitUsed(
        permit=f"permit-{'1' * 20}",
        use="0" * 20,
        owner="did:web:h.example",
        data_set="cohort-1",
        purpose="HRESCH",
        principal=CLINICIAN,
        number=1,
        used_at=samples.NOON,
        state_positions=(),
        request=UNASKED,
    )
    ocsf, _ = check(_entry(used, samples.CONSENT))

    assert ocsf["policy"]["name"] == used.permit
    assert ocsf["authorizations"][0]["decision"] == "allow"


def test_a_refused_decision_claims_no_profile_and_is_a_failure() -> None:
    refused = msgspec.structs.replace(ALLOWED, allowed=False, reasons=("no-policy-permits",))

    ocsf, fhir = check(_entry(refused, samples.CONSENT))

    assert "meta" not in fhir
    assert fhir["outcome"] == "4"
    assert (ocsf["status"], ocsf["action"], ocsf["status_detail"]) == (
        "Failure",
        "Denied",
        "no-policy-permits",
    )


def test_a_read_is_a_patient_read_of_balp_and_a_datastore_read_of_ocsf() -> None:
    ocsf, fhir = check(_entry(READ, samples.STORAGE))

    assert fhir["meta"]["profile"] == [PROFILES + "PatientRead"]
    assert fhir["agent"][2]["who"]["identifier"]["value"] == CLINICIAN
    assert (ocsf["type_uid"], ocsf["actor"]["user"]["uid"]) == (600501, CLINICIAN)
    assert ocsf["enrichments"][0]["data"]["leaf_hash"] == ocsf["metadata"]["uid"]
    assert ocsf["enrichments"][0]["src_url"].startswith("http://127.0.0.1:8405/receipts?topic=")


def test_an_unproven_sender_is_not_accused() -> None:
    claimed = b"v1 did:key:z6MkvictimX#k 0/1 " + b"A" * 86 + b"=="

    for reason in Reason:
        entry = describe_rejected(samples.place(), reason, claimed, Directory(nobody()))
        proven = list(Reason).index(reason) >= list(Reason).index(Reason.MALFORMED_JSON)
        assert (entry.actor == "did:key:z6MkvictimX") == (proven and reason not in PLACES_AND_TIMES)


# What depends on where a value stands, on what stood there before, or on who had which role or key then.
PLACES_AND_TIMES = {
    Reason.WRONG_TOPIC,
    Reason.WRONG_KEY,
    Reason.NOT_OWNER,
    Reason.INVALID_REQUEST,
    Reason.DUPLICATE,
}


@pytest.mark.parametrize("reason", sorted(PLACES_AND_TIMES))
def test_who_signed_is_not_accused_of_where_others_put_it(reason: Reason) -> None:
    """Case security.md, low, and of two attacks: the victim's signed bytes, replayed elsewhere or later."""
    victim = "did:key:z6MkvictimX"
    signature = f"v1 {victim}#k 0/1 ".encode() + b"A" * 86 + b"=="
    entry = describe_rejected(samples.place(), reason, signature, Directory(nobody()))
    ocsf, fhir = check(entry)

    assert (entry.actor, entry.member, entry.facts.party) == (None, None, victim)
    assert entry.facts.summary.startswith("Somebody, not proven to be")
    assert ocsf["actor"]["user"]["uid"] == ocsf["src_endpoint"]["uid"] == "unproven"
    assert ocsf["unmapped"]["party"] == victim
    assert [agent["who"]["identifier"]["value"] for agent in fhir["agent"]][2] == "urn:salus:unproven"
    assert victim not in str(fhir["agent"])


def test_whom_a_patient_means_by_a_role_is_told_with_the_member() -> None:
    told: dict[str, Any] = {"patient": PATIENT, "valid_from": samples.NOON, "epoch": 1, "request": UNASKED}
    granted = ConsentGranted(
        consent="c-1",
        grantee=samples.MEMBER,
        actions=("read",),
        purposes=("TREAT",),
        valid_until=samples.NOON,
        role="clinician",
        **told,
    )
    forbidden = AccessProhibited(prohibition="p-1", party=samples.MEMBER, role="researcher", **told)
    for data, words in (
        (granted, f"lets every clinician of {short(samples.MEMBER)} read for TREAT"),
        (forbidden, f"forbids every researcher of {short(samples.MEMBER)} to read and write"),
    ):
        entry = _entry(data, samples.STORAGE)
        ocsf, fhir = check(entry)

        assert words in entry.facts.summary
        assert (entry.facts.party, entry.facts.party_role) == (samples.MEMBER, data.role)
        assert ocsf["unmapped"]["party_role"] == data.role
        assert {"type": "party-role", "valueString": data.role} in fhir["entity"][1]["detail"]


def test_an_event_type_newer_than_this_service_is_still_shown() -> None:
    named = Named("e-1", samples.MEMBER, "salus.trials.enrolled.v9", "subject-1", samples.NOON)

    ocsf, _ = check(describe_unknown(named, samples.place(), None, Directory(nobody())))

    assert ocsf["metadata"]["event_code"] == "salus.trials.enrolled.v9"


def test_an_event_of_a_service_that_joined_later_means_what_its_type_says_and_names_who_asked() -> None:
    """Issue 13, section 2: a new service touches nothing, so its events have no describer here."""
    context = Context("trailers")
    owner = context.role("trailers", "service", "keeps trailers")

    class TrailerSealed(RequestedData):
        """A trailer was sealed."""

        trailer: Text

    kind = "salus.trailers.trailer-sealed.v1"
    context.event(kind, owner=owner, retention=Retention.RECORD, subject_field="trailer")(TrailerSealed)
    asked = Request(by=CLINICIAN, authentication="did-jwt", behalf=samples.MEMBER)
    data = TrailerSealed(trailer="T-1", request=asked)
    value = encode_event(data, id="e-1", source=samples.STORAGE, subject="T-1", time=samples.NOON)
    event = decode_event(value, Catalogue([context]))

    entry = describe(event, Applied(1), samples.place(), None, Directory(nobody()))
    check(entry)

    assert (entry.actor, entry.facts.object, entry.facts.behalf) == (CLINICIAN, "T-1", samples.MEMBER)
    assert (entry.facts.activity, entry.facts.summary) == (
        Activity.RECORDED,
        f"{kind}: A trailer was sealed.",
    )


MEMBERSHIP: list[tuple[EventData, Severity, int, str]] = [
    (MemberSuspended(samples.MEMBER, "inquiry", request=UNASKED), Severity.HIGH, 5, "suspended: inquiry"),
    (MemberReinstated(samples.MEMBER, "unfounded", request=UNASKED), Severity.MEDIUM, 2, "reinstated: "),
    (MemberExpelled(samples.MEMBER, "left", request=UNASKED), Severity.HIGH, 6, "expelled: left"),
]


@pytest.mark.parametrize(("data", "severity", "ocsf", "words"), MEMBERSHIP)
def test_a_members_standing_is_told_with_its_reason(
    data: EventData, severity: Severity, ocsf: int, words: str
) -> None:
    facts = facts_of(data)
    assert facts is not None
    entry = TrailEntry(
        place=samples.place(), status="accepted", time=samples.NOON, facts=facts, actor=CLINICIAN
    )

    event, resource = check(entry)

    assert (facts.party, facts.severity) == (samples.MEMBER, severity)
    # Disable, enable and delete of OCSF's account change.
    assert (event["class_uid"], event["activity_id"]) == (3001, ocsf)
    assert event["unmapped"]["rules"] == [data.reason]  # type: ignore[attr-defined]  # each of them has one
    assert words in event["message"]
    assert words in resource["outcomeDesc"]


def test_what_an_operator_stated_while_she_was_one_accuses_her_of_nothing_later() -> None:
    """Case of the third attack: whoever read it puts it on the topic again once the role is gone."""
    olga = LocalSigner.from_seed(b"o" * 32)
    ring = ring_with(olga, "operator")
    stated = TopicsRestored(log_size=1, log_root="0" * 64, partitions=())
    value = encode_event(stated, id="restored-1", source=olga.did, subject="n", time=samples.NOON)
    [signature] = sign_values([value], olga)
    ring.apply(RoleWithdrawn(did=olga.did, role="operator", request=UNASKED), at=samples.NOON)
    with pytest.raises(RejectedError) as caught:
        judge(
            topic="salus.network.events",
            key=b"n",
            value=value,
            signature=signature,
            ring=ring,
            at=samples.NOON + timedelta(days=9),
        )
    entry = describe_rejected(samples.place(), str(caught.value.reason), signature, Directory(nobody()))

    assert (caught.value.reason, entry.actor, entry.facts.party) == (Reason.NOT_OWNER, None, olga.did)


def test_a_record_of_audits_own_on_a_topic_of_events_is_signed_by_nobody() -> None:
    """Case of the third attack: an OCSF record put on a topic of events named audit as who did that."""
    audit = LocalSigner.from_seed(b"a" * 32)
    ring = ring_with(audit, "audit", kind="service")
    value = b'{"class_uid":3003}'
    [signature] = OwnSignatures(audit, lambda: ring).of([value])
    with pytest.raises(RejectedError) as caught:
        judge(
            topic="salus.clinical.events",
            key=b"n",
            value=value,
            signature=signature,
            ring=ring,
            at=samples.NOON,
        )
    entry = describe_rejected(samples.place(), str(caught.value.reason), signature, Directory(nobody()))

    assert (caught.value.reason, entry.actor, entry.facts.party) == (Reason.BAD_SIGNATURE, None, None)
    assert OwnSignatures(audit, lambda: ring).are_on(value, signature)
    assert not OwnSignatures(audit, lambda: ring).are_on(value, sign_values([value], audit)[0])


def ring_with(signer: LocalSigner, role: RoleName, *, kind: PartyKind = "person") -> KeyRing:
    ring = KeyRing(CATALOGUE, NETWORK)
    key = PublicKey(
        signer.verification_method, multibase_of(signer.public_key), samples.NOON - timedelta(days=30)
    )
    ring.apply(PartyRegistered(did=signer.did, kind=kind, roles=(role,), keys=(key,), request=UNASKED))
    return ring
