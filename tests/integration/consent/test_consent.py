"""Consent on real Kafka: grant, decide, revoke, break the glass; races and restarts."""

from __future__ import annotations

import asyncio
from functools import partial

import jwt
from tests.asking import NETWORK, UNASKED
from tests.integration.consent.town import Town, signing

from salus.consent.__main__ import SERVICE
from salus.consent.adapters.folded import CONSENT_TOPIC, STORAGE_TOPIC
from salus.events.bearer import audience_of
from salus.events.contexts.identity import RoleGranted, RoleWithdrawn
from salus.events.contexts.storage import SubjectErased
from salus.messaging import Reader, Record


async def test_a_consent_opens_and_its_revocation_closes_at_once(town: Town) -> None:
    async with town.replica("a.db") as a, town.replica("b.db") as b:
        ask = partial(town.ask, signing(town.clinician))
        before = await ask(a)
        granted = await a.post("/consents", json=town.grant(), auth=signing(town.hospital))
        during = await ask(b)
        url = f"/consents/{granted.json()['consent']}/revoke"
        revoked = await a.post(url, auth=signing(town.hospital))
        after = await ask(b)
        again = await a.post(url, auth=signing(town.hospital))

    assert (before["allowed"], before["reasons"], before["token"]) == (False, ["no-policy-permits"], None)
    assert (during["allowed"], during["reasons"]) == (True, ["consented-clinician-reads"])
    assert revoked.json()["revoked"]
    assert (after["allowed"], after["epoch"]) == (False, 1)
    assert (again.status_code, again.json()["code"]) == (409, "consent-revoked")


# issue 14, Consent and access 1: to a role at a member, from the position at which somebody gets or loses it.
async def test_a_consent_to_a_role_follows_the_role_at_once(town: Town) -> None:
    to_role = town.grant(grantee=town.hospital.did, role="clinician")
    async with town.replica("a.db") as a, town.replica("b.db") as b:
        to_person = await a.post("/consents", json=town.grant(role="clinician"), auth=signing(town.hospital))
        granted = await a.post("/consents", json=to_role, auth=signing(town.hospital))
        asked = [await town.ask(signing(who), b) for who in (town.clinician, town.colleague, town.hospital)]
        seen = await a.get(f"/consents/{granted.json()['consent']}", auth=signing(town.colleague))
        fhir = await b.get(f"/fhir/Consent/{granted.json()['consent']}", auth=signing(town.hospital))
        await town.identity_says(RoleWithdrawn(did=town.colleague.did, role="clinician", request=UNASKED))
        lost = await town.ask(signing(town.colleague), b)
        hidden = await a.get(f"/consents/{granted.json()['consent']}", auth=signing(town.colleague))
        others = town.grant(grantee=town.hospital.did, role="researcher") | {"actions": [], "purposes": []}
        others = {"party" if name == "grantee" else name: value for name, value in others.items()}
        forbidden = await a.post("/prohibitions", json=others, auth=signing(town.hospital))
        before = await town.ask(signing(town.clinician), b)
        await town.identity_says(RoleGranted(did=town.clinician.did, role="researcher", request=UNASKED))
        gained = await town.ask(signing(town.clinician), b)

    assert (to_person.status_code, to_person.json()["code"]) == (422, "role-without-member")
    assert [answer["allowed"] for answer in asked] == [True, True, False]
    assert granted.json()["recipient"] == f"every clinician of {town.hospital.did}"
    assert (seen.json(), hidden.status_code) == (granted.json(), 404)
    assert fhir.json()["contained"][0]["code"][0]["coding"][0]["code"] == "clinician"
    assert lost["reasons"] == ["no-policy-permits"]
    assert forbidden.json()["recipient"] == f"every researcher of {town.hospital.did}"
    assert (before["allowed"], gained["reasons"]) == (True, ["patient-forbids"])


