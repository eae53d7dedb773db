"""Ed25519 keys in a PKCS#11 token (CKM_EDDSA): an HSM, or SoftHSM in tests. Keys never leave it.

The library is the extra `pkcs11` of this package. One session a place; its calls are serialised, as a
session does one thing at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from salus.crypto.errors import InvalidKeyError, KmsAwayError
from salus.crypto.secret_source import Secret

try:
    import pkcs11
    from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
except ImportError:  # pragma: no cover  # the extra is installed where this is tested
    HAS_LIBRARY = False
else:
    HAS_LIBRARY = True

_T = TypeVar("_T")
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
        """Return the signature; raises KmsAwayError."""
        return self._place.sign(self._public.public_bytes_raw(), data)


@dataclass
class TokenKeys:
    """The keys of a token that a pkcs11: URI means: all of them, or those of one label or id.

    `wanted` holds the URI's path attributes. A session that broke is opened again once.
    """

    module: str
    pin: Secret
    wanted: Mapping[str, str]
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _session: pkcs11.Session | None = field(default=None, init=False, repr=False)
    # Any: the library's stubs do not tell which objects sign and have attributes.
    _private: dict[bytes, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not HAS_LIBRARY:
            raise KmsAwayError("pkcs11: URIs need the library: install salus-crypto[pkcs11]")

    def read(self) -> Sequence[TokenKey]:
        """Return the token's keys as they are now."""
        with self._lock:
            self._again(self._look)
            if not self._private:
                raise InvalidKeyError(f"token {self.wanted['token']} has no such Ed25519 key")
            public = map(Ed25519PublicKey.from_public_bytes, self._private)
            return tuple(TokenKey(self, key) for key in public)

    def sign(self, public: bytes, data: bytes) -> bytes:
        """Return the signature by one of the keys."""

        def attempt() -> bytes:
            if public not in self._private:
                self._look()
            if public not in self._private:
                raise KmsAwayError(f"token {self.wanted['token']} does not have the key any more")
            return bytes(self._private[public].sign(data, mechanism=Mechanism.EDDSA))

        with self._lock:
            return self._again(attempt)

    def close(self) -> None:
        """Log out and end the session; the next call opens another."""
        with self._lock:
            self._forget()

    def _again(self, attempt: Callable[[], _T]) -> _T:
        """Attempt it, and once more in a new session if the token does not serve."""
        try:
            return attempt()
        except pkcs11.PKCS11Error:
            self._forget()
        try:
            return attempt()
        except pkcs11.PKCS11Error as error:
            self._forget()
            name = type(error).__name__
            raise KmsAwayError(
                f"token {self.wanted['token']} does not serve: {name} {error}".strip()
            ) from error

    def _look(self) -> None:
        """Find the private keys that the URI means, each by its public key."""
        session = self._session = self._session or self._open()
        template: dict[Attribute, Any] = {Attribute.KEY_TYPE: KeyType.EC_EDWARDS}
        if "object" in self.wanted:
            template[Attribute.LABEL] = self.wanted["object"]
        private = list(session.get_objects({**template, Attribute.CLASS: ObjectClass.PRIVATE_KEY}))
        public = list(session.get_objects({**template, Attribute.CLASS: ObjectClass.PUBLIC_KEY}))
        points = {point for key in public if (point := _point(key)) is not None}
        self._private = {point: key for key in private if (point := _counterpart(key, points)) is not None}

    def _open(self) -> pkcs11.Session:
        try:
            token = pkcs11.lib(self.module).get_token(
                token_label=self.wanted["token"],
                token_serial=self.wanted["serial"].encode() if "serial" in self.wanted else None,
            )
        except (RuntimeError, OSError) as error:
            sentence = f"{self.module} has no token {self.wanted['token']}: {type(error).__name__} {error}"
            raise KmsAwayError(sentence.strip()) from error
        try:
            return token.open(user_pin=self.pin.read())
        except pkcs11.UserAlreadyLoggedIn:
            # A login is the whole process's: another place in this token was first.
            return token.open()

    def _forget(self) -> None:
        self._private = {}
        session, self._session = self._session, None
        if session is not None:
            with suppress(pkcs11.PKCS11Error):
                session.close()


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
