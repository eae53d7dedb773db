"""did:key for Ed25519 and the multibase form of its public keys (W3C CCG did:key, multicodec 0xed)."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_ED25519_CODEC = b"\xed\x01"

# Points of small order, and encodings that are not canonical: under such a "key" a signature can be valid
# over many messages, so nobody could be held to what it signs. Source: libsodium's
# ge25519_has_small_order (the sign bit is masked), "Taming the many EdDSAs" (2020) section 5.
_SMALL_ORDER = frozenset(
    bytes.fromhex(point)
    for point in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)
_FIELD_PRIME = 2**255 - 19


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
        ValueError: not base58btc, or not an Ed25519 key.
    """
    if len(multibase) > 64 or not multibase.startswith("z"):
        raise ValueError("not a base58btc multibase key")
    raw = _base58_decode(multibase[1:])
    if raw[:2] != _ED25519_CODEC or len(raw) != 34:
        raise ValueError("not an Ed25519 public key")
    y_coordinate = raw[2:-1] + bytes([raw[-1] & 0x7F])
    if y_coordinate in _SMALL_ORDER or int.from_bytes(y_coordinate, "little") >= _FIELD_PRIME:
        raise ValueError("not a key that holds its owner to a signature")
    return Ed25519PublicKey.from_public_bytes(raw[2:])


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