async def test_a_token_is_bound_to_holder_object_action_purpose_and_epoch(town: Town) -> None:
    async with town.replica() as client:
        await client.post("/consents", json=town.grant(), auth=signing(town.hospital))
        answer = await client.post("/decisions", json=town.question(), auth=signing(town.clinician))

    consent = town.network.signer("consent")
    token = answer.json()["token"]
    claims = jwt.decode(
        token, consent.public_key, algorithms=["EdDSA"], audience=audience_of("storage", NETWORK)
    )
    assert claims == {
        "iss": consent.did,
        "sub": town.clinician.did,
        "aud": audience_of("storage", NETWORK),
        "jti": answer.json()["decision"],
        "obj": "object-1",
        "act": "read",
        "pat": town.pseudonym,
        "pur": "TREAT",
        "epoch": 0,
        "bg": False,
        "roles": ["clinician"],
        "iat": claims["iat"],
        "exp": claims["iat"] + 60,
    }
    assert jwt.get_unverified_header(token)["kid"] == consent.verification_method


async def test_every_answer_is_an_event_denials_too(town: Town) -> None:
    async with town.replica() as client:
        answers = [
            (await client.post("/decisions", json=town.question(), auth=signing(who))).json()
            for who in (town.clinician, town.operator)
        ]
        events = await town.events()

    decided = [event.data for event in events if event.type.name == "salus.consent.access-decided.v1"]
    assert [d.decision for d in decided] == [a["decision"] for a in answers]  # type: ignore[attr-defined]  # of that type
    assert [d.allowed for d in decided] == [False, False]  # type: ignore[attr-defined]  # of that type
    assert decided[1].reasons == ("operator-never-reads",)  # type: ignore[attr-defined]  # of that type
    topics = set(SERVICE.manifest.topics.reads)
    assert all(len(d.inputs) == 64 and {at.topic for at in d.state_positions} == topics for d in decided)  # type: ignore[attr-defined]  # of that type


async def test_breaking_the_glass_is_allowed_loud_and_reviewed(town: Town) -> None:
    emergency = town.question(purpose="ETREAT", break_glass={"reason": "life-threatening"})
    async with town.replica() as client:
        plain = await client.post(
            "/decisions", json=town.question(purpose="ETREAT"), auth=signing(town.clinician)
        )
        answer = (await client.post("/decisions", json=emergency, auth=signing(town.clinician))).json()
        url = f"/glass-breaks/{answer['decision']}/review"
        own = await client.post(url, json={"outcome": "justified"}, auth=signing(town.clinician))
        queue = (await client.get("/reviews", auth=signing(town.officer))).json()["reviews"]
        judgement = {"outcome": "unjustified", "ground": "no-emergency"}
        reviewed = await client.post(url, json=judgement, auth=signing(town.officer))
        left = (await client.get("/reviews", auth=signing(town.hospital))).json()
        again = await client.post(url, json={"outcome": "justified"}, auth=signing(town.officer))
        listed = await client.get(f"/patients/{town.pseudonym}/glass-breaks", auth=signing(town.officer))
        events = await town.events()

    assert plain.json()["allowed"] is False
    assert (answer["allowed"], answer["break_glass"], answer["reasons"]) == (True, True, ["break-glass"])
    assert answer["obligations"] == ["notify-patient", "notify-privacy-officer", "review-within-72h"]
    claims = jwt.decode(answer["token"], options={"verify_signature": False})
    assert (claims["bg"], claims["exp"] - claims["iat"]) == (True, 300)
    names = [event.type.name.split(".")[2] for event in events]
    assert names == ["access-decided", "glass-broken", "access-decided", "glass-break-reviewed"]
    assert (own.status_code, own.json()["code"]) == (403, "not-permitted")
    assert reviewed.status_code == 204
    assert (again.status_code, again.json()["code"]) == (409, "already-reviewed")
    shown = (
        "decision",
        "principal",
        "member",
        "object",
        "reason",
        "outcome",
        "ground",
        "reviewer",
        "overdue",
    )
    said = (answer["decision"], town.clinician.did, town.hospital.did, "object-1", "life-threatening")
    judged = ("unjustified", "no-emergency", town.officer.did, False)
    assert [tuple(one[name] for name in shown) for one in listed.json()] == [(*said, *judged)]
    assert [(one["decision"], one["patient"]) for one in queue] == [(answer["decision"], town.pseudonym)]
    assert left == {"reviews": [], "next": None}


