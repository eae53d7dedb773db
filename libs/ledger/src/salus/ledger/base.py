"""Canonical text forms shared by all formats: base64, decimals, lines."""

from __future__ import annotations

import re
from binascii import Error as BinasciiError
from binascii import a2b_base64, b2a_base64

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}")
INT64_MAX = 2**63 - 1


def base64_of(data: bytes) -> str:
    """Return the standard, padded base64 of some bytes (RFC 4648 section 4)."""
    return b2a_base64(data, newline=False).decode("ascii")


def bytes_of_base64(text: str) -> bytes:
    """Return the bytes of canonical base64: the only text that `base64_of` gives for them.

    Raises:
        ValueError: anything else, such as white space, missing padding or stray low bits.
    """
    try:
        encoded = text.encode("ascii")
        # The decoder skips what it does not know; encoding again shows whether it did.
        data = a2b_base64(encoded)
    except (BinasciiError, UnicodeEncodeError):
        raise ValueError("not base64") from None
    if b2a_base64(data, newline=False) != encoded:
        raise ValueError("not canonical base64")
    return data


def hash_of_base64(text: str) -> bytes:
    """Return the 32 bytes of a base64 hash; raises ValueError for anything else."""
    data = bytes_of_base64(text)
    if len(data) != 32:
        raise ValueError(f"a hash of {len(data)} bytes")
    return data


def int_of_decimal(text: str) -> int:
    """Return a number from 0 to 2^63-1 written in ASCII without leading zeroes, else raise ValueError."""
    if _DECIMAL.fullmatch(text) is None or (number := int(text)) > INT64_MAX:
        raise ValueError("not a decimal from 0 to 2^63-1")
    return number
