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

TOPIC = "salus.clinical.events"
BATCH = 64
PATIENTS = 5000

Signed = tuple[bytes, bytes, bytes]
"""Key, value and signature header of one event."""


def signed_batches(count: int, signer: LocalSigner, *, first: int = 0) -> Iterator[list[Signed]]:
    """Yield `count` events in batches, numbered from `first` on; the same ones for the same numbers."""
    chance = random.Random(first)  # noqa: S311  # noise, not secrets
    moment = datetime(2026, 11, 22, 12, tzinfo=UTC)
    for start in range(0, count, BATCH):
        keys = [_patient(chance) for _ in range(min(BATCH, count - start))]
        numbers = range(first + start, first + start + len(keys))
        values = [_event(key, signer, moment, chance, n) for key, n in zip(keys, numbers, strict=True)]
        signatures = sign_values(values, signer)
        yield [(k.encode(), v, s) for k, v, s in zip(keys, values, signatures, strict=True)]


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a patient's events, known beforehand: offsets can be told from the order."""
    return int(key[-12:]) % partitions


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
