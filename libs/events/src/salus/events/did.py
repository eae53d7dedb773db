"""did:key for Ed25519 and the multibase form of its public keys (W3C CCG did:key, multicodec 0xed)."""

from __future__ import annotations

from urllib.parse import unquote

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from salus.ledger.ed25519 import public_key_of

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ED25519_CODEC = b"\xed\x01"


def decoded_segment(segment: str) -> str:
    """Return what a segment of a URL path names; a DID in it may stand as it is, or percent-encoded.

    What begins with an unencoded `did:` is a DID as it is written (DID Core 3.1: a percent sign is part of
    it), unless its percent signs are encoded as %25. So `did:web:h.example%3A8443` and
    `did:web:h.example%253A8443` both name the DID with the port, and never the one with the path 8443.
    """
    if segment.startswith("did:") and "%" in segment.replace("%25", ""):
        return segment
    return unquote(segment)


def _base58_encode(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = _ALPHABET[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def _base58_decode(text: str) -> bytes:
    number = 0
    for char in text:
        number = number * 58 + _ALPHABET.index(char)
    body = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return b"\0" * (len(text) - len(text.lstrip("1"))) + body


def multibase_of(key: Ed25519PublicKey) -> str:
    """Return the `publicKeyMultibase` of a key: z, then base58btc of 0xed01 and the 32 bytes."""
    return "z" + _base58_encode(_ED25519_CODEC + key.public_bytes_raw())


def key_of(multibase: str) -> Ed25519PublicKey:
    """Return the Ed25519 key of a `publicKeyMultibase`.

    Raises:
        ValueError: not base58btc, not an Ed25519 key, or one under which anybody can sign.
    """
    if len(multibase) > 64 or not multibase.startswith("z"):
        raise ValueError("not a base58btc multibase key")
    raw = _base58_decode(multibase[1:])
    if raw[:2] != _ED25519_CODEC or len(raw) != 34:
        raise ValueError("not an Ed25519 public key")
    return public_key_of(raw[2:])


def did_key_of(key: Ed25519PublicKey) -> str:
    """Return the did:key of a public key."""
    return "did:key:" + multibase_of(key)


class LocalSigner:
    """A `Signer` whose Ed25519 key is in this process."""

    def __init__(self, key: Ed25519PrivateKey, verification_method: str | None = None) -> None:
        self._key = key
        public = multibase_of(key.public_key())
        self._method = verification_method or f"did:key:{public}#{public}"

    @classmethod
    def from_seed(cls, seed: bytes, verification_method: str | None = None) -> LocalSigner:
        """Return the signer of a 32-byte seed."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed), verification_method)

    @property
    def did(self) -> str:
        """The DID that controls the key."""
        return self._method.partition("#")[0]

    @property
    def verification_method(self) -> str:
        """The DID URL of the key."""
        return self._method

    @property
    def public_key(self) -> Ed25519PublicKey:
        """The public half."""
        return self._key.public_key()

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over the message."""
        return self._key.sign(message)