async def test_a_patient_decides_for_herself_once_her_steward_said_who_she_is(town: Town) -> None:
    own = town.question(purpose="PATRQT")
    async with town.replica() as client:
        early = await client.post("/consents", json=town.grant(), auth=signing(town.patient))
        url = f"/patients/{town.pseudonym}/parties"
        wrong = await client.post(url, json={"did": town.clinician.did}, auth=signing(town.hospital))
        self_made = await client.post(url, json={"did": town.patient.did}, auth=signing(town.patient))
        linked = await client.post(url, json={"did": town.patient.did}, auth=signing(town.hospital))
        granted = await client.post("/consents", json=town.grant(), auth=signing(town.patient))
        read = await client.post("/decisions", json=own, auth=signing(town.patient))
        mine = await client.get(f"/patients/{town.pseudonym}/consents", auth=signing(town.patient))
        theirs = await client.get(f"/patients/{town.pseudonym}/consents", auth=signing(town.colleague))

    codes = [(r.status_code, r.json()["code"]) for r in (early, wrong, self_made)]
    assert codes == [(403, "not-permitted"), (422, "not-a-patient"), (403, "not-permitted")]
    assert (linked.status_code, granted.status_code) == (201, 201)
    assert read.json()["reasons"] == ["patient-reads-own"]
    assert [c["consent"] for c in mine.json()["consents"]] == [granted.json()["consent"]]
    assert theirs.json()["consents"] == []


async def test_an_erased_patient_is_read_by_nobody(town: Town) -> None:
    emergency = town.question(purpose="ETREAT", break_glass={"reason": "other"})
    async with town.replica() as client:
        await client.post("/consents", json=town.grant(), auth=signing(town.hospital))
        await town.storage_says(
            SubjectErased(
                patient=town.pseudonym,
                key="k",
                requested_by=town.hospital.did,
                basis="gdpr-art-17",
                objects=1,
                request=UNASKED,
            )
        )
        answers = [
            (await client.post("/decisions", json=body, auth=signing(town.clinician))).json()
            for body in (town.question(), emergency)
        ]
        granted = await client.post("/consents", json=town.grant(), auth=signing(town.hospital))

    assert [(a["allowed"], a["reasons"]) for a in answers] == [(False, ["patient-erased"])] * 2
    assert (granted.status_code, granted.json()["code"]) == (409, "patient-erased")


async def test_a_repeated_grant_with_the_same_key_has_one_effect(town: Town) -> None:
    headers, auth = {"Idempotency-Key": "request-0001"}, signing(town.hospital)
    body = town.grant()
    async with town.replica("a.db") as a, town.replica("b.db") as b:
        first = await a.post("/consents", json=body, headers=headers, auth=auth)
        second = await b.post("/consents", json=body, headers=headers, auth=auth)
        other = await b.post("/consents", json={**body, "purposes": ["HOPERAT"]}, headers=headers, auth=auth)
        listed = await a.get(f"/patients/{town.pseudonym}/consents", auth=signing(town.hospital))

    assert first.json() == second.json()
    assert (other.status_code, other.json()["code"]) == (422, "idempotency-key-reused")
    assert len(listed.json()["consents"]) == 1


async def test_a_token_that_stands_on_the_topic_gets_no_answer_from_another_replica(town: Town) -> None:
    """The red team: whoever reads the topic has the token while it is good."""
    async with town.replica() as a, town.replica("b.db") as b:
        headers = {"Idempotency-Key": "request-0001"}
        request = a.build_request("POST", "/consents", json=town.grant(), headers=headers)
        signed = next(signing(town.hospital).auth_flow(request))
        granted = await a.send(signed)
        await town.ask(signing(town.clinician), b)
        again = await b.send(signed)

    assert granted.status_code == 201, granted.text
    assert (again.status_code, again.json()["code"]) == (401, "token-used")


async def test_eight_equal_grants_at_once_are_one_consent_and_one_answer(town: Town) -> None:
    """Case S3: idempotency that holds one after another but not at once."""
    body, auth = town.grant(), signing(town.hospital)
    async with town.replica("a.db") as a, town.replica("b.db") as b:
        answers = await asyncio.gather(
            *(
                client.post("/consents", json=body, headers={"Idempotency-Key": "at-once-0001"}, auth=auth)
                for client in (a, b) * 4
            )
        )
        listed = await a.get(f"/patients/{town.pseudonym}/consents", auth=auth)
        events = await town.events()

    assert [answer.status_code for answer in answers] == [201] * 8
    assert len({answer.text for answer in answers}) == 1
    assert len(listed.json()["consents"]) == 1
    # Of two replicas each may have stated it once; one of them took effect.
    assert len(events) <= 2


