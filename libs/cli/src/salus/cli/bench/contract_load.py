"""What contracts are loaded with: patients of the hospital, and grants, as callers send them and as facts.

Run as a program it publishes grants as the consent service would have: bootstrap, key file, first, end.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from salus.cli.bench.load import BATCH
from salus.cli.bench.stage import HOSPITAL_SEED
from salus.client import Publisher
from salus.client.auth import RequestLine, make_bearer
from salus.client.identifiers import new_id
from salus.crypto.keys import load_ed25519
from salus.devkit.network import Plan
from salus.events.bearer import audience_of
from salus.events.contexts.consent import ConsentGranted
from salus.events.contexts.storage import SubjectRegistered
from salus.events.did import LocalSigner
from salus.events.envelope import encode_event
from salus.events.event_types import EventData
from salus.events.pseudonyms import pseudonym_of
from salus.events.requests import SIGNED, Request
from salus.events.signature import sign_values
from salus.ledger.records import SIGNATURE_HEADER
from salus.messaging import Bootstrap, Producer

CONSENT_TOPIC = "salus.consent.events"
GRANTS_OF_A_PATIENT = 4
ORIGIN = Plan().origin
HOSPITAL = LocalSigner.from_seed(HOSPITAL_SEED)
DAYS = 30


def patient_of(number: int) -> str:
    """Return the patient of a grant."""
    return pseudonym_of(HOSPITAL.did, nonce_of(number))


def nonce_of(number: int) -> str:
    """Return the nonce that the patient of a grant is made of."""
    return f"{number // GRANTS_OF_A_PATIENT:032x}"


def grant_line(number: int, until: datetime) -> RequestLine:
    """Return the request by which the hospital grants itself a consent for its patient."""
    body = {
        "patient": patient_of(number),
        "grantee": HOSPITAL.did,
        "actions": ["read"],
        "purposes": ["TREAT"],
    }
    return RequestLine("POST", "/consents", msgspec.json.encode({**body, "valid_until": until}))


def token_for(line: RequestLine, service: str) -> str:
    """Return the hospital's token for a request."""
    return make_bearer(HOSPITAL, audience_of(service, ORIGIN), now=datetime.now(UTC), request=line)


def asked(line: RequestLine, service: str) -> Request:
    """Return the request as an event carries it."""
    body = (line.body or b"").decode()
    return Request(by=HOSPITAL.did, authentication=SIGNED, proof=token_for(line, service), body=body)


async def register_patients(bootstrap: Bootstrap, storage: LocalSigner, grants: range) -> None:
    """State that the hospital stewards the patients of these grants."""
    async with Publisher(bootstrap, storage) as publisher:
        for number in grants[::GRANTS_OF_A_PATIENT]:
            patient = patient_of(number)
            body = msgspec.json.encode({"nonce": nonce_of(number), "steward": HOSPITAL.did})
            fact = SubjectRegistered(
                patient=patient,
                steward=HOSPITAL.did,
                suite="bench",
                key=f"{patient}#1",
                public_key="none",
                request=asked(RequestLine("POST", "/subjects", body), "storage"),
            )
            await publisher.publish(fact, subject=patient, expected_version=0)
        await publisher.flush()


def granted_batches(grants: range, signer: LocalSigner) -> Iterator[list[tuple[bytes, bytes, bytes]]]:
    """Yield key, value and signature of the facts that these grants come to, signed BATCH at a time."""
    waiting: list[tuple[bytes, bytes]] = []
    for number in grants:
        now = datetime.now(UTC)
        until, patient = now.replace(microsecond=0) + timedelta(days=DAYS), patient_of(number)
        place = number % GRANTS_OF_A_PATIENT
        fact: EventData = ConsentGranted(
            consent=f"{patient.removeprefix('urn:uuid:')}.{place:08x}",
            patient=patient,
            grantee=HOSPITAL.did,
            actions=("read",),
            purposes=("TREAT",),
            valid_from=now,
            valid_until=until,
            epoch=0,
            request=asked(grant_line(number, until), "consent"),
        )
        value = encode_event(
            fact, id=new_id(now), source=signer.did, subject=patient, time=now, expected_version=place
        )
        waiting.append((patient.encode(), value))
        if len(waiting) == BATCH or number == grants[-1]:
            signatures = sign_values([value for _, value in waiting], signer)
            yield [(key, value, s) for (key, value), s in zip(waiting, signatures, strict=True)]
            waiting.clear()


async def main(bootstrap: str, key_file: str, first: str, end: str) -> None:
    """Publish the facts of these grants, and wait until all are acknowledged."""
    consent = LocalSigner(load_ed25519(Path(key_file)))
    async with Producer(bootstrap, client_id=f"salus-bench-{first}") as producer:
        for batch in granted_batches(range(int(first), int(end)), consent):
            for key, value, signature in batch:
                headers = [(SIGNATURE_HEADER, signature)]
                await producer.enqueue(CONSENT_TOPIC, key=key, value=value, headers=headers, partition=0)
        await producer.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
