"""Events as a hospital would send them: about 1 KiB each, signed in batches of 64."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator
from datetime import UTC, datetime

from salus.client.identifiers import new_id
from salus.events.catalogue import EncounterRecorded, Sealed
from salus.events.did import LocalSigner
from salus.events.envelope import encode_event
from salus.events.signature import sign_values

BATCH = 64
EVENT_BYTES = 1024
PATIENTS = 5000


def signed_batches(count: int, signer: LocalSigner) -> Iterator[list[tuple[bytes, bytes, bytes]]]:
    """Yield batches of (key, value, signature header), `count` events in all."""
    chance = random.Random(1)
    moment = datetime(2026, 11, 22, 12, tzinfo=UTC)
    for first in range(0, count, BATCH):
        keys = [_patient(chance) for _ in range(min(BATCH, count - first))]
        values = [_event(patient, signer, moment, chance, first + i) for i, patient in enumerate(keys)]
        signatures = sign_values(values, signer)
        yield [(k.encode(), v, s) for k, v, s in zip(keys, values, signatures, strict=True)]


def _patient(chance: random.Random) -> str:
    return f"urn:uuid:00000000-0000-4000-8000-{chance.randrange(PATIENTS):012d}"


def _event(patient: str, signer: LocalSigner, moment: datetime, chance: random.Random, number: int) -> bytes:
    # What a sealed field holds looks like noise, and so does not compress.
    ciphertext = base64.b64encode(chance.randbytes(264)).decode()
    data = EncounterRecorded(
        patient=patient,
        encounter=f"encounter-{number:09d}",
        content=Sealed(
            suite="MLKEM768X25519-HKDF-SHA256-AES-256-GCM", key=f"{patient}#1", ciphertext=ciphertext
        ),
    )
    return encode_event(data, id=new_id(moment), source=signer.did, subject=patient, time=moment)
