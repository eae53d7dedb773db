"""Reads many events at once, if they are written as encoders write them, as most are.

`native/canonical_events.c` of salus-ledger does it, with the interpreter lock released, by the programs of
`salus.events.recognizers`. An event of which something is said here is one that `decode_event` accepts, and
says the same of; where the library is missing, nothing is said of any.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from salus.events.recognizers import Compiler, Mark, NotCompilableError, Step
from salus.events.registry import EventType, all_types
from salus.ledger.hashing import LIBRARY, lanes

# The number changes with the arguments, as in `salus.ledger.hashing`.
FUNCTION = "salus_canonical_events_1"


class _Type(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("name", "name_size", "first", "count"))


class _Program(ctypes.Structure):
    _fields_ = (
        ("steps", ctypes.c_void_p),
        ("classes", ctypes.c_void_p),
        ("types", ctypes.c_void_p),
        ("types_count", ctypes.c_uint64),
        ("literals", ctypes.c_char_p),
    )


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the attributes of many events are, one element an event; of an uncertain one its `type` is None.

    The texts are as they were encoded; `time` is in microseconds since 1970 UTC.
    """

    type: list[EventType | None]
    id: list[bytes]
    source: list[bytes]
    subject: list[bytes]
    time: list[int]


class CanonicalReader:
    """The library's function, and the programs of some types."""

    def __init__(self, types: Sequence[EventType], path: str = LIBRARY) -> None:
        """Raise OSError or AttributeError if the library is not there or not of this version."""
        self._run = ctypes.CDLL(path)[FUNCTION]
        address, count = ctypes.c_void_p, ctypes.c_uint64
        self._run.argtypes = [address, count, ctypes.c_char_p, count, address, count, count, *[address] * 3]
        compiler = Compiler()
        steps = compiler.opening()
        self._opening = len(steps)
        self.types: list[EventType] = []
        named = []
        for entry in types:
            try:
                body = compiler.event(entry)
            except NotCompilableError:
                continue
            (name,) = compiler.literal(entry.name)
            named.append(_Type(name.a, name.b, len(steps), len(body)))
            self.types.append(entry)
            steps += body
        self._steps = (Step * len(steps))(*steps)
        self._named = (_Type * len(named))(*named)
        self._classes = (ctypes.c_uint16 * 256)(*compiler.classes_of_bytes())
        self._program = _Program(
            ctypes.addressof(self._steps),
            ctypes.addressof(self._classes),
            ctypes.addressof(self._named),
            len(named),
            bytes(compiler.literals),
        )

    def read(self, events: bytes, places: array[int]) -> Attributes:
        """Return what `attributes_of` does.

        Raises:
            ValueError: the places go backwards or beyond the events.
        """
        count = len(places) - 1
        types, times = array("i", bytes(4 * count)), array("q", bytes(8 * count))
        spans = array("Q", bytes(8 * len(Mark) * count))
        # ctypes releases the interpreter lock during the call.
        failed = self._run(
            ctypes.byref(self._program),
            self._opening,
            events,
            len(events),
            places.buffer_info()[0],
            count,
            len(Mark),
            *(result.buffer_info()[0] for result in (types, spans, times)),
        )
        if failed:
            raise ValueError("places that go backwards or beyond the events")
        id_, source, subject = (
            [
                events[start:end]
                for start, end in zip(spans[at :: len(Mark)], spans[at + 1 :: len(Mark)], strict=True)
            ]
            for at in (Mark.ID, Mark.SOURCE, Mark.SUBJECT)
        )
        # The library says -1 where it knows no type: the last of all.
        entries = [*self.types, None]
        return Attributes([entries[type_] for type_ in types], id_, source, subject, times.tolist())


def load(types: Sequence[EventType], path: str = LIBRARY) -> CanonicalReader | None:
    """Return what reads events of these types; None if the library is not there, or of no use here."""
    try:
        return CanonicalReader(types, path) if lanes() > 1 else None
    except (OSError, AttributeError):
        return None


def attributes_of(events: bytes, places: array[int]) -> Attributes:
    """Return the attributes of many events, as far as they are certain.

    `places` (type code Q) says where each event begins, and where the last one ends.
    """
    reader = _reader()
    if reader is not None:
        return reader.read(events, places)
    nothing = [b""] * (len(places) - 1)
    return Attributes([None] * len(nothing), nothing, [*nothing], [*nothing], [0] * len(nothing))


@cache
def _reader() -> CanonicalReader | None:
    return load(all_types())
