"""The trail shows as done only what was done, and names who asked (cases SEC3, SEC6, F4)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest
from tests.asking import UNASKED, truly_asked
from tests.unit.audit.chain import ORIGIN, Accepted, Chain, Refused
from tests.unit.audit.people import joining, nobody
from tests.unit.audit.samples import AROUND, CONSENT, IDENTITY, MEMBER, NOON, STORAGE
from tests.unit.audit.test_indexing import (
    CLINICIAN,
    EVERYTHING,
    GRANTED,
    PATIENT,
    READ,
    REVOKED,
    all_of,
    index_all,
    indexer_of_all,
)
from tests.unit.audit.test_mappings import FHIR, OCSF

from salus.audit.adapters.sql import SqlTrail
from salus.audit.domain.blocks import needs_in
from salus.audit.domain.directory import Needs
from salus.audit.domain.entry import TrailEntry
from salus.audit.domain.fhir import audit_event_of
from salus.audit.domain.meanings import short
from salus.audit.domain.ocsf import ocsf_of
from salus.audit.domain.search import Question, Visibility
from salus.audit.ports import BehindError
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import RoleGranted
from salus.events.contexts.storage import SubjectRegistered
from salus.events.did import LocalSigner
from salus.events.event_types import EventData
from salus.events.requests import Request
from salus.ledger.check_blocks import Row

LABORATORY = "did:web:laboratory.example"
PERSON = joining(CLINICIAN)


def grant(number: int) -> EventData:
    return msgspec.structs.replace(GRANTED, consent=f"c-{number}")


def subject_of(steward: str) -> SubjectRegistered:
    return SubjectRegistered(
        patient=PATIENT, steward=steward, suite="s", key="k", public_key="p", request=UNASKED
    )


async def trail_of(trail: SqlTrail, *blocks: Sequence[Accepted | Refused]) -> list[TrailEntry]:
    chain = Chain()
    for block in blocks:
        chain.seal(block)
    await index_all(chain, trail)
    return [each.entry for each in await all_of(trail)]


async def test_of_six_grants_that_raced_the_trail_shows_two_as_done(trail: SqlTrail) -> None:  # case SEC3
    raced = [
        Accepted(grant(number), source=CONSENT, name=f"g-{number}", subject=PATIENT, version=number // 3)
        for number in range(6)
    ]
    entries = await trail_of(trail, raced[:2], raced[2:])

    assert [e.facts.outcome for e in entries] == [
        "success",
        *["without-effect"] * 2,
        "success",
        *["without-effect"] * 2,
    ]
    assert entries[1].facts.summary.startswith("Without effect (stale): ")
    for entry in entries[1:3]:
        ocsf, fhir = ocsf_of(entry, AROUND), audit_event_of(entry, AROUND)
        assert (ocsf["status_id"], ocsf["status_code"]) == (2, "without-effect")
        assert fhir["outcome"] == "4"


async def test_a_revocation_that_lost_leaves_the_consent_in_force(trail: SqlTrail) -> None:  # case SEC3
    other = msgspec.structs.replace(REVOKED, consent="c-2")
    await trail_of(
        trail,
        [Accepted(grant(1), source=CONSENT, name="1"), Accepted(grant(2), source=CONSENT, name="2")],
        [
            Accepted(REVOKED, source=CONSENT, name="3", version=2),
            Accepted(other, source=CONSENT, name="4", version=2),
        ],
    )
    needs = Needs(frozenset({(PATIENT, "c-1"), (PATIENT, "c-2")}))
    directory = await trail.directory(needs, nobody())
    known = [directory.consent(PATIENT, name) for name in ("c-1", "c-2")]

    assert [consent is not None and consent.revoked for consent in known] == [True, False]


async def test_of_a_patients_consents_a_block_needs_those_that_it_ends(trail: SqlTrail) -> None:
    # Case of the fourth attack: each block that named a patient loaded every consent that she ever had.
    chain = Chain()
    grants = [
        Accepted(grant(number), source=CONSENT, name=f"g-{number}", subject=PATIENT, version=number - 1)
        for number in range(1, 4)
    ]
    ends = [Accepted(REVOKED, source=CONSENT, name="r", subject=PATIENT, version=3)]
    bodies = [await chain.body(0, chain.seal(block)) for block in (grants, ends)]
    await index_all(chain, trail)

    needed = [needs_in([Row(*row) for row in chain.rows(body)], CATALOGUE).consents for body in bodies]

    assert needed == [set(), {(PATIENT, REVOKED.consent)}]
    assert (await all_of(trail))[-1].entry.facts.party == GRANTED.grantee
    directory = await trail.directory(Needs(frozenset({(PATIENT, "c-2")})), nobody())
    assert [directory.consent(PATIENT, f"c-{number}") is not None for number in range(1, 4)] == [
        False,
        True,
        False,
    ]


async def test_who_lost_a_pseudonym_sees_nothing_of_the_winners_patient(trail: SqlTrail) -> None:  # case SEC3
    entries = await trail_of(
        trail,
        [
            Accepted(subject_of(MEMBER), source=STORAGE, name="won"),
            Accepted(subject_of(LABORATORY), source=STORAGE, name="lost", version=0),
        ],
        [Accepted(READ, source=STORAGE, name="read", subject=PATIENT)],
    )
    seen = {
        member: await trail.search(Question(after=0), Visibility(stewards=frozenset({member})), limit=10)
        for member in (MEMBER, LABORATORY)
    }

    assert [e.facts.outcome for e in entries] == ["success", "without-effect", "success"]
    assert await trail.steward(PATIENT) == MEMBER
    assert len(seen[MEMBER]) == 3
    assert seen[LABORATORY] == []


async def test_a_role_that_was_not_granted_in_time_is_shown_so(trail: SqlTrail) -> None:  # case SEC3
    role = RoleGranted(did=CLINICIAN, role="operator", request=UNASKED)
    entries = await trail_of(
        trail,
        [Accepted(PERSON, source=IDENTITY, name="1"), Accepted(role, source=IDENTITY, name="2", version=0)],
    )

    assert [entry.facts.outcome for entry in entries] == ["success", "without-effect"]


async def test_a_replayed_fact_is_shown_as_without_effect(trail: SqlTrail) -> None:  # case SEC3, replays
    fact = Accepted(grant(1), source=CONSENT, name="1", version=0)

    entries = await trail_of(trail, [fact], [fact])
    assert [e.facts.outcome for e in entries] == ["success", "without-effect"]


@pytest.mark.parametrize("behalf", [None, MEMBER])
async def test_the_trail_names_who_asked_as_the_agent(
    trail: SqlTrail, behalf: str | None
) -> None:  # case SEC6
    request = Request(by=CLINICIAN, authentication="did-jwt", behalf=behalf, decision="dec-9")
    granted = msgspec.structs.replace(GRANTED, request=request)
    (_, entry) = await trail_of(
        trail, [Accepted(PERSON, source=IDENTITY)], [Accepted(granted, source=CONSENT, name="g")]
    )
    ocsf, fhir = ocsf_of(entry, AROUND), audit_event_of(entry, AROUND)

    assert (entry.actor, entry.source, entry.member) == (CLINICIAN, CONSENT, MEMBER)
    assert (entry.facts.authentication, entry.facts.behalf, entry.facts.decision) == (
        "did-jwt",
        behalf,
        "dec-9",
    )
    assert ocsf["actor"]["user"]["uid"] == CLINICIAN
    requestors = [a for a in fhir["agent"] if a.get("requestor")]
    assert [a["who"]["identifier"]["value"] for a in requestors] == [CLINICIAN]


async def test_the_trail_names_the_second_operator(trail: SqlTrail) -> None:
    # Case of the fourth attack: nobody was told who had approved what one operator alone may not ask.
    asker, approver = (LocalSigner.from_seed(seed * 32) for seed in (b"a", b"b"))
    role = RoleGranted(did=CLINICIAN, role="operator", request=UNASKED)
    granted = truly_asked(role, asker, at=NOON, seen=[f"{CLINICIAN}#key"], second=approver)
    (entry,) = await trail_of(trail, [Accepted(granted, source=IDENTITY, name="1")])
    ocsf, fhir = ocsf_of(entry, AROUND), audit_event_of(entry, AROUND)
    outsider, seer = (Visibility(actors=frozenset({did})) for did in (MEMBER, approver.did))

    assert (entry.actor, entry.facts.approver) == (asker.did, approver.did)
    assert entry.facts.summary.endswith(f" {short(approver.did)} approved it.")
    OCSF[ocsf["class_uid"]].validate(ocsf)
    [authorization] = ocsf["actor"]["authorizations"]
    assert authorization["decision"] == "approved"
    assert approver.did in authorization["policy"]["desc"]
    assert approver.did in [each["value"] for each in ocsf["observables"]]
    FHIR.validate(fhir)
    [verifier] = [a for a in fhir["agent"] if a["type"]["coding"][0]["code"] == "VRF"]
    assert (verifier["who"]["identifier"]["value"], verifier["requestor"]) == (approver.did, False)
    found = [await trail.search(Question(who=approver.did), who, limit=9) for who in (seer, outsider)]
    assert [[each.entry for each in some] for some in found] == [[entry], []]
    assert [who.shows(entry, steward=None) for who in (seer, outsider)] == [True, False]
    assert len(await trail.search(Question(q=approver.did), EVERYTHING, limit=9)) == 1


async def test_a_block_waits_for_what_another_shard_sealed_of_its_partition_before(trail: SqlTrail) -> None:
    giver, taker = Chain(), Chain(shard=1, origin="salus.local/dev/shard/1")
    giver.seal([Accepted(grant(1), source=CONSENT, name="1")])
    later = Accepted(grant(2), source=CONSENT, name="2", version=1)
    taker.seal([later], took=f"{ORIGIN}/block/0")
    indexer = indexer_of_all([giver, taker], trail)
    with pytest.raises(BehindError, match=r"goes on from .*/shard/0/block/0"):
        await indexer.index_next(1)
    await indexer.index_next(0)

    assert await indexer.index_next(1) == 1
    assert [each.entry.facts.outcome for each in await all_of(trail)] == ["success", "success"]
