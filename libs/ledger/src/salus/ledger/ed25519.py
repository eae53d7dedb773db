"""Ed25519 (RFC 8032) as every verifier of Salus judges it: one rule for keys, and one for signatures.

A public key is taken if it is the one encoding of a point of the curve whose order is not small. Under a key
of small order anybody makes signatures, valid over many messages, so nobody could be held to one.

A signature (R, S) is taken if S is below the group's order, R is the one encoding of a point whose order is
not small, and R = S*B - h*A without a cofactor. That is what Web Cryptography says (W3C, section Ed25519,
verify) and what libsodium does; OpenSSL alone lets keys and R of small order pass.

A key of mixed order (a point of the large group plus one of small order) is taken: only its owner can sign
under it, and all verifiers that multiply without a cofactor agree on each of its signatures.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
_PRIME = 2**255 - 19
_D = -121665 * pow(121666, -1, _PRIME) % _PRIME
# The y of the eight points whose order divides 8 ("Taming the many EdDSAs", 2020); x and -x have the same y.
_ROOT_OF_SMALL_ORDER = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
_SMALL_ORDER = frozenset({0, 1, _PRIME - 1, _ROOT_OF_SMALL_ORDER, _PRIME - _ROOT_OF_SMALL_ORDER})


def public_key_of(raw: bytes) -> Ed25519PublicKey:
    """Return the public key that these 32 bytes are.

    Raises:
        ValueError: they are no key, or one that does not hold its owner to what it signs.
    """
    if len(raw) != PUBLIC_KEY_BYTES:
        raise ValueError(f"an Ed25519 key of {len(raw)} bytes")
    require_sound(raw)
    return Ed25519PublicKey.from_public_bytes(raw)


def require_sound(raw: bytes) -> None:
    """Raise ValueError unless 32 bytes are the encoding of a point that can be a public key."""
    if not _is_sound(raw) or not _is_on_curve(_y_of(raw)):
        raise ValueError("not a key that holds its owner to a signature")


def verify(key: Ed25519PublicKey, signature: bytes, text: bytes) -> None:
    """Raise cryptography's InvalidSignature unless the signature over the text is by the key."""
    if len(signature) != SIGNATURE_BYTES or not _is_sound(signature[:32]):
        raise InvalidSignature
    # OpenSSL refuses S that is not below the order, and compares R as bytes.
    key.verify(signature, text)


def _y_of(encoded: bytes) -> int:
    return int.from_bytes(encoded, "little") & (2**255 - 1)


def _is_sound(encoded: bytes) -> bool:
    y = _y_of(encoded)
    return y < _PRIME and y not in _SMALL_ORDER


def _is_on_curve(y: int) -> bool:
    # x^2 = (y^2 - 1) / (d*y^2 + 1) has a root exactly if the product of the two terms has one.
    square = y * y % _PRIME
    return pow((square - 1) * (_D * square + 1), (_PRIME - 1) // 2, _PRIME) == 1
