r"""Seal a small value so that only the owner of a key pair opens it: HPKE (RFC 9180), base mode, one shot.

The suite is hybrid: X-Wing (MLKEM768-X25519, HPKE KEM 0x647a), HKDF-SHA256, AES-256-GCM. It holds as long as
either ML-KEM or X25519 does. `ciphertext` is enc || ct, 1136 bytes longer than the plaintext, in base64. The
HPKE `info` is

    salus.health/sealed/v1\n<key id>\n<context>

so a value cannot be passed off as sealed to another key or for another purpose. Contexts are named where they
are used; that of a sealed field of an event is `salus.events.sealing_context`.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from salus.crypto.errors import InvalidKeyError, UnknownSuiteError, UnsealError

SUITE: Final = "HPKE-Base-X-Wing-HKDF-SHA256-AES-256-GCM"
PRIVATE_KEY_BYTES = 32
PUBLIC_KEY_BYTES = 1216
_MLKEM_SEED_BYTES = 64
_MLKEM_PUBLIC_BYTES = 1184
_INFO = b"salus.health/sealed/v1\n"
_HPKE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class SealedLike(Protocol):
    """Anything of the shape of a sealed value, such as the catalogue's `Sealed`."""

    @property
    def suite(self) -> str:
        """The name of the suite."""

    @property
    def key(self) -> str:
        """The id of the key it is sealed to."""

    @property
    def ciphertext(self) -> str:
        """The encapsulation and the ciphertext, in base64."""


@dataclass(frozen=True, slots=True)
class SealedValue:
    """A sealed value; the fields are those of the catalogue's `Sealed`."""

    suite: str
    key: str
    ciphertext: str


@dataclass(frozen=True, slots=True)
class KeyPair:
    """An X-Wing key pair: the 32-byte seed that is the private key, and the 1216-byte public key."""

    private_key: bytes
    public_key: bytes

    def __repr__(self) -> str:
        return "KeyPair(private_key=…)"


def generate_key_pair() -> KeyPair:
    """Return a new key pair."""
    return key_pair_of(secrets.token_bytes(PRIVATE_KEY_BYTES))


def key_pair_of(private_key: bytes) -> KeyPair:
    """Return the pair of a private key; raises InvalidKeyError."""
    mlkem, x25519 = _expand(private_key)
    public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    return KeyPair(private_key=private_key, public_key=public)


def seal(plaintext: bytes, *, public_key: bytes, key: str, context: str) -> SealedValue:
    """Seal to the public key whose id is `key`; raises InvalidKeyError if it is not a key of this suite."""
    sealed = _HPKE.encrypt(plaintext, load_public_key(public_key), info=_info(key, context))
    return SealedValue(suite=SUITE, key=key, ciphertext=b64encode(sealed).decode("ascii"))


def unseal(sealed: SealedLike, *, private_key: bytes, context: str) -> bytes:
    """Return the plaintext.

    Raises:
        UnknownSuiteError: it is sealed in a way that this version does not know.
        UnsealError: another key, another context, or altered bytes.
    """
    if sealed.suite != SUITE:
        raise UnknownSuiteError(sealed.suite)
    try:
        raw = b64decode(sealed.ciphertext, validate=True)
        return _HPKE.decrypt(raw, load_private_key(private_key), info=_info(sealed.key, context))
    except (InvalidTag, ValueError):
        raise UnsealError(sealed.key) from None


def load_private_key(private_key: bytes) -> MLKEM768X25519PrivateKey:
    """Return the key object of a 32-byte X-Wing seed; raises InvalidKeyError."""
    return MLKEM768X25519PrivateKey(*_expand(private_key))


def load_public_key(public_key: bytes) -> MLKEM768X25519PublicKey:
    """Return the key object of a 1216-byte X-Wing public key; raises InvalidKeyError."""
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise InvalidKeyError(f"a public key of this suite has {PUBLIC_KEY_BYTES} bytes")
    try:
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public_key[:_MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(public_key[_MLKEM_PUBLIC_BYTES:]),
        )
    except ValueError as error:
        raise InvalidKeyError("not a public key of this suite") from error


def _expand(seed: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    # draft-connolly-cfrg-xwing-kem, section 5.2: SHAKE256(seed) gives ML-KEM's d || z and the X25519 scalar.
    if len(seed) != PRIVATE_KEY_BYTES:
        raise InvalidKeyError(f"a private key of this suite has {PRIVATE_KEY_BYTES} bytes")
    expanded = hashlib.shake_256(seed).digest(_MLKEM_SEED_BYTES + 32)
    return (
        MLKEM768PrivateKey.from_seed_bytes(expanded[:_MLKEM_SEED_BYTES]),
        X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED_BYTES:]),
    )


def _info(key: str, context: str) -> bytes:
    if "\n" in key:
        raise InvalidKeyError("a key id holds no line break")
    return _INFO + key.encode() + b"\n" + context.encode()
