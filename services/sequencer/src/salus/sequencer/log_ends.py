"""Where the log says that it ends, of what is about to be sealed."""

from __future__ import annotations

from salus.sequencer.domain import Batch, Cursor, Partition
from salus.sequencer.ports import Clock, LogReader

# An honest log says within milliseconds that it has what it handed out.
ASKED_MS_MAX = 10_000
ASK_AGAIN_MS = 100


async def stated_ends(reader: LogReader, batch: Batch, cursor: Cursor, clock: Clock) -> dict[Partition, int]:
    """Return where the log says that its partitions end; whether the batch lies within is for `draft_block`.

    Kafka notes the high watermark of an answer before it reads the records, so those that came meanwhile lie
    beyond what it says. Where that is so the log is asked, until it has what it gave or the time is up.
    """
    ends = dict(reader.seen_ends)
    reached = {at: end for at, end in batch.ends.items() if end > cursor.next[at]}
    asked_until_ms = clock.monotonic_ms() + ASKED_MS_MAX

    def is_within() -> bool:
        return all(end <= ends.get(at, 0) for at, end in reached.items())

    while not is_within() and clock.monotonic_ms() < asked_until_ms:
        for at, end in (await reader.ends()).items():
            ends[at] = max(end, ends.get(at, 0))
        if not is_within():
            await clock.pause(ASK_AGAIN_MS)
    return ends
