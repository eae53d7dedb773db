"""The KMS as the service uses it: uses counted and bound in time, unwrapped keys held for some seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from salus.crypto.errors import KmsAwayError, KmsUnusableError, UnwrapError
from salus.crypto.key_cache import KeyCache
from salus.crypto.kms import Kms, RootsInUse

USES = Counter(
    "salus_storage_kms_uses",
    "Uses of a root key, by operation and by what came of it: ok, held (a key that was unwrapped seconds"
    " ago), refused, unusable, away or broken-off (whoever asked has gone).",
    ["operation", "outcome"],
)
SECONDS = Histogram(
    "salus_storage_kms_seconds",
    "How long the KMS took, in seconds.",
    ["operation"],
    buckets=(0.0005, 0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0),
)


@dataclass(frozen=True)
class MeteredKms:
    """Each use ends within `deadline_s`, whatever the KMS does."""

    kms: Kms
    cache: KeyCache
    deadline_s: float
    clock: Callable[[], float] = time.monotonic

    async def wrap(self, key: bytes, *, context: str) -> bytes:
        """Return the key wrapped under the current root key."""
        async with self._counted("wrap"):
            return await self.kms.wrap(key, context=context)

    async def unwrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Return the key, asked for now or some seconds ago."""
        held = self.cache.get(wrapped, context=context)
        if held is not None:
            USES.labels("unwrap", "held").inc()
            return held
        asked = self.clock()
        async with self._counted("unwrap"):
            key = await self.kms.unwrap(wrapped, context=context)
        self.cache.put(wrapped, key, context=context, asked=asked)
        return key

    async def rewrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Return the same key under the current root key."""
        async with self._counted("rewrap"):
            return await self.kms.rewrap(wrapped, context=context)

    async def is_current(self, wrapped: bytes) -> bool:
        """Say whether a key is wrapped under the current root key."""
        async with self._counted("look"):
            return await self.kms.is_current(wrapped)

    async def rotate(self) -> str:
        """Add a root key."""
        async with self._counted("rotate"):
            return await self.kms.rotate()

    async def retire(self, in_use: RootsInUse) -> None:
        """Forget the old root keys; it takes as long as it takes to list the keys."""
        await self.kms.retire(in_use)

    async def check(self) -> None:
        """Return if the KMS serves."""
        async with self._counted("look"):
            await self.kms.check()

    async def close(self) -> None:
        """Close the KMS."""
        await self.kms.close()

    @asynccontextmanager
    async def _counted(self, operation: str) -> AsyncIterator[None]:
        outcome, begun = "away", self.clock()
        try:
            async with asyncio.timeout(self.deadline_s):
                yield
        except TimeoutError:
            raise KmsAwayError(f"the KMS has not answered within {self.deadline_s:g} s") from None
        except asyncio.CancelledError:
            outcome = "broken-off"
            raise
        except UnwrapError:
            outcome = "refused"
            raise
        except KmsUnusableError:
            outcome = "unusable"
            raise
        else:
            outcome = "ok"
        finally:
            USES.labels(operation, outcome).inc()
            SECONDS.labels(operation).observe(self.clock() - begun)
