"""What can be wrong with a stored object, by its parts, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from salus.crypto.commitment import require_commitment
from salus.crypto.errors import CommitmentError, UnsealError
from salus.crypto.sealing import unseal
from salus.objects import NotFoundError, ObjectStore
from salus.runtime.problems import ProblemError
from salus.storage.domain import ObjectState, location_of

FAULTS_MAX = 16
"""An inspection names this many faults and then stops looking for more."""

SALT_CONTEXT = "salus.storage.object-stored.v1"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: the object, its header, a segment (from 0), its index, or its content."""

    part: Literal["object", "header", "segment", "index", "content"]
    fault: Literal["missing", "altered", "truncated", "extended"]
    segment: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What an inspection compared and found; without a key only what is stored can be compared."""

    object: str
    checked: tuple[str, ...]
    faults: tuple[Fault, ...]
    ciphertext_bytes: int

    @property
    def intact(self) -> bool:
        """Whether everything compared is as the ledger says."""
        return not self.faults


def corrupt(*faults: Fault) -> ProblemError:
    """Return what is answered where an object is not what the ledger says."""
    return ProblemError(
        502,
        "object-corrupt",
        f"the stored object is not what the ledger says: {sentence(faults[0])}",
        faults=[as_json(fault) for fault in faults],
    )


def as_json(fault: Fault) -> dict[str, str | int]:
    """Return a fault as the API tells it."""
    told: dict[str, str | int] = {"part": fault.part, "fault": fault.fault}
    return told if fault.segment is None else {**told, "segment": fault.segment}


def sentence(fault: Fault) -> str:
    """Return a fault in words."""
    part = fault.part if fault.segment is None else f"{fault.part} {fault.segment}"
    return f"{part} is {fault.fault}"


def by_size(size: int, stored: ObjectState) -> Literal["altered", "truncated", "extended"]:
    """Return what is wrong with an object of this size."""
    if size == stored.ciphertext_bytes:
        return "altered"
    return "truncated" if size < stored.ciphertext_bytes else "extended"


async def require_there(store: ObjectStore, stored: ObjectState) -> None:
    """Raise unless an object of the right size lies in the store; its bytes are not looked at.

    Raises:
        ProblemError: 502 `object-corrupt`.
        StoreAwayError: the store does not answer.
    """
    try:
        entry = await store.head(location(stored))
    except NotFoundError:
        raise corrupt(Fault("object", "missing")) from None
    if entry.size != stored.ciphertext_bytes:
        raise corrupt(Fault("object", by_size(entry.size, stored)))


def location(stored: ObjectState) -> str:
    """Return where an object lies."""
    if stored.salt is None:
        raise ValueError("an object without a salt was never stored")
    return location_of(stored.object, stored.salt)


def key_of(stored: ObjectState) -> str:
    """Return the id of the patient's key that an object is sealed to."""
    return stored.salt.key if stored.salt else ""


def salt_of(stored: ObjectState, private_key: bytes) -> bytes:
    """Return the salt of an object's commitment; raises UnsealError."""
    if stored.salt is None:
        raise UnsealError("")
    return unseal(stored.salt, private_key=private_key, context=SALT_CONTEXT)


def commitment_faults(stored: ObjectState, plaintext_sha256: bytes, private_key: bytes) -> list[Fault]:
    """Return a fault unless the ledger commits to content of this digest."""
    try:
        require_commitment(
            bytes.fromhex(stored.commitment),
            salt=salt_of(stored, private_key),
            plaintext_sha256=plaintext_sha256,
        )
    except (CommitmentError, UnsealError, ValueError):
        return [Fault("content", "altered")]
    return []
