"""Reads many events at once, if they are written as encoders write them, as most are.

`native/canonical_events.c` of salus-ledger does it, with the interpreter lock released, by the programs of
`salus.events.recognizers`. An event of which something is said here is one that `decode_event` accepts, and
says the same of; where the library is missing, nothing is said of any.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache

from salus.events.catalogue import Catalogue
from salus.events.event_types import EventType
from salus.events.recognizers import Compiler, Mark, NotCompilableError, Step
from salus.events.requests import RequestedData
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


class ProgramReader:
    """The library's function, and the program that it reads texts by."""

    def __init__(
        self,
        compiler: Compiler,
        opening: Sequence[Step],
        named: Mapping[str, Sequence[Step]],
        *,
        path: str = LIBRARY,
    ) -> None:
        """Take the steps of `opening`, and after a TYPE step those of the type that is named there.

        Raises:
            OSError or AttributeError: the library is not there or not of this version.
        """
        self._run = ctypes.CDLL(path)[FUNCTION]
        address, count = ctypes.c_void_p, ctypes.c_uint64
        self._run.argtypes = [address, count, ctypes.c_char_p, count, address, count, count, *[address] * 3]
        self._opening = len(opening)
        steps, types = [*opening], []
        for text, body in named.items():
            (name,) = compiler.literal(text)
            types.append(_Type(name.a, name.b, len(steps), len(body)))
            steps += body
        self._steps = (Step * len(steps))(*steps)
        self._named = (_Type * len(types))(*types)
        self._classes = (ctypes.c_uint16 * 256)(*compiler.classes_of_bytes())
        self._program = _Program(
            ctypes.addressof(self._steps),
            ctypes.addressof(self._classes),
            ctypes.addressof(self._named),
            len(types),
            bytes(compiler.literals),
        )

    def read(self, texts: bytes, places: array[int]) -> Attributes:
        """Return what is certain of texts; `numbers` are 0 without types.

        Raises:
            ValueError: the places go backwards or beyond the texts.
        """
        count = len(places) - 1
        found = _nothing(texts, count)
        # ctypes releases the interpreter lock during the call.
        failed = self._run(
            ctypes.byref(self._program),
            self._opening,
            texts,
            len(texts),
            places.buffer_info()[0],
            count,
            len(Mark),
            *(result.buffer_info()[0] for result in (found.numbers, found.spans, found.times)),
        )
        if failed:
            raise ValueError("places that go backwards or beyond the events")
        return found


class CanonicalReader:
    """Reads events of some types by their programs."""

    def __init__(self, types: Sequence[EventType], path: str = LIBRARY) -> None:
        """Raise OSError or AttributeError if the library is not there or not of this version."""
        compiler = Compiler()
        opening = compiler.opening()
        self.types: list[EventType] = []
        named = {}
        for entry in types:
            try:
                named[entry.name] = compiler.event(entry)
            except NotCompilableError:
                continue
            self.types.append(entry)
        self._reader = ProgramReader(compiler, opening, named, path=path)

    def read(self, events: bytes, places: array[int]) -> Attributes:
        """Return what `attributes_of` does; raises ValueError as ProgramReader does."""
        return replace(self._reader.read(events, places), types=self.types)


def load(types: Sequence[EventType], path: str = LIBRARY) -> CanonicalReader | None:
    """Return what reads events of these types; None if the library is not there, or of no use here."""
    try:
        return CanonicalReader(types, path) if lanes() > 1 else None
    except (OSError, AttributeError):
        return None


def attributes_of(events: bytes, places: array[int], catalogue: Catalogue) -> Attributes:
    """Return the attributes of many events of the catalogue's types, as far as they are certain.

    `places` (type code Q) says where each event begins, and where the last one ends. Of an event that carries
    a request nothing is said: whether that was made is not written in it.
    """
    reader = _reader(catalogue)
    return _nothing(events, len(places) - 1) if reader is None else reader.read(events, places)


def requested_attributes(events: bytes, places: array[int], catalogue: Catalogue) -> Attributes:
    """Return what `attributes_of` does of events that carry a request, and only of those.

    The token of the request, which remains to be judged, is between the marks PROOF and PROOF_END.
    """
    reader = _requested_reader(catalogue)
    return _nothing(events, len(places) - 1) if reader is None else reader.read(events, places)


def _nothing(events: bytes, count: int) -> Attributes:
    """Return what is known of so many events before they are read."""
    numbers, times = array("i", [UNCERTAIN]) * count, array("q", bytes(8 * count))
    return Attributes((), events, numbers, array("Q", bytes(8 * len(Mark) * count)), times)


# A catalogue is compiled once. Who judges old blocks under the catalogues of their time needs few at once.
@lru_cache(maxsize=16)
def _reader(catalogue: Catalogue) -> CanonicalReader | None:
    return load([entry for entry in catalogue.types() if not issubclass(entry.data, RequestedData)])


@lru_cache(maxsize=16)
def _requested_reader(catalogue: Catalogue) -> CanonicalReader | None:
    return load([entry for entry in catalogue.types() if issubclass(entry.data, RequestedData)])