async def test_an_account_that_is_denied_too_often_is_told_to_wait(town: Town) -> None:
    """Case security.md, low: denied decisions are unbounded per account."""
    async with town.replica(denials_burst_max=2, denials_per_minute_max=1) as client:
        answers = [
            await client.post("/decisions", json=town.question(), auth=signing(town.clinician))
            for _ in range(3)
        ]
        other = await client.post("/decisions", json=town.question(), auth=signing(town.colleague))
        events = await town.events()

    assert [answer.status_code for answer in (*answers, other)] == [200, 200, 429, 200]
    assert answers[2].json()["code"] == "too-many-requests"
    assert int(answers[2].headers["retry-after"]) >= 1
    assert len(events) == 3


async def test_of_two_replicas_that_change_one_patient_at_once_none_loses_an_answer(town: Town) -> None:
    async with town.replica("a.db") as a, town.replica("b.db") as b:
        responses = await asyncio.gather(
            *(c.post("/consents", json=town.grant(), auth=signing(town.hospital)) for c in (a, b, a, b))
        )
        lists = [
            (await c.get(f"/patients/{town.pseudonym}/consents", auth=signing(town.hospital))).json()
            for c in (a, b)
        ]

    # Whoever was overtaken has decided again, by what was true then.
    assert [r.status_code for r in responses] == [201] * 4
    assert lists[0] == lists[1]
    assert {c["consent"] for c in lists[0]["consents"]} == {r.json()["consent"] for r in responses}


async def test_a_restart_and_a_new_database_arrive_at_the_same_state(town: Town) -> None:
    url = f"/patients/{town.pseudonym}/consents"
    async with town.replica("a.db") as client:
        granted = await client.post("/consents", json=town.grant(), auth=signing(town.hospital))
    async with town.replica("a.db") as client:
        consent = granted.json()["consent"]
        await client.post(f"/consents/{consent}/revoke", auth=signing(town.hospital))
        kept = (await client.get(url, auth=signing(town.hospital))).json()
    async with town.replica("new.db") as client:
        rebuilt = (await client.get(url, auth=signing(town.hospital))).json()
        ready = await client.get("/readyz")

    assert kept == rebuilt
    assert kept["epoch"] == 1
    assert ready.status_code == 200


async def test_a_policy_set_is_adopted_once(town: Town) -> None:
    for database in ("a.db", "a.db", "new.db"):
        async with town.replica(database):
            pass
    async with Reader(town.parts.kafka_bootstrap, starts={(CONSENT_TOPIC, 0): 0}) as reader:
        records: list[Record] = []
        while len(records) < (await reader.end_offsets())[CONSENT_TOPIC, 0]:
            records += await reader.poll(max_records=500, timeout_ms=100)

    service = town.network.signer("consent").did.encode()
    assert len([record for record in records if record.key == service]) == 1


async def test_fhir_consents_go_in_and_come_out(town: Town) -> None:
    async with town.replica() as client:
        granted = await client.post("/consents", json=town.grant(), auth=signing(town.hospital))
        url = f"/fhir/Consent/{granted.json()['consent']}"
        resource = await client.get(url, auth=signing(town.hospital))
        created = await client.post("/fhir/Consent", json=resource.json(), auth=signing(town.hospital))
        refused = await client.post(
            "/fhir/Consent", json={**resource.json(), "modifierExtension": []}, auth=signing(town.hospital)
        )
        hidden = await client.get(url, auth=signing(town.operator))

    assert resource.headers["content-type"] == "application/fhir+json"
    assert created.status_code == 201
    assert created.headers["location"] == f"/fhir/Consent/{created.json()['id']}"
    assert created.json()["provision"] == resource.json()["provision"]
    assert refused.status_code == 422
    assert refused.json()["issue"][0]["expression"] == ["Consent.modifierExtension"]
    assert hidden.status_code == 404


def test_the_topics_are_those_of_the_catalogue() -> None:
    assert (CONSENT_TOPIC, STORAGE_TOPIC) == ("salus.consent.events", "salus.storage.events")
