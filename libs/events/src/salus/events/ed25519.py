"""Verifies events' Ed25519 signatures by libsodium: half of OpenSSL's time, without the interpreter lock.

What is valid, `salus.ledger.ed25519` says for the whole of Salus. libsodium judges the same; should one of
its versions or builds refuse more, that rule has the last word: what libsodium refuses is judged again.
"""

from __future__ import annotations

from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError

from salus.ledger import ed25519


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


def _verifies_by_rule(public_key: bytes, signature: bytes, text: bytes) -> bool:
    try:
        ed25519.verify(ed25519.public_key_of(public_key), signature, text)
    except (ValueError, InvalidSignature):
        return False
    return True
