"""A KMS that takes over from another: what the old one wrapped still opens, until it is wrapped anew."""

from __future__ import annotations

from dataclasses import dataclass

from salus.crypto.errors import UnwrapError
from salus.crypto.kms import Kms, RootsInUse


@dataclass(frozen=True)
class KmsSuccession:
    """Wraps by `current`, and asks `previous` for what that does not open."""

    current: Kms
    previous: Kms

    async def wrap(self, key: bytes, *, context: str) -> bytes:
        """Return the key wrapped by the current KMS."""
        return await self.current.wrap(key, context=context)

    async def unwrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Return the key, of whichever of the two opens it."""
        try:
            return await self.current.unwrap(wrapped, context=context)
        except UnwrapError:
            return await self.previous.unwrap(wrapped, context=context)

    async def rewrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Return the same key under the root key that is current in the current KMS."""
        try:
            return await self.current.rewrap(wrapped, context=context)
        except UnwrapError:
            key = await self.previous.unwrap(wrapped, context=context)
            return await self.current.wrap(key, context=context)

    async def is_current(self, wrapped: bytes) -> bool:
        """Say whether a key is wrapped under the root key that is current in the current KMS."""
        return await self.current.is_current(wrapped)

    async def rotate(self) -> str:
        """Add a root key to the current KMS; the previous one stays as it is."""
        return await self.current.rotate()

    async def retire(self, in_use: RootsInUse) -> None:
        """Forget the old root keys of the current KMS, if no key needs them, nor the previous KMS."""
        await self.current.retire(in_use)

    async def check(self) -> None:
        """Return if both serve."""
        await self.current.check()
        await self.previous.check()

    async def close(self) -> None:
        """Close both."""
        try:
            await self.current.close()
        finally:
            await self.previous.close()
