"""Reads many events at once, if they are written as encoders write them, as most are.

`native/canonical_events.c` of salus-ledger does it, with the interpreter lock released, by the programs of
`salus.events.recognizers`. An event of which something is said here is one that `decode_event` accepts, and
says the same of; where the library is missing, nothing is said of any.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache

from salus.events.catalogue import Catalogue
from salus.events.event_types import EventType
from salus.events.recognizers import Compiler, Mark, NotCompilableError, Step
from salus.ledger.hashing import LIBRARY, lanes
from salus.ledger.records import Cells, gather

# The number changes with the arguments, as in `salus.ledger.hashing`.
FUNCTION = "salus_canonical_events_1"
UNCERTAIN = -1


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


class Attribute(IntEnum):
    """An attribute whose text is kept."""

    ID = Mark.ID // 2
    SOURCE = Mark.SOURCE // 2
    SUBJECT = Mark.SUBJECT // 2


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the attributes of many events are, one element an event.

    `numbers` (type code i) are places in `types`, or `UNCERTAIN` of an event of which nothing is said: its
    texts are empty. `times` (type code q) are microseconds since 1970 UTC. `spans` (type code Q) say where in
    `events` what was marked begins and ends, one element for each `Mark`.
    """

    types: Sequence[EventType]
    events: bytes
    numbers: array[int]
    spans: array[int]
    times: array[int]

    def type_of(self, row: int) -> EventType | None:
        """Return the type of an event; None if nothing is said of it."""
        number = self.numbers[row]
        return None if number == UNCERTAIN else self.types[number]

    def texts(self, attribute: Attribute) -> Cells:
        """Return an attribute of all events, as it was encoded: plain ASCII, without escapes."""
        return gather([(self.events, self.spans)], attribute, stride=len(Mark))


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
        found = _nothing(events, count)
        # ctypes releases the interpreter lock during the call.
        failed = self._run(
            ctypes.byref(self._program),
            self._opening,
            events,
            len(events),
            places.buffer_info()[0],
            count,
            len(Mark),
            *(result.buffer_info()[0] for result in (found.numbers, found.spans, found.times)),
        )
        if failed:
            raise ValueError("places that go backwards or beyond the events")
        return replace(found, types=self.types)


def load(types: Sequence[EventType], path: str = LIBRARY) -> CanonicalReader | None:
    """Return what reads events of these types; None if the library is not there, or of no use here."""
    try:
        return CanonicalReader(types, path) if lanes() > 1 else None
    except (OSError, AttributeError):
        return None


def attributes_of(events: bytes, places: array[int], catalogue: Catalogue) -> Attributes:
    """Return the attributes of many events of the catalogue's types, as far as they are certain.

    `places` (type code Q) says where each event begins, and where the last one ends.
    """
    reader = _reader(catalogue)
    return _nothing(events, len(places) - 1) if reader is None else reader.read(events, places)


def _nothing(events: bytes, count: int) -> Attributes:
    """Return what is known of so many events before they are read."""
    numbers, times = array("i", [UNCERTAIN]) * count, array("q", bytes(8 * count))
    return Attributes((), events, numbers, array("Q", bytes(8 * len(Mark) * count)), times)


# A catalogue is compiled once. Who judges old blocks under the catalogues of their time needs few at once.
@lru_cache(maxsize=16)
def _reader(catalogue: Catalogue) -> CanonicalReader | None:
    return load(catalogue.types())
