"""Verifies events' Ed25519 signatures in a third of OpenSSL's time, and many without the interpreter lock.

What is valid, `salus.ledger.ed25519` says for the whole of Salus. `native/ed25519.h` of salus-ledger tells of
most signatures that they certainly are; libsodium judges the others by the same rule. Should one of its
versions or builds refuse more, the rule has the last word: what libsodium refuses is judged again.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib import import_module
from itertools import accumulate, starmap
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from salus.ledger import ed25519
from salus.ledger.hashing import LIBRARY

# To take the lock again while others compute takes longer than to verify so many.
WITH_LOCK_MAX = 2
# The number changes with the arguments, as in `salus.ledger.hashing`.
FUNCTION = "salus_open_signed_2"

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
    return verify_each([Signature(public_key, signature, text)])[0]


def verify_each(signatures: Sequence[Signature]) -> list[bool]:
    """Tell of each signature what `verifies` does; of many the interpreter lock is free meanwhile."""
    found = _library.valid(signatures) if _library is not None else [*starmap(_opens, signatures)]
    return [is_valid or _verifies_by_rule(*one) for is_valid, one in zip(found, signatures, strict=True)]


def _opens(public_key: bytes, signature: bytes, text: bytes) -> bool:
    try:
        crypto_sign_open(signature + text, public_key)
    except BadSignatureError:
        return False
    return True


def _verifies_by_rule(public_key: bytes, signature: bytes, text: bytes) -> bool:
    try:
        ed25519.verify(ed25519.public_key_of(public_key), signature, text)
    except (ValueError, InvalidSignature):
        return False
    return True


class Library:
    """The compiled function, which asks s2n-bignum and libsodium; many release the interpreter lock."""

    def __init__(self, path: str = LIBRARY) -> None:
        """Raise OSError, AttributeError or ImportError if one of them is not there or not of this version."""
        self._run, self._run_with_lock = ctypes.CDLL(path)[FUNCTION], ctypes.PyDLL(path)[FUNCTION]
        address, count = ctypes.c_void_p, ctypes.c_uint64
        text = ctypes.c_char_p
        for run in (self._run, self._run_with_lock):
            run.argtypes = [address, address, text, text, count, address, count, address]
            run.restype = ctypes.c_int64
        # PyNaCl has no public name for the addresses of libsodium's functions.
        sodium: Any = import_module("nacl._sodium")
        self._sha512, self._open = (
            int(sodium.ffi.cast("uintptr_t", sodium.ffi.addressof(sodium.lib, name)))
            for name in ("crypto_hash_sha512", "crypto_sign_open")
        )

    def valid(self, signatures: Sequence[Signature]) -> list[bool]:
        """Tell of each signature whether it is valid, as libsodium does."""
        return self._ask(signatures, self._open)

    def certain(self, signatures: Sequence[Signature]) -> list[bool]:
        """Tell of each signature whether it is valid without asking libsodium; of others nothing is known."""
        return self._ask(signatures, None)

    def _ask(self, signatures: Sequence[Signature], libsodium: int | None) -> list[bool]:
        keys = b"".join(one.public_key for one in signatures)
        if len(keys) != ed25519.PUBLIC_KEY_BYTES * len(signatures):
            raise ValueError(f"a public key has {ed25519.PUBLIC_KEY_BYTES} bytes")
        signed = [one.signature + one.text for one in signatures]
        places = array("Q", accumulate(map(len, signed), initial=0))
        data, valid = b"".join(signed), array("B", bytes(len(signed)))
        run = self._run_with_lock if len(signed) <= WITH_LOCK_MAX else self._run
        certain = run(
            self._sha512,
            libsodium,
            keys,
            data,
            len(data),
            places.buffer_info()[0],
            len(signed),
            valid.buffer_info()[0],
        )
        if certain < 0:
            raise ValueError("signatures whose places lead astray")
        return [bool(one) for one in valid]


def load(path: str = LIBRARY) -> Library | None:
    """Return the library; None if it is not there, or not right."""
    try:
        library = Library(path)
    except (OSError, AttributeError, ImportError):
        return None
    return library if _is_right(library) else None


def _is_right(library: Library) -> bool:
    """Look at test 2 of RFC 8032 (7.1) and at what nobody signed: nothing else may come of them."""
    key = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    asked = [Signature(key, signature, text) for text in (b"\x72", b"\x73", b"")]
    return library.valid(asked) == [True, False, False] and not any(library.certain(asked[1:]))


_library = load()
