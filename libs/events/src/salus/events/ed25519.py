"""Verifies Ed25519 signatures (RFC 8032) by libsodium: half of OpenSSL's time, without the interpreter lock.

OpenSSL has the last word, here as in every other verifier of the ledger: libsodium refuses keys and points of
small order besides, so what it refuses is asked again. What it takes, OpenSSL takes; both recompute the first
half of the signature and compare its bytes.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError


# The events of one signed batch come in several partitions, and so in several blocks; what was found of its
# signature stays true. 8,192 batches of 64 are the last half a million events, in about 3 MB.
@lru_cache(maxsize=8192)
def verifies(public_key: bytes, signature: bytes, text: bytes) -> bool:
    """Tell whether a signature (64 bytes) over the text is by this key (32 bytes)."""
    try:
        crypto_sign_open(signature + text, public_key)
    except BadSignatureError:
        return _verifies_by_openssl(public_key, signature, text)
    return True


def _verifies_by_openssl(public_key: bytes, signature: bytes, text: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text)
    except InvalidSignature:
        return False
    return True
