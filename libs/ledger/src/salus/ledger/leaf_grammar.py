"""What may stand in a leaf: its first line, its status, and the signature header that is kept with it.

See docs/ledger-format.md, sections 1 and 2. Nothing is verified here but the form.
"""

from __future__ import annotations

import re

from salus.ledger.errors import SignatureHeaderError
from salus.ledger.signature_header import parse_signature_header

_STATUS = r"accepted|rejected:[a-z0-9-]{1,64}"
# The first line of a leaf, after its origin: topic, partition, offset, timestamp, status, signature length.
LEAF_LINE = re.compile(
    rb"([A-Za-z0-9._-]{1,249}) (0|[1-9][0-9]{0,9}) (0|[1-9][0-9]{0,18}) "
    rb"(0|[1-9][0-9]{0,14}) (" + _STATUS.encode() + rb") (-|0|[1-9][0-9]{0,8})\n"
)
_IS_STATUS = re.compile(_STATUS)


def is_status(status: str) -> bool:
    """Tell whether this is the status of a leaf: accepted, or rejected for a reason."""
    return _IS_STATUS.fullmatch(status) is not None


def is_signature(header: bytes) -> bool:
    """Tell whether a signature header is one that a leaf may keep."""
    try:
        parse_signature_header(header)
    except SignatureHeaderError:
        return False
    return True
