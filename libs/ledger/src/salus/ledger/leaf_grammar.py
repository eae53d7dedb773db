"""What may stand in a leaf: its first line, its status, and the signature header that is kept with it.

See docs/ledger-format.md, sections 1 and 2. Nothing is verified here but the form.
"""

from __future__ import annotations

import re
from binascii import Error as BinasciiError
from binascii import a2b_base64, b2a_base64

SIGNATURE_BYTES_MAX = 1024
BATCH_SIZE_MAX = 1024
_STATUS = r"accepted|rejected:[a-z0-9-]{1,64}"
# The first line of a leaf, after its origin: topic, partition, offset, status, signature length.
LEAF_LINE = re.compile(
    rb"([A-Za-z0-9._-]{1,249}) (0|[1-9][0-9]{0,9}) (0|[1-9][0-9]{0,18}) "
    rb"(" + _STATUS.encode() + rb") (-|0|[1-9][0-9]{0,8})\n"
)
_IS_STATUS = re.compile(_STATUS)
# Method, index, size, signature, path, as `salus.events.signature`, which judges by them, reads them.
_SIGNATURE = re.compile(
    rb"v1 did:[a-z0-9]+:[A-Za-z0-9._:%-]+#[A-Za-z0-9._:%-]+ (0|[1-9][0-9]{0,3})/([1-9][0-9]{0,3}) "
    rb"([A-Za-z0-9+/]{86}==)(?: ([A-Za-z0-9+/]+={0,2}))?"
)


def is_status(status: str) -> bool:
    """Tell whether this is the status of a leaf: accepted, or rejected for a reason."""
    return _IS_STATUS.fullmatch(status) is not None


def is_signature(header: bytes) -> bool:
    """Tell whether a signature header is one that a leaf may keep."""
    match = _SIGNATURE.fullmatch(header) if len(header) <= SIGNATURE_BYTES_MAX else None
    if match is None:
        return False
    index, size, signature, path = match.groups()
    return int(index) < int(size) <= BATCH_SIZE_MAX and _is_base64(signature) and _is_base64(path or b"")


def _is_base64(text: bytes) -> bool:
    try:
        return b2a_base64(a2b_base64(text, strict_mode=True), newline=False) == text
    except BinasciiError:
        return False
