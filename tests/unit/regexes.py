"""Tells whether a backtracking engine reads a text in linear time with a regular expression, whatever it is.

It does where a text can be read in one way only: whatever was read, the next character allows one next place
in the expression, and by one way. The places are the characters of the expression, as in the automaton of
Glushkov (Brüggemann-Klein and Wood, One-Unambiguous Regular Languages, 1998); an edge between two places that
comes from two repetitions, as in `(a+)+`, is two ways.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from re import _parser as grammar  # type: ignore[attr-defined]  # what the standard library itself goes by
from typing import Any

# One of each kind that expressions tell apart; those beyond are like the last of them.
ALPHABET = "".join(map(chr, range(0x180))) + "\u2028\u3000\u20ac\ufeff\U0001f600"
_CATEGORIES = {
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


@dataclass(frozen=True)
class _Part:
    """A part of an expression: whether it may be empty, and where it begins and ends."""

    nullable: bool
    first: frozenset[int] = frozenset()
    last: frozenset[int] = frozenset()


_EMPTY = _Part(nullable=True)


@dataclass
class _Automaton:
    chars: list[frozenset[str]] = field(default_factory=list)
    edges: dict[int, list[int]] = field(default_factory=dict)

    def place(self, chars: Iterable[str]) -> _Part:
        self.chars.append(frozenset(chars))
        here = frozenset({len(self.chars) - 1})
        return _Part(nullable=False, first=here, last=here)

    def join(self, last: frozenset[int], first: frozenset[int]) -> None:
        for place in last:
            self.edges.setdefault(place, []).extend(first)

    def then(self, left: _Part, right: _Part) -> _Part:
        self.join(left.last, right.first)
        return _Part(
            nullable=left.nullable and right.nullable,
            first=left.first | (right.first if left.nullable else frozenset()),
            last=right.last | (left.last if right.nullable else frozenset()),
        )

    def sequence(self, nodes: Iterable[tuple[Any, Any]]) -> _Part:
        whole = _EMPTY
        for kind, value in nodes:
            whole = self.then(whole, self.part(str(kind), value))
        return whole

    def part(self, kind: str, value: Any) -> _Part:
        match kind:
            case "LITERAL" | "NOT_LITERAL" | "ANY" | "ANY_ALL" | "IN":
                return self.place(_chars_of(kind, value))
            case "SUBPATTERN":
                return self.sequence(value[3])
            case "BRANCH":
                ways = [self.sequence(way) for way in value[1]]
                return _Part(
                    any(way.nullable for way in ways),
                    frozenset().union(*(way.first for way in ways)),
                    frozenset().union(*(way.last for way in ways)),
                )
            case "MAX_REPEAT" | "MIN_REPEAT":
                return self.repeat(*value)
            case "AT" | "ASSERT" | "ASSERT_NOT":
                # What looks ahead is an expression of its own; see `sides_of`.
                return _EMPTY
        raise NotImplementedError(kind)

    def repeat(self, least: int, most: int, inner: Any) -> _Part:
        part = self.sequence(inner)
        # A fixed number of times is read in one way; any other number as any number.
        if most > 1 and (least != most or part.nullable):
            self.join(part.last, part.first)
        return _Part(part.nullable or least == 0, part.first, part.last)

    def loops(self) -> set[int]:
        """Return the places that can be reached from themselves."""

        def beyond(place: int) -> set[int]:
            seen: set[int] = set()
            todo = list(self.edges.get(place, ()))
            while todo:
                if (one := todo.pop()) not in seen:
                    seen.add(one)
                    todo += self.edges.get(one, ())
            return seen

        return {place for place in range(len(self.chars)) if place in beyond(place)}

    def conflicts(self, whole: _Part) -> Iterator[tuple[str, str]]:
        for following in (list(whole.first), *self.edges.values()):
            for index, one in enumerate(following):
                for other in following[index + 1 :]:
                    if one == other or self.chars[one] & self.chars[other]:
                        yield _example(self.chars[one]), _example(self.chars[other])


def _example(chars: frozenset[str]) -> str:
    return "".join(sorted(chars)[:8])


def _chars_of(kind: str, value: Any) -> Iterable[str]:
    match kind:
        case "LITERAL":
            return {chr(value)}
        case "NOT_LITERAL":
            return set(ALPHABET) - {chr(value)}
        case "ANY" | "ANY_ALL":
            return set(ALPHABET)
    negated = str(value[0][0]) == "NEGATE"
    chars: set[str] = set()
    for item, what in value[negated:]:
        match str(item):
            case "LITERAL":
                chars.add(chr(what))
            case "RANGE":
                chars |= {char for char in ALPHABET if what[0] <= ord(char) <= what[1]}
            case "CATEGORY":
                chars |= {char for char in ALPHABET if re.match(_CATEGORIES[str(what)], char)}
    return set(ALPHABET) - chars if negated else chars


def sides_of(nodes: Any) -> Iterator[Any]:
    """Yield every expression within that is looked at and not read."""
    for kind, value in nodes:
        if str(kind) in {"ASSERT", "ASSERT_NOT"}:
            yield value[1]
        for inner in _within(value):
            yield from sides_of(inner)


def _within(value: Any) -> Iterator[Any]:
    if isinstance(value, grammar.SubPattern):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _within(part)


def ambiguities(pattern: str | bytes) -> list[tuple[str, str]]:
    """Return examples of the characters after which a text can be read on in two ways; none: linear time."""
    text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
    parsed = grammar.parse(text)
    found = []
    for expression in (parsed, *sides_of(parsed)):
        automaton = _Automaton()
        found += list(automaton.conflicts(automaton.sequence(expression)))
    return found


def may_begin_anywhere(pattern: str | bytes) -> bool:
    """Tell whether looking for an expression in a text is linear: no part of it is read from many beginnings.

    What it repeats either ends it as well, so that it is found once begun, or never begins it.
    """
    text = pattern.decode("latin-1") if isinstance(pattern, bytes) else pattern
    automaton = _Automaton()
    whole = automaton.sequence(grammar.parse(text))
    loops = automaton.loops()
    begins = frozenset().union(*(automaton.chars[place] for place in whole.first))
    repeats = frozenset().union(*(automaton.chars[place] for place in loops))
    return loops <= whole.last or not begins & repeats
