"""A recorded decision is replayed from the topics alone, up to exactly the positions that it names."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.asking import UNASKED
from tests.integration.consent.town import Town, signing
from tests.integration.replays import folded_up_to, records_before, ring_at

from salus.access.actors import Asking
from salus.access.cedar import CedarPolicies
from salus.access.decisions import (
    Inputs,
    Question,
    inputs_digest,
    inputs_of,
    patients_among,
    replay,
)
from salus.access.law import answer_of
from salus.access.policy_files import read_policies
from salus.consent.adapters.folded import CONSENT_TOPIC, PATIENTS, POLICIES, STORAGE_TOPIC, SUBJECTS
from salus.consent.adapters.release import policies_folder
from salus.contracts.contract import Contract
from salus.events.contexts.consent import AccessDecided
from salus.events.contexts.identity import RoleWithdrawn
from salus.events.effect import Applied, claims_of, effect_of
from salus.events.event_types import EventData
from salus.events.judging import judge
from salus.events.keyring import KeyRing
from salus.events.state_positions import ends_of
from salus.ledger.records import SIGNATURE_HEADER, appended_at
from salus.messaging import Record


@dataclass
class Fold:
    """What took effect on one patient, on one topic, as anybody tells it who has the topic."""

    ring: KeyRing
    patient: str
    version: int = 0
    claimed: set[str] = field(default_factory=set)
    events: list[EventData] = field(default_factory=list)

    def take(self, record: Record) -> None:
        if record.key != self.patient.encode():
            return
        judged = judge(
            topic=record.topic,
            key=record.key,
            value=record.value,
            signature=record.header(SIGNATURE_HEADER),
            ring=self.ring,
            at=appended_at(record.timestamp_ms),
            flaw=record.flaw,
        )
        effect = effect_of(
            judged.event,
            version=self.version,
            is_claimed=self.claimed.__contains__,
            is_entitled=lambda: True,
        )
        if isinstance(effect, Applied):
            self.version = effect.version
            self.claimed.update(claims_of(judged.event))
            self.events.append(judged.event.data)


async def replayed(town: Town, decision: AccessDecided) -> Inputs:
    """Return what the policies saw, by the topics up to the decision's positions and nobody's fold."""
    ends = ends_of(decision.state_positions)
    bootstrap = town.parts.kafka_bootstrap
    ring = await ring_at(bootstrap, town.network.file, ends)
    folds = {topic: Fold(ring, town.pseudonym) for topic in (CONSENT_TOPIC, STORAGE_TOPIC)}
    for topic, fold in folds.items():
        of_topic = {at: end for at, end in ends.items() if at[0] == topic}
        for record in await records_before(bootstrap, of_topic):
            fold.take(record)
    return replay(
        decision,
        said_of_patient=folds[CONSENT_TOPIC].events,
        said_of_record=folds[STORAGE_TOPIC].events,
        ring=ring,
    )


async def decided_again(
    town: Town, decision: AccessDecided, folder: Path
) -> tuple[str, bool, tuple[str, ...]]:
    """Fold all topics up to exactly the decision's positions, and decide by that state."""
    contracts: list[Contract[Any]] = [PATIENTS, POLICIES, SUBJECTS]
    keys = [(PATIENTS.kind, decision.patient), (SUBJECTS.kind, decision.patient)]
    async with folded_up_to(
        decision.state_positions,
        bootstrap=town.parts.kafka_bootstrap,
        network_file=town.network.file,
        contracts=contracts,
        database_url=f"sqlite+aiosqlite:///{folder / decision.decision}.db",
    ) as (store, ring):
        _, states = await store.load_at(keys)
    state = PATIENTS.decode(states[keys[0]]) if keys[0] in states else PATIENTS.state()
    subject = SUBJECTS.decode(states[keys[1]]) if keys[1] in states else SUBJECTS.state()
    question = Question(
        principal=Asking.of(ring.caller(decision.principal), decision.request),
        action=decision.action,
        object=decision.object,
        patient=decision.patient,
        purpose=decision.purpose,
        break_glass=decision.emergency,
    )
    patients = patients_among(state.dids, ring.parties)
    at = decision.decided_at
    inputs = inputs_of(question, state=state, patients=patients, subject=subject, at=at)
    verdict = CedarPolicies(read_policies(policies_folder(None))).evaluate(inputs)
    answer = answer_of(question, verdict, state=state, patients=patients, subject=subject, at=at)
    return inputs_digest(inputs), answer.allowed, answer.reasons


async def story(town: Town) -> tuple[list[AccessDecided], str, str]:
    """Have all kinds of decisions made, with what changes them in between; return them, and the consents."""
    own = town.question(purpose="PATRQT")
    emergency = town.question(purpose="ETREAT", break_glass={"reason": "other"})
    async with town.replica() as client:
        for body, who in ((town.question(), town.clinician), (emergency, town.clinician)):
            await client.post("/decisions", json=body, auth=signing(who))
        await town.link(client)
        granted = await client.post("/consents", json=town.grant(), auth=signing(town.hospital))
        await client.post("/decisions", json=own, auth=signing(town.patient))
        await client.post("/decisions", json=town.question(), auth=signing(town.clinician))
        await town.identity_says(RoleWithdrawn(did=town.patient.did, role="patient", request=UNASKED))
        await client.post("/decisions", json=own, auth=signing(town.patient))
        url = f"/consents/{granted.json()['consent']}/revoke"
        await client.post(url, auth=signing(town.hospital))
        await client.post("/decisions", json=town.question(), auth=signing(town.clinician))
        to_role = town.grant(grantee=town.hospital.did, role="clinician")
        shared = await client.post("/consents", json=to_role, auth=signing(town.hospital))
        await client.post("/decisions", json=town.question(), auth=signing(town.clinician))
        await town.identity_says(RoleWithdrawn(did=town.clinician.did, role="clinician", request=UNASKED))
        await client.post("/decisions", json=town.question(), auth=signing(town.clinician))
        decisions = [e.data for e in await town.events() if isinstance(e.data, AccessDecided)]
    return decisions, granted.json()["consent"], shared.json()["consent"]


async def test_every_recorded_decision_is_replayed_from_the_topics(town: Town, tmp_path: Path) -> None:
    decisions, consent, to_role = await story(town)

    assert [d.allowed for d in decisions] == [False, True, True, True, False, False, True, False]
    assert [inputs_digest(await replayed(town, d)) for d in decisions] == [d.inputs for d in decisions]
    # The first and the sixth saw the same: neither a consent nor a party that is the patient now.
    assert len({d.inputs for d in decisions}) == len(decisions) - 1
    # The trail needs no join to tell under which consent.
    assert [d.consents for d in decisions] == [(), (), (), (consent,), (), (), (to_role,), ()]
    for decision in decisions:
        expected = decision.inputs, decision.allowed, decision.reasons
        assert await decided_again(town, decision, tmp_path) == expected
