"""did:key and the multibase form of public keys (W3C CCG did:key; multicodec 0xed and 0x1200)."""

from __future__ import annotations

from urllib.parse import unquote

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from salus.events.verification_keys import KeyKind, PublicKeyObject, VerificationKey

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# The multicodecs of public keys, as varints.
_CODECS = {KeyKind.ED25519: b"\xed\x01", KeyKind.P256: b"\x80\x24"}
PrivateKeyObject = Ed25519PrivateKey | EllipticCurvePrivateKey


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


def multibase_of(key: PublicKeyObject) -> str:
    """Return the `publicKeyMultibase` of a key: z, then base58btc of its multicodec and its bytes."""
    known = VerificationKey.of(key)
    return "z" + _base58_encode(_CODECS[known.kind] + known.raw)


def key_of(multibase: str) -> VerificationKey:
    """Return the key of a `publicKeyMultibase`.

    Raises:
        ValueError: not base58btc, no key of a kind that is known, or one under which anybody can sign.
    """
    if len(multibase) > 64 or not multibase.startswith("z"):
        raise ValueError("not a base58btc multibase key")
    raw = _base58_decode(multibase[1:])
    for kind, codec in _CODECS.items():
        if raw.startswith(codec):
            return VerificationKey.of_raw(kind, raw[len(codec) :])
    raise ValueError("neither an Ed25519 nor a P-256 public key")


def did_key_of(key: PublicKeyObject) -> str:
    """Return the did:key of a public key."""
    return "did:key:" + multibase_of(key)


class LocalSigner:
    """A `Signer` whose key, of Ed25519 or P-256, is in this process."""

    def __init__(self, key: PrivateKeyObject, verification_method: str | None = None) -> None:
        self._key = key
        self._algorithm = VerificationKey.of(key.public_key()).algorithm
        public = multibase_of(key.public_key())
        self._method = verification_method or f"did:key:{public}#{public}"

    @classmethod
    def from_seed(cls, seed: bytes, verification_method: str | None = None) -> LocalSigner:
        """Return the signer with the Ed25519 key of a 32-byte seed."""
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
    def algorithm(self) -> str:
        """The JWS algorithm of the key."""
        return self._algorithm

    @property
    def public_key(self) -> PublicKeyObject:
        """The public half."""
        return self._key.public_key()

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over the message."""
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(message)
        r, s = decode_dss_signature(self._key.sign(message, ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
