"""How members' own event types are named: each member below a prefix that is its alone.

A `did:web` of a host has the host's labels, reversed, as Java packages do; any other DID has `salus.ext` and
a digest of it. One fact and one version stand behind the prefix, so no name is below two prefixes.
"""

from __future__ import annotations

import re
from hashlib import sha256

NAME_CHARS_MAX = 160
_PREFIX_CHARS_MAX = 80
_HOST = re.compile(r"did:web:([a-z0-9-]+(?:[.][a-z0-9-]+)*)")
_FACT = re.compile(r"[a-z][a-z0-9-]{0,63}[.]v[1-9][0-9]{0,5}")
_LABEL = re.compile(r"[a-z0-9-]+")
# Of a digest in hex: 128 bits, so that nobody makes a DID whose names are another's.
_DIGEST_CHARS = 32


def prefix_of(did: str) -> str:
    """Return the prefix of the event types that the member with this DID may bring."""
    host = _HOST.fullmatch(did)
    if host is not None and len(host[1]) <= _PREFIX_CHARS_MAX:
        labels = host[1].split(".")[::-1]
        if labels[0] != "salus":
            return ".".join(labels)
    return f"salus.ext.{sha256(did.encode()).hexdigest()[:_DIGEST_CHARS]}"


def is_own_name(name: str) -> bool:
    """Tell whether some member could bring an event type of this name."""
    *labels, fact, version = name[: NAME_CHARS_MAX + 1].split(".") if name.count(".") > 1 else ("", name, "")
    is_fact = len(name) <= NAME_CHARS_MAX and _FACT.fullmatch(f"{fact}.{version}") is not None
    return is_fact and all(_LABEL.fullmatch(label) for label in labels)


def is_name_of(name: str, did: str) -> bool:
    """Tell whether a member may bring an event type of this name: its prefix, a fact and a version."""
    prefix, rest = f"{prefix_of(did)}.", name.removeprefix(f"{prefix_of(did)}.")
    return name.startswith(prefix) and _FACT.fullmatch(rest) is not None
