"""Events as a hospital would send them: about 1 KiB each, signed in batches of 64."""

from __future__ import annotations

import base64
import random
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from salus.client.identifiers import new_id
from salus.events.contexts.clinical import DocumentRegistered
from salus.events.contexts.identity import PublicKey
from salus.events.did import LocalSigner, multibase_of
from salus.events.envelope import encode_event
from salus.events.signature import sign_values

TOPIC = "salus.clinical.events"
BATCH = 64
PATIENTS = 5000
NOISE_BYTES = 354
TEXT_CHARS = 240

Signed = tuple[bytes, bytes, bytes]
"""Key, value and signature header of one event."""


def signed_batches(
    count: int, signer: LocalSigner, *, first: int = 0, partitions: int = 1
) -> Iterator[list[Signed]]:
    """Yield `count` events in batches, numbered from `first` on; the same ones for the same numbers.

    A batch has events of one partition, as `Publisher` sends what comes faster than it can be sent; with one
    partition they come as they were made.
    """
    waiting: list[list[tuple[str, bytes]]] = [[] for _ in range(partitions)]
    for key, value in _events(count, signer, first):
        lane = waiting[partition_of(key.encode(), partitions)]
        lane.append((key, value))
        if len(lane) == BATCH:
            yield _signed(lane, signer)
            lane.clear()
    yield from (_signed(lane, signer) for lane in waiting if lane)


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a patient's events, known beforehand: offsets can be told from the order."""
    return int(key[-12:]) % partitions


def _events(count: int, signer: LocalSigner, first: int) -> Iterator[tuple[str, bytes]]:
    chance = random.Random(first)  # noqa: S311  # noise, not secrets
    moment = datetime(2026, 11, 22, 12, tzinfo=UTC)
    for number in range(first, first + count):
        key = _patient(chance)
        yield key, _event(key, signer, moment, chance, number)


def _signed(events: Sequence[tuple[str, bytes]], signer: LocalSigner) -> list[Signed]:
    signatures = sign_values([value for _, value in events], signer)
    return [(key.encode(), value, s) for (key, value), s in zip(events, signatures, strict=True)]


def _patient(chance: random.Random) -> str:
    return f"urn:uuid:00000000-0000-4000-8000-{chance.randrange(PATIENTS):012d}"


def _event(patient: str, signer: LocalSigner, moment: datetime, chance: random.Random, number: int) -> bytes:
    # Long names that look like noise, and so do not compress: as much of them as makes an event of 1 KiB.
    noise = base64.urlsafe_b64encode(chance.randbytes(NOISE_BYTES)).decode()
    data = DocumentRegistered(
        patient=patient,
        object=f"{number:09d}-{noise[:TEXT_CHARS]}",
        media_type=f"application/x-{noise[TEXT_CHARS:]}",
    )
    return encode_event(data, id=new_id(moment), source=signer.did, subject=patient, time=moment)


def public_key_of(signer: LocalSigner, since: datetime) -> PublicKey:
    """Return a signer's key as it is registered, valid from `since` on."""
    return PublicKey(signer.verification_method, multibase_of(signer.public_key), since)
