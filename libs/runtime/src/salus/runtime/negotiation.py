"""Header fields by which the two ends agree on a form (RFC 9110): media types, and content codings."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# RFC 9110, sections 5.6.2 (token) and 8.3.1 (media type).
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # the grammar's word for it
_MEDIA_TYPE = re.compile(rf"[ \t]*({_TOKEN}/{_TOKEN})[ \t]*(?:;.*)?", re.ASCII | re.DOTALL)
_PARAMETER = re.compile(
    rf'[ \t]*;[ \t]*(?:({_TOKEN})=(?:({_TOKEN})|"((?:[^"\\]|\\.)*)"))?', re.ASCII | re.DOTALL
)
_QUOTED_PAIR = re.compile(r"\\(.)", re.DOTALL)
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?", re.ASCII)
_CODING = re.compile(rf"({_TOKEN})(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{{0,3}})?|1(?:\.0{{0,3}})?))?", re.ASCII)
# A list longer than this is read as if it were absent: nobody who means it sends one.
_LIST_CHARACTERS_MAX = 1024


def media_type(value: str) -> str:
    """Return `type/subtype` of a Content-Type in lower case, without parameters; "" if it is none."""
    match = _MEDIA_TYPE.fullmatch(value)
    return match[1].lower() if match else ""


@dataclass(frozen=True)
class MediaRange:
    """A media type, or a range of them, in lower case, and its parameters; their names are in lower case."""

    type: str
    parameters: Mapping[str, str]

    @property
    def weight(self) -> float | None:
        """Its weight (RFC 9110, section 12.4.2); None if what it has is none."""
        weight = self.parameters.get("q", "1")
        return float(weight) if _WEIGHT.fullmatch(weight) is not None else None

    @property
    def is_wanted(self) -> bool:
        """Tell whether its weight is one, and is not zero."""
        return bool(self.weight)


def media_range(value: str) -> MediaRange | None:
    """Return what a Content-Type or an element of an Accept names; None if it is malformed.

    Of a parameter that is given twice the first counts.
    """
    value = value.strip(" \t")
    head = value.partition(";")[0]
    parameters: dict[str, str] = {}
    place = len(head.rstrip(" \t"))
    while place < len(value):
        match = _PARAMETER.match(value, place)
        if match is None:
            return None
        name, token, quoted = match.groups()
        if name is not None:
            parameters.setdefault(name.lower(), token if quoted is None else _QUOTED_PAIR.sub(r"\1", quoted))
        place = match.end()
    kind = media_type(head)
    return MediaRange(kind, parameters) if kind else None


def accepts_coding(accept_encoding: str, coding: str) -> bool:
    """Tell whether an Accept-Encoding asks for this content coding (RFC 9110, section 12.5.3).

    False for one that is not named, neither by itself nor by `*`: everybody takes the plain form. An element
    that is malformed says nothing.
    """
    if len(accept_encoding) > _LIST_CHARACTERS_MAX:
        return False
    weights: dict[str, float] = {}
    for element in accept_encoding.split(","):
        match = _CODING.fullmatch(element.strip(" \t"))
        if match is not None:
            weights[match[1].lower()] = float(match[2] or 1)
    return weights.get(coding, weights.get("*", 0.0)) > 0


def best_type(accept: str, offered: Sequence[str]) -> str | None:
    """Return which of the media types an Accept prefers (RFC 9110, section 12.5.1); None if it takes none.

    Of those that it prefers alike, the first that is offered. Parameters but the weight are passed over, and
    so is an element that is malformed; where there is no other, anything goes, as without the field.
    """
    weights: dict[str, float] = {}
    for element in accept.split(",") if len(accept) <= _LIST_CHARACTERS_MAX else ():
        found = media_range(element)
        if found is not None and found.weight is not None:
            weights.setdefault(found.type, found.weight)
    if not weights:
        return offered[0]

    def weight_of(type_: str) -> float:
        ranges = (type_, f"{type_.partition('/')[0]}/*", "*/*")
        return next((weights[range_] for range_ in ranges if range_ in weights), 0.0)

    best = max(offered, key=weight_of)
    return best if weight_of(best) > 0 else None


def names_tag(if_none_match: str, tag: str) -> bool:
    """Tell whether an If-None-Match names an entity tag, by weak comparison (RFC 9110, section 13.1.2)."""
    named = (element.strip(" \t").removeprefix("W/") for element in if_none_match.split(","))
    return if_none_match.strip(" \t") == "*" or tag in named
