"""What counts as JSON here: RFC 8259 in UTF-8, with the two rules of I-JSON (RFC 7493) that remove doubt.

No name twice in one object and no half surrogate pairs: with either, two readers can see two different
events under one signature. Nesting is bounded, so that the verdict never depends on anyone's stack.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from salus.events.errors import Reason, RejectedError

DEPTH_MAX = 64
_STRINGS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_OTHER_THAN_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_OPENING = frozenset(b"[{")


def require_well_formed(value: bytes) -> None:
    """Raise RejectedError (MALFORMED_JSON) unless the whole value is JSON as this module says."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        _refuse("not UTF-8")
    _require_shallow(value)
    try:
        parsed = _DECODER.decode(text)
    except RejectedError:
        raise
    except (ValueError, RecursionError):
        _refuse("not JSON")
    if "\\u" in text:
        _require_whole_characters(parsed)


def _require_shallow(value: bytes) -> None:
    depth = 0
    for bracket in _STRINGS.sub(b"", value).translate(None, _OTHER_THAN_BRACKETS):
        depth += 1 if bracket in _OPENING else -1
        if depth > DEPTH_MAX:
            _refuse(f"nested deeper than {DEPTH_MAX}")


def _require_whole_characters(parsed: object) -> None:
    try:
        json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        _refuse("half a surrogate pair")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        _refuse("a name is given twice in one object")
    return names


def _refuse(why: str) -> NoReturn:
    raise RejectedError(Reason.MALFORMED_JSON, why) from None


def _no_such_number(_: str) -> NoReturn:
    _refuse("not JSON")


# Numbers are checked but never computed: one of a million digits would cost minutes.
_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique,
    parse_constant=_no_such_number,
    parse_int=lambda _: 0,
    parse_float=lambda _: 0.0,
)
