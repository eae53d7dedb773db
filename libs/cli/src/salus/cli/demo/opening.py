"""The first chapters: organisations join, records go off-chain, events go onto the ledger."""

from __future__ import annotations

import asyncio
import hashlib
import time
from base64 import b64decode
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from salus.cli.demo.cast import Player, registration
from salus.cli.demo.patients import Happening, SyntheticPatient
from salus.cli.demo.stage import Known, Stage
from salus.cli.display import styled
from salus.client import Handle, Publisher
from salus.client.pseudonyms import new_nonce
from salus.crypto.sealing import SUITE, seal
from salus.events.contexts.clinical import DocumentRegistered, EncounterRecorded, ObservationRecorded
from salus.events.contexts.lab import ResultReleased
from salus.events.contexts.pharma import MedicationDispensed
from salus.events.event_types import EventData
from salus.events.fields import Sealed
from salus.events.sealing_context import sealing_context
from salus.ledger.policy import Policy
from salus.objects import refuse_stray

UPLOADS_AT_ONCE = 4
EVENTS_A_PATIENT_MAX = 150
RECEIPTS_S_MAX = 60
# The demo stores small records.
STORED_BYTES_MAX = 16 * 1024 * 1024


async def organisations_join(stage: Stage) -> None:
    """Register three members and their people; a member registers its own."""
    stage.chapter(
        "1 · Three organisations join",
        "The network's operator admits a hospital, a laboratory and a pharmacy, and their people, "
        "each with a key of its own. Every admission is a signed event; there is no shared user "
        "database.",
    )
    cast, operator = stage.cast, stage.platform.network.signer("operator")
    registered = partial(registration, network=stage.caller.network)
    for member in (cast.hospital, cast.laboratory, cast.pharmacy):
        body = registered(member, kind="member", roles=[], member=None)
        stage.require(await stage.caller.call("POST", "identity", "/parties", by=operator, body=body), 201)
        stage.say(styled("{} is [cyan]{}…[/]", member.title, member.did[:24]))
    people: Sequence[tuple[Player, str]] = (
        (cast.treating, "clinician"),
        (cast.covering, "clinician"),
        (cast.officer, "privacy-officer"),
        (cast.analyst, "soc-analyst"),
        (cast.patient, "patient"),
    )
    for person, role in people:
        body = registered(person, kind="person", roles=[role], member=cast.hospital)
        stage.require(await stage.caller.call("POST", "identity", "/parties", by=operator, body=body), 201)
    stranger = registered(cast.treating, kind="person", roles=["operator"], member=None)
    refused = await stage.caller.call(
        "POST", "identity", "/parties", by=cast.pharmacy.signer, body={**stranger, "did": cast.pharmacy.did}
    )
    stage.show("nobody admits whom they may not", refused.status in {403, 409, 422}, evidence=refused.code)


