"""Whether topics are still those that were folded: after Kafka was lost and filled again they may not be.

A service folds its topic before the ledger has it. What was folded and never sealed is in no topic that was
filled from the ledger; a state that rests on it must be folded anew. Nor may anything be folded from topics
that are empty because Kafka was lost. A person knows which of the two it is, so the service does not start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from hashlib import sha256

from salus.contracts.fold_store import Mark
from salus.messaging import Bootstrap, MessagingError, Reader, Record

POLL_MS = 200
ANSWER_S_MAX = 30


def mark_of(record: Record) -> Mark:
    """Return the mark of a record: its offset and a digest of its value."""
    value = b"" if record.value is None else b"\x01" + record.value
    return Mark(record.offset, sha256(value).digest())


class OtherTopicsError(Exception):
    """A topic is not the one that was folded."""

    def __init__(self, at: tuple[str, int], mark: Mark) -> None:
        super().__init__(
            f"{at[0]} {at[1]} does not have the record at offset {mark.offset} that was folded last. If "
            "Kafka was lost, run `salus ledger restore-topics`; then remove this service's database, and it "
            "is folded anew from the topics"
        )


async def require_same_topics(bootstrap: Bootstrap, marks: Mapping[tuple[str, int], Mark]) -> None:
    """Raise unless every marked record stands where it stood, or cannot be read any more.

    Raises:
        OtherTopicsError: one does not.
        MessagingError: the broker is away, or does not answer in ANSWER_S_MAX.
    """
    if not marks:
        return
    async with Reader(bootstrap, starts={at: mark.offset for at, mark in marks.items()}) as reader:
        begins, ends = await reader.beginning_offsets(), await reader.end_offsets()
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            for at, mark in marks.items():
                kept = begins[at] <= mark.offset
                if ends[at] <= mark.offset or (kept and not await _stands(bootstrap, at, mark)):
                    raise OtherTopicsError(at, mark)
    except TimeoutError:
        raise MessagingError(f"no record came within {ANSWER_S_MAX} s") from None


async def _stands(bootstrap: Bootstrap, at: tuple[str, int], mark: Mark) -> bool:
    async with Reader(bootstrap, starts={at: mark.offset}) as reader:
        while True:
            for record in await reader.poll(max_records=1, timeout_ms=POLL_MS):
                return mark_of(record) == mark
            if await reader.position(*at) > mark.offset:
                return False
            if reader.damaged:
                return True
