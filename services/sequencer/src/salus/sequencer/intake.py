"""Keeps of records what sealing needs: nobody who may write to a topic decides how much memory they take.

A record may be as large as the broker takes, 32 MiB, in its value, its key or its headers; an event has at
most VALUE_BYTES_MAX, and of what is larger a digest is all that the ledger keeps.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import islice

from salus.events.envelope import VALUE_BYTES_MAX
from salus.ledger.merkle import LEAF_PREFIX
from salus.ledger.records import NONE, STRIDE, Part, Records, Unkept, gather
from salus.ledger.signature_header import HEADER_BYTES_MAX

# An answer that is larger than what is asked for is one batch, and may hold a single large record.
ANSWER_BYTES_MAX = 8 * 1024 * 1024
# An answer most of which is none of what is needed, such as other headers, is not kept for the rest.
NEEDED_SHARE_MIN = 3
# W3C Trace Context: 55 characters in its version 00.
TRACE_BYTES_MAX = 256
TRACES_LOOKED_AT = 256
TRACES_LINKED_MAX = 16
# With one byte more than is allowed each is refused as with all of its bytes: no subject is as long
# as this key, no signature as this header.
_KEPT = {
    Part.KEY: VALUE_BYTES_MAX + 1,
    Part.SIGNATURE: HEADER_BYTES_MAX + 1,
    Part.TRACE: TRACE_BYTES_MAX,
}


def needed_bytes(records: Records) -> int:
    """Return how many bytes all parts of the records have."""
    return sum(map(records.bytes_of, Part))


def kept(runs: Sequence[Records]) -> list[Records]:
    """Return the same records; those that came in a large answer, or one of little use, without its bytes."""
    needed: dict[int, int] = defaultdict(int)
    for run in runs:
        needed[id(run.data)] += needed_bytes(run)
    return [run if _may_stay(len(run.data), needed[id(run.data)]) else _copied(run) for run in runs]


def traces_in(parts: Sequence[Records]) -> tuple[bytes, ...]:
    """Return the first few distinct traces among a batch's first records; a trace shows samples, not all."""
    looked_at, room = [], TRACES_LOOKED_AT
    for part in parts:
        looked_at.append((part.data, part.spans[: STRIDE * room]))
        room -= len(part)
        if room <= 0:
            break
    traces = filter(None, gather(looked_at, Part.TRACE))
    return tuple(islice(dict.fromkeys(traces), TRACES_LINKED_MAX))


def _may_stay(size: int, needed: int) -> bool:
    return size <= ANSWER_BYTES_MAX and size <= NEEDED_SHARE_MIN * needed


def _copied(records: Records) -> Records:
    """Return the records with bytes of their own: parts cut off where no more of them is needed."""
    view, data, spans = memoryview(records.data), bytearray(), array("q")
    unkept = dict(records.unkept or {})
    for row, offset in enumerate(records.offsets):
        for part in Part:
            start, end = records.spans[row * STRIDE + 2 * part : row * STRIDE + 2 * part + 2]
            if start == NONE:
                spans.extend((NONE, NONE))
                continue
            if part is Part.VALUE and end - start > VALUE_BYTES_MAX:
                unkept[offset] = Unkept(end - start, _digest(view[start:end]))
                end = start
            end = min(end, start + _KEPT.get(part, VALUE_BYTES_MAX))
            spans.extend((len(data), len(data) + end - start))
            data += view[start:end]
    return replace(records, data=bytes(data), spans=spans, unkept=unkept or None)


def _digest(value: memoryview) -> bytes:
    hashing = sha256(LEAF_PREFIX)
    hashing.update(value)
    return hashing.digest()
