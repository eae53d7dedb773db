"""Verifies events' Ed25519 signatures by libsodium: half of OpenSSL's time, without the interpreter lock.

What is valid, `salus.ledger.ed25519` says for the whole of Salus. libsodium judges the same; should one of
its versions or builds refuse more, that rule has the last word: what libsodium refuses is judged again.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from itertools import accumulate
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from salus.ledger import ed25519
from salus.ledger.hashing import LIBRARY

# The number changes with the arguments, as in `salus.ledger.hashing`.
FUNCTION = "salus_open_signed_1"

Verifies = Callable[[bytes, bytes, bytes], bool]
"""(public key, signature, text) -> whether the signature over the text is by the key."""


class Signature(NamedTuple):
    """A signature (64 bytes) that is said to be one over a text by a public key (32 bytes)."""

    public_key: bytes
    signature: bytes
    text: bytes


# The events of one signed batch come in several partitions, and so in several blocks; what was found of its
# signature stays true. 8,192 batches of 64 are the last half a million events, in about 3 MB.
@lru_cache(maxsize=8192)
def verifies(public_key: bytes, signature: bytes, text: bytes) -> bool:
    """Tell whether a signature (64 bytes) over the text is by this key (32 bytes)."""
    try:
        crypto_sign_open(signature + text, public_key)
    except BadSignatureError:
        return _verifies_by_rule(public_key, signature, text)
    return True


def verify_each(signatures: Sequence[Signature]) -> list[bool]:
    """Tell of each signature what `verifies` does; the interpreter lock is free meanwhile."""
    found = [verifies(*one) for one in signatures] if _many is None else _many(signatures)
    return [is_valid or _verifies_by_rule(*one) for is_valid, one in zip(found, signatures, strict=True)]


def _verifies_by_rule(public_key: bytes, signature: bytes, text: bytes) -> bool:
    try:
        ed25519.verify(ed25519.public_key_of(public_key), signature, text)
    except (ValueError, InvalidSignature):
        return False
    return True


def load(path: str = LIBRARY) -> Callable[[Sequence[Signature]], list[bool]] | None:
    """Return what asks libsodium of many signatures by one call; None if the library is not there."""
    try:
        run = ctypes.CDLL(path)[FUNCTION]
        # PyNaCl has no public name for the address of libsodium's function.
        sodium: Any = import_module("nacl._sodium")
        address_of = sodium.ffi.addressof(sodium.lib, "crypto_sign_open")
        verify_one = int(sodium.ffi.cast("uintptr_t", address_of))
    except (OSError, AttributeError, ImportError):
        return None
    address, count = ctypes.c_void_p, ctypes.c_uint64
    run.argtypes = [address, ctypes.c_char_p, ctypes.c_char_p, count, address, count, address]

    def many(signatures: Sequence[Signature]) -> list[bool]:
        keys = b"".join(one.public_key for one in signatures)
        if len(keys) != ed25519.PUBLIC_KEY_BYTES * len(signatures):
            raise ValueError(f"a public key has {ed25519.PUBLIC_KEY_BYTES} bytes")
        signed = [one.signature + one.text for one in signatures]
        places = array("Q", accumulate(map(len, signed), initial=0))
        data, valid = b"".join(signed), array("B", bytes(len(signed)))
        # ctypes releases the interpreter lock during the call.
        failed = run(
            verify_one,
            keys,
            data,
            len(data),
            places.buffer_info()[0],
            len(signed),
            valid.buffer_info()[0],
        )
        if failed:
            raise ValueError("signatures whose places lead astray")
        return [bool(one) for one in valid]

    return many


_many = load()
