"""What may be told to all of a rejected record's origin, so that its sender finds it.

A rejected value may hold anything, such as a patient's record sent by mistake, and is not kept. What is told
is what the sender vouches for and what has the form of a name: the key id of a well-formed signature header,
which the leaf keeps as well; and source and id only if the signature is valid, the source is the signer, and
the id is a token such as a UUID, in which no sentence fits.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from salus.events.errors import Reason, RejectedError
from salus.events.fields import KeyId
from salus.events.signature import parse_signature

_TOKEN = re.compile(r"[A-Za-z0-9._:/+=~-]{1,128}")
_REASONS = [*Reason]
# From here on the signature is valid and the value is JSON that is read in one way.
VOUCHED = frozenset(_REASONS[_REASONS.index(Reason.MALFORMED_JSON) + 1 :])
"""The reasons for which a record is rejected that its sender vouches for."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """Whose record it is, as far as it may be told."""

    key: str | None = None
    source: str | None = None
    id: str | None = None


NOT_ATTRIBUTED = Attribution()


class _Named(msgspec.Struct):
    source: str
    id: str


def attribution_of(*, value: bytes | None, signature: bytes | None, reason: Reason) -> Attribution:
    """Return what may be told of a record that was rejected for this reason."""
    key = key_id_of(signature)
    if key is None or value is None or reason not in VOUCHED:
        return Attribution(key)
    try:
        named = msgspec.json.decode(value, type=_Named)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Attribution(key)
    if named.source != key.partition("#")[0]:
        return Attribution(key)
    return Attribution(key, named.source, named.id if _TOKEN.fullmatch(named.id) else None)


def key_id_of(signature: bytes | None) -> str | None:
    """Return the key id in a signature header, if both are well-formed."""
    if signature is None:
        return None
    try:
        return msgspec.convert(parse_signature(signature).verification_method, KeyId)
    except (RejectedError, msgspec.ValidationError):
        return None
