"""Reads the tokens of many requests together: those that are written as encoders write them, as most are.

`native/jws.c` of salus-ledger takes them apart, and `native/canonical_events.c` looks at their claims. Of a
token that is passed over here nothing is concluded: `salus.events.bearer.read_bearer` reads it.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import pairwise

from salus.events.bearer import TOKEN_CHARS_MAX, TYPES, Bearer, Signed
from salus.events.canonical import UNCERTAIN, Attributes, ProgramReader
from salus.events.jws import JwsError, header_of, require_known
from salus.events.recognizers import Compiler, Mark
from salus.events.valid_json import decode_valid
from salus.ledger.hashing import LIBRARY
from salus.ledger.records import unwritten

# The number changes with the arguments, as in `salus.ledger.hashing`.
FUNCTION = "salus_jws_1"
SIGNATURE_BYTES = 64
# Of a token as long as may be: its signature and its text without the signature and the dot before it.
SIGNED_BYTES_MAX = TOKEN_CHARS_MAX - 87 + SIGNATURE_BYTES

ReadTokens = Callable[[Attributes], Mapping[int, Signed]]


def load(path: str = LIBRARY) -> ReadTokens | None:
    """Return what reads tokens together; None if the library is not there."""
    try:
        run = ctypes.CDLL(path)[FUNCTION]
        compiler = Compiler()
        claims = ProgramReader(compiler, compiler.claims(), {}, path=path)
    except (OSError, AttributeError):
        return None
    address, count = ctypes.c_void_p, ctypes.c_uint64
    run.argtypes = [ctypes.c_char_p, count, address, count, count, *[address] * 5]

    def read(found: Attributes) -> dict[int, Signed]:
        events, rows = found.events, len(found.numbers)
        signed_texts, payloads = unwritten(len(events)), unwritten(len(events))
        ends_signed, ends_payloads = array("Q", bytes(8 * (rows + 1))), array("Q", bytes(8 * (rows + 1)))
        header_sizes = array("I", bytes(4 * rows))
        failed = run(
            events,
            len(events),
            found.spans.buffer_info()[0] + Mark.PROOF * found.spans.itemsize,
            len(Mark),
            rows,
            signed_texts,
            ends_signed.buffer_info()[0] + ends_signed.itemsize,
            payloads,
            ends_payloads.buffer_info()[0] + ends_payloads.itemsize,
            header_sizes.buffer_info()[0],
        )
        if failed:
            raise ValueError("tokens whose places lead astray")
        certain = claims.read(payloads, ends_payloads).numbers
        spans = zip(header_sizes, certain, pairwise(ends_signed), pairwise(ends_payloads), strict=True)
        read: dict[int, Signed] = {}
        for row, (size, number, (first, end), (begin, after)) in enumerate(spans):
            if not size or number == UNCERTAIN or end - first > SIGNED_BYTES_MAX:
                continue
            text = signed_texts[first + SIGNATURE_BYTES : end]
            if (said := _said_in(text[:size])) is not None:
                claimed = decode_valid(payloads[begin:after], Bearer)
                kid, algorithm = said
                signature = signed_texts[first : first + SIGNATURE_BYTES]
                read[row] = Signed(claimed, kid, text, signature, algorithm)
        return read

    return read


# One key writes the same header each time.
@lru_cache(maxsize=4096)
def _said_in(header: bytes) -> tuple[str, str] | None:
    """Return `kid` and `alg` of a header of a bearer; None if something is wrong with it."""
    try:
        found = header_of(header.decode("ascii"))
        require_known(found)
    except (ValueError, JwsError):
        return None
    return (found.kid, found.alg) if found.typ in TYPES else None


_read = load()


def signed_tokens(found: Attributes) -> Mapping[int, Signed]:
    """Return the bearers that are between the marks PROOF of events, by row, as far as they are certain.

    Of each it is known what `read_bearer` says, but for what `require_meant` does.
    """
    return {} if _read is None else _read(found)
