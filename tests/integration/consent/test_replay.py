"""A recorded decision is replayed from the topics alone."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.asking import UNASKED
from tests.integration.consent.town import Town, signing

from salus.consent.domain.decisions import inputs_digest, replay
from salus.events.contexts.consent import AccessDecided, StatePosition
from salus.events.contexts.identity import RoleWithdrawn
from salus.events.effect import Applied, claims_of, effect_of
from salus.events.event_types import EventData
from salus.events.judging import judge
from salus.events.keyring import KeyRing
from salus.ledger.records import SIGNATURE_HEADER, appended_at
from salus.messaging import Reader, Record
from salus.runtime.identity_view import apply_identity_record
from salus.runtime.network import Network


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


async def records_before(town: Town, position: StatePosition) -> list[Record]:
    """Return what stands in a partition before a position."""
    at, found = (position.topic, position.partition), list[Record]()
    async with Reader(town.parts.kafka_bootstrap, starts={at: 0}) as reader:
        while await reader.position(*at) < position.end:
            found += await reader.poll(max_records=500, timeout_ms=100)
    return [record for record in found if record.offset < position.end]


async def replayed(town: Town, decision: AccessDecided) -> str:
    """Return the digest of what the policies saw, by the topics up to the decision's positions."""
    ring = Network.read(town.network.file).new_ring()
    positions = {at.topic: at for at in decision.state_positions if at.partition == 0}
    for record in await records_before(town, positions["salus.identity.events"]):
        apply_identity_record(ring, record)
    folds = {}
    for topic in ("salus.consent.events", "salus.storage.events"):
        folds[topic] = Fold(ring, town.pseudonym)
        for record in await records_before(town, positions[topic]):
            folds[topic].take(record)
    inputs = replay(
        decision,
        said_of_patient=folds["salus.consent.events"].events,
        said_of_record=folds["salus.storage.events"].events,
        parties=ring.parties,
    )
    return inputs_digest(inputs)


async def test_every_recorded_decision_is_replayed_from_the_topics(town: Town) -> None:
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
        decisions = [e.data for e in await town.events() if isinstance(e.data, AccessDecided)]

    assert [d.allowed for d in decisions] == [False, True, True, True, False, False]
    assert [await replayed(town, decision) for decision in decisions] == [d.inputs for d in decisions]
    # The first and the last saw the same: neither a consent nor a party that is the patient now.
    assert len({d.inputs for d in decisions}) == len(decisions) - 1
    # The trail needs no join to tell under which consent.
    assert [d.consents for d in decisions] == [(), (), (), (granted.json()["consent"],), (), ()]
