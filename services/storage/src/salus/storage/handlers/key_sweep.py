"""Looks through the bucket of keys by itself, for keys of patients whose key is recorded as destroyed.

The reactor of erasures settles what the topic obliges to, and the record that a key is gone ends that. This
finds a key whose record is not true, for a thief of storage's key made it, and a copy that somebody put back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import structlog
from prometheus_client import Counter, Gauge

from salus.messaging import MessagingError
from salus.objects import ObjectsError
from salus.runtime.database import DATABASE_AWAY
from salus.runtime.supervisor import succeeded
from salus.storage.handlers.sweep import RETRY_S_MAX, Sweep
from salus.storage.ports import Subjects, Vault

# States are asked for so many patients at a time.
PATIENTS_AT_ONCE = 500

DESTROYED = Counter(
    "salus_storage_keys_destroyed_late",
    "Patients of whom a key was there, and was destroyed, although the topic said that it was gone.",
)
LEFT = Gauge(
    "salus_storage_keys_left",
    "Patients of whom a key is there, and could not be destroyed, although the topic says that it is gone.",
)

_log = structlog.get_logger()


@dataclass
class KeySweep(Sweep):
    """Destroys keys that are recorded as destroyed, and counts those that the store does not let go."""

    away = (ObjectsError, MessagingError, *DATABASE_AWAY)
    waiting = "the bucket of keys is not looked through"

    facts: Subjects
    vault: Vault
    interval_s: float
    left: int = field(default=0, init=False)

    @property
    def pause_s(self) -> float:
        """A key that the store does not let go is looked for sooner."""
        return min(self.interval_s, RETRY_S_MAX) if self.left else self.interval_s

    async def look_through(self) -> None:
        """Destroy every such key; a crash or an error leaves the rest to the next time.

        Raises:
            ObjectsError, MessagingError: the bucket cannot be listed, or the topic not be read.
        """
        left = 0
        async for patients in self._batches():
            await self.facts.catch_up()
            for patient, key in (await self.facts.destroyed(patients)).items():
                left += await self._remains(patient, key)
            succeeded()
        self.left = left
        LEFT.set(left)

    async def check(self) -> str | None:
        """Return what /readyz says of keys that should be gone, or None; they make storage not unready."""
        if not self.left:
            return None
        return f"keys of {self.left} erased patients are there, and the store does not let them be destroyed"

    async def _batches(self) -> AsyncIterator[list[str]]:
        batch: list[str] = []
        async for patient in self.vault.patients():
            batch.append(patient)
            if len(batch) == PATIENTS_AT_ONCE:
                yield batch
                batch = []
        if batch:
            yield batch

    async def _remains(self, patient: str, key: str) -> bool:
        """Destroy the keys of a patient, and tell whether one remains.

        The bucket was listed before it was asked what is recorded: by now the key may be gone, as it should.
        """
        try:
            if not await self.vault.holds(patient):
                return False
            await self.vault.destroy(patient, key=key)
        except ObjectsError as error:
            _log.error("a key that is recorded as destroyed is there", error=type(error).__name__)
            return True
        DESTROYED.inc()
        _log.error("a key that was recorded as destroyed was there: it is destroyed now")
        return False
