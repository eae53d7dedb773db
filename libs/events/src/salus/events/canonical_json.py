"""Reads JSON that is written as our own encoder writes it, as most is: once, and in a tenth of the time.

What an encoder wrote repeats no name, is UTF-8 and has one value to all readers. Of any other text nothing is
said: `salus.ledger.json_reader` and the one rule for times tell what it says, or what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from salus.events.moments import moments_of
from salus.ledger.json_reader import DEPTH_MAX
from salus.ledger.times import YEAR_MAX, YEAR_MIN

_T = TypeVar("_T")
_ENCODER = msgspec.json.Encoder()
# Of fewer digits is every number that every reader can hold.
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_LARGE_NUMBER = b"0" * 16


def read_canonical(text: bytes, kind: type[_T]) -> _T | None:
    """Return the value of this kind that a text is written of by our encoder; None: nobody knows yet.

    What it returns, the strict reader would have returned, with times by the one rule for times.
    """
    try:
        read: _T = _decoder_of(kind)(text)  # type: ignore[arg-type]  # a class is hashable
        if _ENCODER.encode(read) != text:
            return None
    except (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError, TypeError, OverflowError):
        return None
    is_deep = text.count(b"[") + text.count(b"{") > DEPTH_MAX
    if is_deep or text.translate(_DIGITS).find(_LARGE_NUMBER) >= 0:
        return None
    for moment in moments_of(read, kind):
        if moment.tzinfo is not UTC or not YEAR_MIN <= moment.year <= YEAR_MAX:
            return None
    return read


@lru_cache(maxsize=1024)
def _decoder_of(kind: type[Any]) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(kind).decode
