"""Patients' private keys in a bucket of their own, each wrapped by the KMS."""

from __future__ import annotations

from dataclasses import dataclass

from salus.crypto.kms import Kms
from salus.objects import ChangedError, NotFoundError, ObjectStore

FOLDER = "subjects"
_CONTEXT = "salus.health/subject-key/v1"


@dataclass(frozen=True)
class BucketVault:
    """Keys lie at `subjects/<patient>/<number of the key>`.

    The bucket must not be versioned and must not be backed up: destroying a key is how a patient is erased.
    """

    store: ObjectStore
    kms: Kms

    async def keep(self, *, patient: str, key: str, private_key: bytes) -> None:
        """Wrap and store a new key."""
        wrapped = await self.kms.wrap(private_key, context=_context(key))
        await self.store.create(_name(patient, key), wrapped)

    async def fetch(self, *, patient: str, key: str) -> bytes:
        """Fetch and unwrap a key."""
        return await self.kms.unwrap(await self.store.get(_name(patient, key)), context=_context(key))

    async def destroy(self, patient: str) -> None:
        """Destroy every key of a patient; a crash midway leaves some, and repeating it destroys the rest."""
        names = [entry.key async for entry in self.store.list(f"{FOLDER}/{patient}")]
        for name in names:
            await self.store.destroy(name)

    async def patients(self) -> set[str]:
        """Return every patient of whom a key is kept."""
        return {entry.key.split("/")[1] async for entry in self.store.list(FOLDER)}

    async def rewrap(self) -> int:
        """Wrap every key anew, one at a time.

        A key that is destroyed meanwhile stays destroyed, for only an object that is still there is replaced.
        """
        changed = 0
        names = [entry.key async for entry in self.store.list(FOLDER)]
        for name in names:
            changed += await self._rewrap(name)
        return changed

    async def _rewrap(self, name: str) -> int:
        _, patient, number = name.split("/")
        try:
            wrapped, etag = await self.store.get_with_etag(name)
            after = await self.kms.rewrap(wrapped, context=_context(f"{patient}#{number}"))
            if after == wrapped:
                return 0
            await self.store.replace(name, after, etag)
        except (NotFoundError, ChangedError):
            return 0
        return 1


def _name(patient: str, key: str) -> str:
    return f"{FOLDER}/{patient}/{key.rpartition('#')[2]}"


def _context(key: str) -> str:
    return f"{_CONTEXT} {key}"
