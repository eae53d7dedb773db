"""Patients' private keys in a bucket of their own, each wrapped by the KMS."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import structlog

from salus.crypto.errors import KmsAwayError, UnwrapError
from salus.crypto.kms import Kms, root_name
from salus.objects import (
    ChangedError,
    NotFoundError,
    ObjectsError,
    ObjectStore,
    StoreAwayError,
    Stray,
    TooLargeError,
)

FOLDER = "subjects"
ROTATIONS_MAX = 10
REWRAPPED_AT_ONCE = 16
# A wrapped key takes some hundred bytes.
WRAPPED_BYTES_MAX = 16 * 1024
_CONTEXT = "salus.health/subject-key/v1"
# No slash, no dot: what a backup tool or a person puts beside the keys is mostly called otherwise.
_NAME = re.compile(rf"{FOLDER}/(?P<patient>[^/]+)/(?P<number>[0-9a-f]{{1,64}})")

OnRewrapped = Callable[[int, int, str], None]
"""Hears of how many more keys, how many wrapped anew in all, and the last of them."""

_log = structlog.get_logger()


@dataclass(frozen=True)
class BucketVault:
    """Keys lie at `subjects/<patient>/<number of the key>`.

    The bucket must not be versioned and must not be backed up: destroying a key is how a patient is erased.
    """

    store: ObjectStore
    kms: Kms

    async def keep(self, *, patient: str, key: str, private_key: bytes) -> None:
        """Wrap and store a new key, under the root key that is current once it is stored.

        If the root key was rotated meanwhile, who retires the old one may have listed the keys before this
        one was there, so it is wrapped anew from the key itself. A crash before that may leave a key that no
        root key opens; nobody was told of it.
        """
        wrapped = await self.kms.wrap(private_key, context=_context(key))
        await self.store.create(_name(patient, key), wrapped)
        for _ in range(ROTATIONS_MAX):
            if await self.kms.is_current(wrapped):
                return
            try:
                wrapped, etag = await self._wrapped(_name(patient, key))
                if not await self.kms.is_current(wrapped):
                    wrapped = await self.kms.wrap(private_key, context=_context(key))
                    await self.store.replace(_name(patient, key), wrapped, etag)
            except ChangedError:
                continue
            except NotFoundError:
                return
        raise KmsAwayError(f"the root key was rotated {ROTATIONS_MAX} times while one key was stored")

    async def fetch(self, *, patient: str, key: str) -> bytes:
        """Fetch and unwrap a key."""
        return await self.kms.unwrap((await self._wrapped(_name(patient, key)))[0], context=_context(key))

    async def discard(self, *, patient: str, key: str) -> None:
        """Destroy one key that nobody was told of."""
        await self.store.destroy(_name(patient, key))

    async def destroy(self, patient: str, *, key: str) -> None:
        """Destroy every key of a patient; a crash midway leaves some, and repeating it destroys the rest.

        What is no key is left and logged. A key that the store does not let go holds up no other. A list may
        leave out what is there: `key` is destroyed by its name, and each is looked up when it should be gone.

        Raises:
            ObjectsError: the store did not destroy all of them; the first of its errors.
        """
        failed: list[ObjectsError] = []
        listed = [name async for name in _names(self.store, f"{FOLDER}/{patient}")]
        for name in dict.fromkeys([*listed, _name(patient, key)]):
            try:
                await self.store.destroy(name)
                await self._require_gone(name)
            except ObjectsError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    async def _require_gone(self, name: str) -> None:
        try:
            await self.store.head(name)
        except NotFoundError:
            return
        raise StoreAwayError(name, "the key is there after it was destroyed")

    async def holds(self, patient: str) -> bool:
        """Tell whether there is a key of a patient."""
        return await _has_any(self.store, f"{FOLDER}/{patient}")

    async def patients(self) -> AsyncIterator[str]:
        """Yield each patient of whom there is a key, in the order of the store."""
        last = ""
        async for name in _names(self.store, FOLDER):
            _, patient, _ = name.split("/")
            if patient != last:
                yield patient
            last = patient

    async def rewrap(self, *, after: str = "", tell: OnRewrapped = lambda *_: None) -> int:
        """Wrap every key anew that lies behind `after`, some at a time, and pass what is no key.

        A key that is destroyed meanwhile stays destroyed, for only an object that is still there is replaced.
        `tell` hears every REWRAPPED_AT_ONCE keys up to which one all are done: from there it can go on.

        Raises:
            UnwrapError: so many keys do not unwrap; every other is wrapped anew.
        """
        changed = 0
        damaged: list[str] = []

        async def rewrap_one(name: str) -> None:
            nonlocal changed
            try:
                done = await self._rewrap(name)
            except UnwrapError as error:
                _log.error("a key does not unwrap", name=name, error=str(error))
                damaged.append(name)
            else:
                changed += done

        async for names in _batches(_names(self.store, FOLDER, start_after=after)):
            ended = await asyncio.gather(*map(rewrap_one, names), return_exceptions=True)
            for error in ended:
                if error is not None:
                    raise error
            tell(len(names), changed, names[-1])
        if damaged:
            raise UnwrapError(
                f"{len(damaged)} keys, the first at {min(damaged)}; {changed} were wrapped anew"
            )
        return changed

    async def roots_in_use(self) -> set[str]:
        """Return the name of every root key that a key is wrapped under, as the bucket has them now.

        Raises:
            UnwrapError: something under a key's name is no wrapped key.
        """
        found: set[str] = set()
        for name in [name async for name in _names(self.store, FOLDER)]:
            try:
                found.add(root_name((await self._wrapped(name))[0]))
            except NotFoundError:
                continue
        return found

    async def _wrapped(self, name: str) -> tuple[bytes, str]:
        """Return a wrapped key and its ETag; raises UnwrapError if it is larger than any."""
        try:
            return await self.store.get_with_etag(name, bytes_max=WRAPPED_BYTES_MAX)
        except TooLargeError as error:
            raise UnwrapError(str(error)) from error

    async def _rewrap(self, name: str) -> int:
        _, patient, number = name.split("/")
        try:
            wrapped, etag = await self._wrapped(name)
            after = await self.kms.rewrap(wrapped, context=_context(f"{patient}#{number}"))
            if after == wrapped:
                return 0
            await self.store.replace(name, after, etag)
        except (NotFoundError, ChangedError):
            return 0
        return 1


async def holds_keys(store: ObjectStore) -> bool:
    """Tell whether the bucket has any key; what else lies there does not count."""
    return await _has_any(store, FOLDER)


async def _has_any(store: ObjectStore, folder: str) -> bool:
    async for _ in _names(store, folder):
        return True
    return False


async def _batches(names: AsyncIterator[str]) -> AsyncIterator[list[str]]:
    batch: list[str] = []
    async for name in names:
        batch.append(name)
        if len(batch) == REWRAPPED_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


async def _names(store: ObjectStore, folder: str, *, start_after: str = "") -> AsyncIterator[str]:
    """Yield where keys lie; what is no key is counted and named in the log, escaped."""
    others: list[str] = []

    def pass_over(stray: Stray) -> None:
        others.append(stray.shown)

    async for entry in store.list(folder, start_after, on_stray=pass_over):
        if _NAME.fullmatch(entry.key):
            yield entry.key
        else:
            others.append(entry.key)
    if others:
        _log.warning("what is no key lies among the keys, and stays", count=len(others), first=others[0])


def _name(patient: str, key: str) -> str:
    return f"{FOLDER}/{patient}/{key.rpartition('#')[2]}"


def _context(key: str) -> str:
    return f"{_CONTEXT} {key}"
