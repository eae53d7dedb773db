"""What a JWT (RFC 7519) says, read in one way only: its header and claims are JSON by our strict reader."""

from __future__ import annotations

from jwt import DecodeError
from jwt.utils import base64url_decode

from salus.ledger.json_reader import JsonError, read_json


def require_one_meaning(token: str) -> None:
    """Raise jwt.DecodeError if the header or the claims are not strict JSON, as with a name given twice."""
    for part in token.split(".")[:2]:
        try:
            read_json(base64url_decode(part))
        except (ValueError, JsonError):
            raise DecodeError("the header or the claims are not JSON that is read in one way only") from None
