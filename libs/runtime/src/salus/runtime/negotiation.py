"""Header fields by which the two ends agree on a form (RFC 9110): media types, and content codings."""

from __future__ import annotations

import re

# RFC 9110, sections 5.6.2 (token) and 8.3.1 (media type).
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105  # the grammar's word for it
_MEDIA_TYPE = re.compile(rf"[ \t]*({_TOKEN}/{_TOKEN})[ \t]*(?:;.*)?", re.ASCII | re.DOTALL)
_CODING = re.compile(rf"({_TOKEN})(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{{0,3}})?|1(?:\.0{{0,3}})?))?", re.ASCII)
# A list longer than this is read as if it were absent: nobody who means it sends one.
_LIST_CHARACTERS_MAX = 1024


def media_type(value: str) -> str:
    """Return `type/subtype` of a Content-Type in lower case, without parameters; "" if it is none."""
    match = _MEDIA_TYPE.fullmatch(value)
    return match[1].lower() if match else ""


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
