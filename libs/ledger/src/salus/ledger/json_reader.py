"""Reads JSON that comes from outside, so that nobody can see another thing in the same bytes.

RFC 8259 in UTF-8 without a byte order mark, with the rules of I-JSON (RFC 7493): no name twice in one object,
no half of a surrogate pair, no number that is another one elsewhere. Nesting is bounded, so that the verdict
never depends on anyone's stack. What `read_json` returns, `json.loads` returns for the same bytes.

It reads before anybody knows who sent the bytes, so each pass over them takes time in proportion to their
number, whatever they are (`tests/unit/test_linear_time.py`).
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from salus.ledger.errors import LedgerError

DEPTH_MAX = 64
# RFC 7493 section 2.2: larger integers are not the same number in every language.
INTEGER_MAX = 2**53 - 1
# A double is exact with fewer; without a bound, one number could cost minutes.
NUMBER_CHARS_MAX = 1024
# What an error repeats of names that were sent: of each one, and of the whole path.
NAME_SHOWN_CHARS_MAX = 64
PLACE_CHARS_MAX = 256

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_OTHER_THAN_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_OPENING = frozenset(b"[{")
_NUMBER_TOO_LARGE = f"a number that not every reader can hold: integers are at most {INTEGER_MAX}"
_TWICE = "a name is given twice in one object"
_HALF = "half a surrogate pair"


class JsonError(LedgerError, ValueError):
    """The bytes are not JSON as this module says; `why` quotes nothing of them.

    `place` is a path from `$` as far as it is known, of PLACE_CHARS_MAX characters at most. It is made of
    names that the sender chose: show it to the sender, and to nobody else.
    """

    code = "malformed-json"

    def __init__(self, why: str, *, place: str = "$") -> None:
        super().__init__(why)
        self.why = why
        self.place = place


def read_json(value: bytes) -> Any:
    """Return what the whole value says.

    Raises:
        JsonError: it is not JSON as this module says.
    """
    if value.startswith(_BYTE_ORDER_MARK):
        raise JsonError("it begins with a byte order mark; send UTF-8 without one")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        raise JsonError("not UTF-8") from None
    _require_shallow(value)
    try:
        read = _STRICT.decode(text)
    except (ValueError, RecursionError):
        raise _explained(text) from None
    if "\\u" in text and not _is_whole(read):
        raise _explained(text)
    return read


def _require_shallow(value: bytes) -> None:
    if value.count(b"[") + value.count(b"{") <= DEPTH_MAX:
        return
    # Without escapes, what is outside of strings and what is inside take turns at each quotation mark.
    unescaped = value.replace(rb"\\", b"").replace(rb"\"", b"")
    outside = b"".join(unescaped.split(b'"')[::2])
    depth = 0
    for bracket in outside.translate(None, _OTHER_THAN_BRACKETS):
        depth += 1 if bracket in _OPENING else -1
        if depth > DEPTH_MAX:
            raise JsonError(f"nested deeper than {DEPTH_MAX}")


def _is_whole(read: object) -> bool:
    try:
        (read if isinstance(read, str) else json.dumps(read, ensure_ascii=False)).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _integer(digits: str) -> int:
    if len(digits) > len(str(-INTEGER_MAX)) or abs(number := int(digits)) > INTEGER_MAX:
        raise ValueError(_NUMBER_TOO_LARGE)
    return number


def _float(digits: str) -> float:
    if len(digits) > NUMBER_CHARS_MAX or not math.isfinite(number := float(digits)):
        raise ValueError(_NUMBER_TOO_LARGE)
    return number


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) != len(pairs):
        raise ValueError(_TWICE)
    return names


def _no_such_number(_: str) -> NoReturn:
    raise ValueError


_STRICT = json.JSONDecoder(
    object_pairs_hook=_unique, parse_constant=_no_such_number, parse_int=_integer, parse_float=_float
)


class _Pairs(tuple[tuple[str, Any], ...]):
    """An object with all that was given, names given twice included."""

    __slots__ = ()


class _Unreadable:
    """A number that was refused."""


def _number_or_mark(digits: str) -> object:
    try:
        return _float(digits) if set(digits) & set(".eE") else _integer(digits)
    except ValueError:
        return _Unreadable()


# Refuses nothing but what no grammar allows, so that the place of the first fault can be looked up.
_LENIENT = json.JSONDecoder(
    object_pairs_hook=_Pairs,
    parse_constant=_no_such_number,
    parse_int=_number_or_mark,
    parse_float=_number_or_mark,
)


def _explained(text: str) -> JsonError:
    """Return what is wrong with a text that was refused, and where."""
    try:
        read = _LENIENT.decode(text)
    except json.JSONDecodeError as error:
        return JsonError(f"not JSON, at line {error.lineno}, column {error.colno}")
    except (ValueError, RecursionError):
        return JsonError("not JSON")
    fault = _fault_in(read)
    return JsonError("not JSON") if fault is None else JsonError(fault[0], place=_shown(fault[1]))


_Path = tuple[str | int, ...]


def _fault_in(read: object) -> tuple[str, _Path] | None:
    """Return the first fault and the path to it, which is put together once it is found."""
    match read:
        case _Unreadable():
            return _NUMBER_TOO_LARGE, ()
        case str():
            return None if _is_whole(read) else (_HALF, ())
        case _Pairs():
            return _fault_of_members(read)
        case list():
            for index, value in enumerate(read):
                if (fault := _fault_in(value)) is not None:
                    return fault[0], (index, *fault[1])
    return None


def _fault_of_members(pairs: _Pairs) -> tuple[str, _Path] | None:
    seen = set()
    for name, value in pairs:
        if name in seen or not _is_whole(name):
            return (_TWICE if name in seen else _HALF), (name,)
        seen.add(name)
        if (fault := _fault_in(value)) is not None:
            return fault[0], (name, *fault[1])
    return None


def _shown(path: _Path) -> str:
    place = "$"
    for step in path:
        place += f"[{step}]" if isinstance(step, int) else f".{_cut(step, NAME_SHOWN_CHARS_MAX)}"
    return _cut(place, PLACE_CHARS_MAX) if _is_whole(place) else "$"


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
