"""The did:web method, from its server's side: which DID a resolver reads at a host and a path.

W3C CCG did:web, section 2.5.2 (Read): the colons of a DID are slashes of its address, `%3A` is the colon
before a port, `/.well-known` stands for no path, and `/did.json` is appended. A resolver comes by HTTPS
alone, so a host without a port is that of port 443.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from salus.events.party_form import objection_to_did

DOCUMENT = "did.json"
WELL_KNOWN = ".well-known"
_HTTPS_PORT = "443"
_AUTHORITY = re.compile(r"([A-Za-z0-9.-]+)(?::([0-9]{1,5}))?")
# A client removes these from an address before it sends it (RFC 3986, section 5.2.4).
_DOTS = frozenset({".", ".."})


def did_at(authority: str, path: str) -> str | None:
    """Return the DID whose document a resolver reads there; None if there is no such DID.

    `authority` is the Host as it was sent, and `path` the path in its encoding. So `%2F` in a segment is no
    slash of the address, and `%3A` no colon of the DID.
    """
    host = _AUTHORITY.fullmatch(authority)
    sent = path.split("/")
    if host is None or sent[0] or sent[-1] != DOCUMENT:
        return None
    segments = [unquote(segment) for segment in sent[1:-1]]
    if segments == [WELL_KNOWN]:
        segments = []
    elif not segments or any(not segment or segment in _DOTS or ":" in segment for segment in segments):
        return None
    name, port = host.groups()
    place = name.lower() + (f"%3A{port}" if port not in (None, _HTTPS_PORT) else "")
    did = ":".join(("did:web", place, *segments))
    return did if objection_to_did(did) is None else None
