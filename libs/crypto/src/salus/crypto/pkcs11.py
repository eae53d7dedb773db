"""Ed25519 keys in a PKCS#11 token (CKM_EDDSA): an HSM, or SoftHSM in tests. Keys never leave it.

The library is the extra `pkcs11` of this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from salus.crypto.errors import InvalidKeyError, KmsAwayError
from salus.crypto.key_uri import TokenPlace
from salus.crypto.token_session import TokenSession

with suppress(ImportError):
    import pkcs11
    from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass

PUBLIC_BYTES = 32
# Signed once to see which public object belongs to a private one: tokens do not keep the two together.
PROBE = b"salus.health/key-probe/v1\n"


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A private key in the token, under the public key by which it is known everywhere."""

    _place: TokenKeys = field(repr=False)
    _public: Ed25519PublicKey = field(repr=False)

    def public_key(self) -> Ed25519PublicKey:
        """Return the public half."""
        return self._public

    def sign(self, data: bytes, /) -> bytes:
        """Return the signature; raises KmsAwayError, KmsUnusableError."""
        return self._place.sign(self._public.public_bytes_raw(), data)


@dataclass
class TokenKeys:
    """The keys of a token that a pkcs11: URI means: all of them, or those of one label or id."""

    place: TokenPlace
    _token: TokenSession = field(init=False, repr=False)
    # Any: the library's stubs do not tell which objects sign and have attributes.
    _private: dict[bytes, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._token = TokenSession(self.place, forget=self._private.clear)

    def read(self) -> Sequence[TokenKey]:
        """Return the token's keys as they are now."""
        return self._token.run(self._read)

    def sign(self, public: bytes, data: bytes) -> bytes:
        """Return the signature by one of the keys."""

        def attempt(session: pkcs11.Session) -> bytes:
            if public not in self._private:
                self._look(session)
            if public not in self._private:
                raise KmsAwayError(f"token {self.place.token} does not have the key any more")
            return bytes(self._private[public].sign(data, mechanism=Mechanism.EDDSA))

        return self._token.run(attempt)

    def close(self) -> None:
        """Log out and end the session; the next call opens another."""
        self._token.close()

    def _read(self, session: pkcs11.Session) -> Sequence[TokenKey]:
        self._look(session)
        if not self._private:
            raise InvalidKeyError(f"token {self.place.token} has no such Ed25519 key")
        public = map(Ed25519PublicKey.from_public_bytes, self._private)
        return tuple(TokenKey(self, key) for key in public)

    def _look(self, session: pkcs11.Session) -> None:
        """Find the private keys that the URI means, each by its public key."""
        template: dict[Attribute, Any] = {Attribute.KEY_TYPE: KeyType.EC_EDWARDS}
        if "object" in self.place.wanted:
            template[Attribute.LABEL] = self.place.wanted["object"]
        private = list(session.get_objects({**template, Attribute.CLASS: ObjectClass.PRIVATE_KEY}))
        public = list(session.get_objects({**template, Attribute.CLASS: ObjectClass.PUBLIC_KEY}))
        points = {point for key in public if (point := _point(key)) is not None}
        self._private.clear()
        self._private |= {point: key for key in private if (point := _counterpart(key, points)) is not None}


def _point(key: Any) -> bytes | None:
    """Return the public key: CKA_EC_POINT is a DER octet string of it, or with some tokens the bare bytes."""
    try:
        point = bytes(key[Attribute.EC_POINT])
    except pkcs11.PKCS11Error:
        return None
    return point[-PUBLIC_BYTES:] if len(point) in {PUBLIC_BYTES, PUBLIC_BYTES + 2} else None


def _counterpart(key: Any, points: Iterable[bytes]) -> bytes | None:
    try:
        signature = key.sign(PROBE, mechanism=Mechanism.EDDSA)
    except pkcs11.MechanismInvalid:
        return None
    for point in points:
        try:
            Ed25519PublicKey.from_public_bytes(point).verify(signature, PROBE)
        except (InvalidSignature, ValueError):
            continue
        return point
    return None
