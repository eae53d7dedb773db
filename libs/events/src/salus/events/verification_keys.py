"""Public keys of the kinds that parties may have, and the one rule by which each kind verifies.

A key has a kind, and a kind has one algorithm: Ed25519 as `salus.ledger.ed25519` says, and P-256 as ECDSA
with SHA-256 (FIPS 186-5), whose signatures are r and s of 32 bytes each, as in JWS (RFC 7518, section 3.4).
Of P-256 any s below the group's order is taken: what signs by Web Cryptography or in a telephone does not
choose, and nothing here takes the bytes of a signature for a name.

`raw` is the key as it travels: the 32 bytes of Ed25519, and the 33 of a compressed point of P-256 (SEC 1,
section 2.3.3). So its length tells its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from salus.events import ed25519
from salus.events.ed25519 import Signature
from salus.ledger.ed25519 import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, public_key_of

PublicKeyObject = Ed25519PublicKey | EllipticCurvePublicKey
P256_BYTES = 33
_HALF = SIGNATURE_BYTES // 2
_COMPRESSED = frozenset({2, 3})


class KeyKind(StrEnum):
    """A kind of keys, by the name of its curve."""

    ED25519 = "Ed25519"
    P256 = "P-256"


ALGORITHMS = {KeyKind.ED25519: "EdDSA", KeyKind.P256: "ES256"}
"""The JWS algorithm of each kind: a token that names another one is not by the key, whatever verifies."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A public key of a party; `of_raw` makes only those that hold their owner to what they sign."""

    kind: KeyKind
    raw: bytes

    @classmethod
    def of(cls, key: PublicKeyObject) -> Self:
        """Return a key of `cryptography`, as it is; raises ValueError if it is of another curve."""
        if isinstance(key, Ed25519PublicKey):
            return cls(KeyKind.ED25519, key.public_bytes_raw())
        if key.curve.name != SECP256R1.name:
            raise ValueError(f"a key of the curve {key.curve.name}")
        return cls(KeyKind.P256, key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint))

    @classmethod
    def of_raw(cls, kind: KeyKind, raw: bytes) -> Self:
        """Return the key that these bytes are.

        Raises:
            ValueError: they are none of this kind, or one under which anybody can sign.
        """
        _ = public_key_of(raw) if kind is KeyKind.ED25519 else p256_key(raw)
        return cls(kind, raw)

    @property
    def algorithm(self) -> str:
        """The JWS algorithm of its kind."""
        return ALGORITHMS[self.kind]

    @property
    def public_key(self) -> PublicKeyObject:
        """The key as `cryptography` has it."""
        return public_key_of(self.raw) if self.kind is KeyKind.ED25519 else p256_key(self.raw)


@lru_cache(maxsize=1024)
def p256_key(raw: bytes) -> EllipticCurvePublicKey:
    """Return the P-256 key of a compressed point; raises ValueError."""
    if len(raw) != P256_BYTES or raw[0] not in _COMPRESSED:
        raise ValueError("not a compressed point of P-256")
    return EllipticCurvePublicKey.from_encoded_point(SECP256R1(), raw)


def verifies(public_key: bytes, signature: bytes, text: bytes) -> bool:
    """Tell whether a signature (64 bytes) over the text is by the key of these bytes (`raw`)."""
    if len(public_key) == PUBLIC_KEY_BYTES:
        return ed25519.verifies(public_key, signature, text)
    return _p256_verifies(public_key, signature, text)


def verify_each(signatures: Sequence[Signature]) -> list[bool]:
    """Tell of each signature what `verifies` does; those of Ed25519 are verified together."""
    if all(len(one.public_key) == PUBLIC_KEY_BYTES for one in signatures):
        return ed25519.verify_each(signatures)
    together = [one for one in signatures if len(one.public_key) == PUBLIC_KEY_BYTES]
    found = iter(ed25519.verify_each(together))
    return [
        next(found) if len(one.public_key) == PUBLIC_KEY_BYTES else _p256_verifies(*one) for one in signatures
    ]


# As of Ed25519: the events of one signed batch come in several blocks.
@lru_cache(maxsize=8192)
def _p256_verifies(public_key: bytes, signature: bytes, text: bytes) -> bool:
    if len(signature) != SIGNATURE_BYTES:
        return False
    r, s = (int.from_bytes(half, "big") for half in (signature[:_HALF], signature[_HALF:]))
    try:
        p256_key(public_key).verify(encode_dss_signature(r, s), text, ECDSA(SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True
