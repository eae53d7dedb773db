"""The patterns that members may use in schemas of their own: those that every engine reads alike."""

from __future__ import annotations

import re

from salus.events.schemas.subset import PATTERN_CHARS_MAX

COUNT_MAX = 256
"""Of all counts of a pattern together."""
WEIGHT_MAX = 16_384
"""Of all patterns and words of a schema: some 160 bytes each, once an engine has compiled it."""
# What was measured of an engine's bytes, in units of 160: each pattern has parts that do not depend on its
# length, and what a class excludes is most of Unicode, in several bytes a sign.
_PATTERN_WEIGHT, _EXCLUDED_WEIGHT = 40, 8
_CHARS_A_UNIT, _EXCLUDED_CHARS_A_UNIT = 10, 5
# A class without set operations and classes in it; a sign that stands for itself; a group, an alternative; a
# count. Not the dot, nor names of classes: engines differ in what these mean.
_CHAR = r"[A-Za-z0-9 _:#@%&,;=!~<>'/\"-]|\\[.^$|?*+(){}\[\]\\/]"
_CLASS = r"\[\^?(?:[A-Za-z0-9 _:#@%,;=!<>'/\".+*?(){}|$](?:-[A-Za-z0-9])?|\\[\\\[\]^-])+\]"
_TOKEN = re.compile(rf"({_CLASS}|{_CHAR})|([()|])|([?*+]|\{{([0-9]{{1,4}})(?:,([0-9]{{0,4}}))?\}})")

_UNREAD = "here may stand characters, classes of ASCII, groups and counts; write [.] for a dot"


def pattern_fault(pattern: str) -> str | None:
    """Return why engines may not read a pattern alike, and at which of its characters; None if all do."""
    if not (pattern.startswith("^") and pattern.endswith("$") and len(pattern) <= PATTERN_CHARS_MAX):
        return f"it goes from ^ to $, in {PATTERN_CHARS_MAX} characters at most"
    counts, at, may_repeat, depth = 0, 1, False, 0
    while at < len(pattern) - 1:
        token = _TOKEN.match(pattern, at, len(pattern) - 1)
        if token is None:
            return f"character {at + 1}: {_UNREAD}"
        depth += {"(": 1, ")": -1}.get(token[2], 0)
        if (fault := _token_fault(token, depth=depth, may_repeat=may_repeat)) is not None:
            return f"character {at + 1}: {fault}"
        if token[3] is not None:
            counts += max(int(token[4] or 1), int(token[5] or 0))
        may_repeat = token[1] is not None or (
            token[2] == ")" and token.end() < len(pattern) and pattern[token.end()] == "?"
        )
        at = token.end()
    if depth > 0:
        return "a group is not closed"
    if counts > COUNT_MAX:
        return f"its counts come to {counts}, of {COUNT_MAX} at most: let maxLength say how long texts are"
    return None


def _token_fault(token: re.Match[str], *, depth: int, may_repeat: bool) -> str | None:
    sign, count = token[2], token[3]
    if count is not None and not may_repeat:
        return "only a character or a class repeats; a group may be left out, by ?"
    if token[4] and not _is_count(token[4], token[5]):
        return "a count begins with the smaller number"
    if depth < 0:
        return "it closes no group"
    # Without a group around it, an alternative would end what ^ and $ hold together.
    if sign == "|" and depth == 0:
        return "alternatives stand in a group: (a|b)"
    return None


def weight_of(pattern: str) -> int:
    """Return what a plain pattern takes in an engine, at most, in units of WEIGHT_MAX."""
    weight, at, last = _PATTERN_WEIGHT, 1, 0
    while at < len(pattern) - 1 and (token := _TOKEN.match(pattern, at, len(pattern) - 1)):
        if token[3] is not None:
            weight += last * (max(int(token[4] or 1), int(token[5] or 0)) - 1)
        last = _weight_of_sign(token[1]) if token[1] else 0
        weight += last
        at = token.end()
    return weight


def _weight_of_sign(sign: str) -> int:
    if sign.startswith("[^"):
        return _EXCLUDED_WEIGHT + len(sign) // _EXCLUDED_CHARS_A_UNIT
    return 1 + len(sign) // _CHARS_A_UNIT


def _is_count(least: str, most: str | None) -> bool:
    return not most or int(least) <= int(most)