async def records_go_off_chain(stage: Stage) -> None:
    """Give every patient a key and store her record encrypted to it."""
    megabytes = sum(len(person.record) for person in stage.patients) / 1e6
    stage.chapter(
        "2 · Records go off-chain, encrypted",
        f"The hospital stores the records of {len(stage.patients)} synthetic patients, "
        f"{megabytes:.0f} MB of FHIR. Each patient gets a pseudonym and a hybrid post-quantum key "
        "pair; each record a data key of its own. The ledger gets a salted commitment, never "
        "data.",
    )
    places = asyncio.Semaphore(UPLOADS_AT_ONCE)
    with Progress(
        TextColumn("  storing", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        console=stage.console,
        transient=True,
    ) as progress:
        task = progress.add_task("", total=len(stage.patients))

        async def keep(person: SyntheticPatient) -> Known:
            async with places:
                known = await _register_and_store(stage, person)
            progress.advance(task)
            return known

        with stage.timed() as taken:
            stage.known = list(await asyncio.gather(*map(keep, stage.patients)))
    stage.measured(
        "records encrypted and stored", f"{megabytes / taken[0]:.1f} MB/s, {len(stage.known)} patients"
    )
    stage.heroine = next(
        i for i, known in enumerate(stage.known) if known.person.name == stage.cast.patient.title
    )
    link = await stage.caller.call(
        "POST",
        "consent",
        f"/patients/{stage.her.pseudonym}/parties",
        by=stage.cast.hospital.signer,
        body={"did": stage.cast.patient.did},
    )
    stage.require(link, 201)
    raw = await _stored_bytes(stage, stage.her.object)
    readable = sum(word in raw for word in (b"resourceType", b"Patient", stage.her.person.name.encode()))
    stage.show("the stored bytes tell nothing", readable == 0, evidence=f"{len(raw)} bytes of ciphertext")


async def _register_and_store(stage: Stage, person: SyntheticPatient) -> Known:
    hospital = stage.cast.hospital.signer
    body = {"nonce": new_nonce()}
    subject = stage.require(
        await stage.caller.call("POST", "storage", "/subjects", by=hospital, body=body), 201
    ).json
    known = Known(person, subject["patient"], subject["key"], b64decode(subject["public_key"]))
    stored = await stage.caller.call(
        "POST",
        "storage",
        "/objects",
        by=hospital,
        content=person.record,
        headers={"Content-Type": "application/fhir+json"},
        patient=known.pseudonym,
    )
    known.object = stage.require(stored, 201).json["object"]
    return known


async def _stored_bytes(stage: Stage, name: str) -> bytes:
    bucket = stage.bucket("salus-objects")
    async for entry in bucket.list(name, on_stray=refuse_stray):
        return await bucket.get(entry.key, bytes_max=STORED_BYTES_MAX)
    return b""


async def events_go_onto_the_ledger(stage: Stage) -> None:
    """Publish what happened to every patient, each kind by the organisation it belongs to."""
    stage.chapter(
        "3 · What happened becomes events, events become a ledger",
        "Hospital, laboratory and pharmacy publish encounters, observations, results and "
        "dispenses to Kafka. Their content is sealed to the patient, 64 events share one "
        "signature. The sequencer turns every record into a leaf of a signed block; anchoring "
        "hashes the block into the network's log.",
    )
    events = _happenings_of(stage.known)
    stage.say(f"{len(events)} events, each sealed with HPKE (X-Wing)")
    policy = Policy.from_network(stage.platform.network.file.read_bytes())
    cast = stage.cast
    members = {"clinical": cast.hospital, "lab": cast.laboratory, "pharma": cast.pharmacy}
    async with AsyncExitStack() as stack:
        publishers = {
            context: await stack.enter_async_context(
                Publisher(
                    stage.platform.kafka_bootstrap,
                    member.signer,
                    receipts_url=stage.platform.service_url("anchoring"),
                    policy=policy,
                )
            )
            for context, member in members.items()
        }
        began = time.perf_counter()
        handles: list[Handle] = []
        for known, happening in events:
            source, publisher = members[happening.context].did, publishers[happening.context]
            handles.append(await _publish(publisher, known, happening, source=source))
        positions = await asyncio.gather(*(handle.position() for handle in handles))
        sent = time.perf_counter() - began
        last = await asyncio.gather(*(handle.receipt(timeout_s=RECEIPTS_S_MAX) for handle in handles[-8:]))
        proven = time.perf_counter() - began
        stage.measured("signed, published and acknowledged", f"{len(events) / sent:,.0f} events/s")
        stage.measured("publish to verified receipt, all events", f"{proven:.2f} s for {len(events)} events")
        stage.show(
            "Kafka has every event", len(positions) == len(events), evidence=f"{len(positions)} acknowledged"
        )
        stage.show(
            "the ledger accepted them, and receipts prove it",
            all(receipt.verified is not None for receipt in last),
            evidence=f"{len(last)} receipts verified offline as they came",
        )
        await _one_alone(stage, publishers["clinical"])
    stage.facts["events"] = len(events)


async def _one_alone(stage: Stage, publisher: Publisher) -> None:
    data = DocumentRegistered(
        patient=stage.her.pseudonym, object=stage.her.object, media_type="application/fhir+json"
    )
    began = time.perf_counter()
    handle = await publisher.publish(data, subject=stage.her.pseudonym)
    receipt = await handle.receipt(timeout_s=RECEIPTS_S_MAX)
    stage.measured(
        "one event alone, publish to verified receipt", f"{(time.perf_counter() - began) * 1000:.0f} ms"
    )
    stage.facts["receipt"] = receipt.data
    stage.facts["event"] = handle.value


def _happenings_of(everybody: Sequence[Known]) -> list[tuple[Known, Happening]]:
    return [
        (known, happening)
        for known in everybody
        for happening in known.person.happenings(most=EVENTS_A_PATIENT_MAX)
    ]


async def _publish(publisher: Publisher, known: Known, happening: Happening, *, source: str) -> Handle:
    # The resource's own id could be looked up in the member's system; its hash can not.
    reference = hashlib.sha256(f"{known.pseudonym}/{happening.identifier}".encode()).hexdigest()[:32]
    data = _event(known, happening, reference=reference, source=source)
    return await publisher.publish(data, subject=known.pseudonym, time=happening.at, id=reference)


def _event(known: Known, happening: Happening, *, reference: str, source: str) -> EventData:
    def sealed(cls: type[EventData]) -> Sealed:
        context = sealing_context(cls, source=source, id=reference)
        value = seal(happening.content, public_key=known.public_key, key=known.key, context=context)
        return Sealed(suite=SUITE, key=value.key, ciphertext=value.ciphertext)

    match happening.kind:
        case "Encounter":
            return EncounterRecorded(
                patient=known.pseudonym, encounter=reference, content=sealed(EncounterRecorded)
            )
        case "Observation":
            return ObservationRecorded(
                patient=known.pseudonym, observation=reference, content=sealed(ObservationRecorded)
            )
        case "DiagnosticReport":
            return ResultReleased(patient=known.pseudonym, report=reference, content=sealed(ResultReleased))
        case _:
            return MedicationDispensed(
                patient=known.pseudonym, dispense=reference, content=sealed(MedicationDispensed)
            )
