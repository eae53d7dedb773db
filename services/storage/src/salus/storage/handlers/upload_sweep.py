"""Takes away what is left of uploads: those whose time is over, and parts that no record opens any more.

A crash leaves such, and so does who begins an upload and never ends it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import Counter, Gauge

from salus.events.accountability import STATING_S_MAX, TRANSFER_S_MAX
from salus.objects import ObjectsError, ObjectStore
from salus.runtime.supervisor import succeeded
from salus.storage.handlers.sweep import Sweep
from salus.storage.handlers.upload_parts import stored_parts
from salus.storage.handlers.upload_records import Place, UploadRecords

# A request that began before the end of an upload may still go on with it, by another clock.
GRACE_S = TRANSFER_S_MAX + 2 * STATING_S_MAX

EXPIRED = Counter("salus_storage_uploads_expired", "Uploads that were not completed in their time.")
PARTS_SWEPT = Counter(
    "salus_storage_upload_parts_swept", "Parts of uploads that were left, and were removed."
)
OPEN = Gauge("salus_storage_uploads_open", "Uploads that were open when the buckets were looked through.")
OPEN_BYTES = Gauge(
    "salus_storage_uploads_open_bytes", "How many bytes these will have together, if they are completed."
)


@dataclass
class UploadSweep(Sweep):
    """Removes what is left of uploads, in constant memory."""

    away = (ObjectsError,)
    waiting = "what is left of uploads is not removed"

    records: UploadRecords
    objects: ObjectStore
    now: Callable[[], datetime]
    interval_s: float

    async def look_through(self) -> None:
        """Remove it; a crash or an error leaves the rest to the next time.

        Raises:
            ObjectsError: a bucket cannot be listed, or does not let something go.
        """
        before = self.now().timestamp() - GRACE_S
        number = size = 0
        async for place in self.records.open():
            if place.id.expires < before:
                await self.records.destroy(place)
                EXPIRED.inc()
            else:
                number, size = number + 1, size + place.id.length
            succeeded()
        OPEN.set(number)
        OPEN_BYTES.set(size)
        async for place in self.records.all_completed():
            if place.id.expires < before:
                await self.records.forget(place)
            succeeded()
        async for name in self._left():
            await self.objects.delete(name)
            PARTS_SWEPT.inc()
            # To remove the parts of some large uploads takes longer than the task may go without.
            succeeded()

    async def _left(self) -> AsyncIterator[str]:
        """Yield each part whose upload has no record: it had one before it had a part."""
        last: Place | None = None
        is_open = False
        async for name, place in stored_parts(self.objects):
            if place != last:
                last, is_open = place, await self.records.is_open(place)
                succeeded()
            if not is_open:
                yield name
