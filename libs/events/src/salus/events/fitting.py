"""Which events certainly are by who signed them, with their subject as their record's key: many at once.

`native/fitting.c` of salus-ledger compares; where it is missing, nothing is certain of any.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple

from salus.events.canonical import Attributes
from salus.events.event_types import EventType
from salus.events.recognizers import Mark
from salus.ledger.hashing import LIBRARY
from salus.ledger.records import Cells, cells_of

# The number changes with the arguments, as in `salus.ledger.hashing`.
FUNCTION = "salus_fitting_1"
NO_ONE = -1


class Case(NamedTuple):
    """What the verdict on a row depends on, besides what is compared here; `signer` is a place in `dids`."""

    topic: str
    type: EventType
    signer: int


class Facts(NamedTuple):
    """What is known of the rows.

    `ends` are where the rows of each of `topics` end. `batches` (type code i) say which batch a row is of,
    and `signers` (type code i) by whom each batch is, as a place in `dids`; `NO_ONE` is none. A DID stands
    there once for each set of roles that it had.
    """

    topics: Sequence[str]
    ends: Sequence[int]
    keys: Cells
    attributes: Attributes
    batches: array[int]
    signers: array[int]
    dids: Sequence[str]

    def case(self, number: int) -> Case:
        """Return the case that has this number."""
        rest, signer = divmod(number, len(self.dids))
        topic, type_ = divmod(rest, len(self.attributes.types))
        return Case(self.topics[topic], self.attributes.types[type_], signer)


class _Cells(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("places", ctypes.c_void_p), ("valid", ctypes.c_char_p))


class _Facts(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_uint64)
            for name in ("rows", "stride", "source", "subject", "types_count", "signers_count")
        ),
        ("events", ctypes.c_char_p),
        *((name, ctypes.c_void_p) for name in ("spans", "types", "batches", "signers")),
        ("keys", _Cells),
        ("dids", _Cells),
    )


def load(path: str = LIBRARY) -> Callable[[Facts], array[int]] | None:
    """Return the library's function; None if it is not there."""
    try:
        run = ctypes.CDLL(path)[FUNCTION]
    except (OSError, AttributeError):
        return None
    address = ctypes.c_void_p
    run.argtypes, run.restype = [address, address, ctypes.c_uint64, address], None

    def cases(facts: Facts) -> array[int]:
        found, dids, ends = facts.attributes, cells_of(map(str.encode, facts.dids)), array("Q", facts.ends)
        cases = array("q", bytes(8 * len(found.numbers)))
        told = _Facts(
            len(found.numbers),
            len(Mark),
            Mark.SOURCE,
            Mark.SUBJECT,
            len(found.types),
            len(facts.dids),
            found.events,
            *(_at(numbers) for numbers in (found.spans, found.numbers, facts.batches, facts.signers)),
            *(_Cells(cells.data, _at(cells.places), cells.valid) for cells in (facts.keys, dids)),
        )
        run(ctypes.byref(told), _at(ends), len(ends), _at(cases))
        return cases

    return cases


def _at(numbers: array[int]) -> int:
    return numbers.buffer_info()[0]


_cases = load()


def cases_of(facts: Facts) -> array[int]:
    """Return the number of each row's case (type code q), as `Facts.case` reads it; -1: it may be wrong.

    A row has a case only if its type is known, its source is who signed it and its key is its subject.
    """
    return array("q", [NO_ONE]) * len(facts.attributes.numbers) if _cases is None else _cases(facts)
