"""Where signing keys are: in a file or in a PKCS#11 token, named by a URI that holds no secret.

    /run/salus/shard-0.pem                                     a PEM file, also `file:/run/salus/shard-0.pem`
    file:/run/salus/log.pem?passphrase-source=file:/run/pass   an encrypted one
    pkcs11:token=salus;object=log?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin

A place may hold several keys: while one takes over from another, whoever signs has both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from salus.crypto.errors import KeyUriError
from salus.crypto.key_uri import token_place, uri_attributes
from salus.crypto.keys import load_all_ed25519
from salus.crypto.secret_source import Secret, path_of

_FILE_QUERY = {"passphrase-source"}


class SigningKey(Protocol):
    """An Ed25519 key that signs. In an HSM it may take milliseconds: never call it on an event loop."""

    def public_key(self) -> Ed25519PublicKey:
        """Return the public half."""

    def sign(self, data: bytes, /) -> bytes:
        """Return the 64-byte signature (RFC 8032); KmsAwayError or KmsUnusableError if an HSM fails."""


class KeyPlace(Protocol):
    """A place of keys. Callers may rely on: `read` looks again each time, so an added key is found."""

    def read(self) -> Sequence[SigningKey]:
        """Return the keys that are there now, at least one; this blocks.

        Raises:
            ExposedKeyError: others may read the file of keys, passphrase or PIN.
            InvalidKeyError: there is no key, or something else than one.
            KmsAwayError: the file or HSM cannot be read.
            KmsUnusableError: the HSM does not take the PIN.
        """


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The keys of a PEM file, which others may not read."""

    path: Path
    passphrase: Secret | None = None

    def read(self) -> Sequence[SigningKey]:
        """Return the keys in the file."""
        return load_all_ed25519(self.path, self.passphrase.read() if self.passphrase else None)


def key_place(uri: str) -> KeyPlace:
    """Return the place that a URI or a plain path names; nothing is read yet.

    Raises:
        KeyUriError: it is neither a path nor a `file:` or `pkcs11:` URI (RFC 7512) with what we need.
    """
    scheme, colon, rest = uri.partition(":")
    if scheme == "pkcs11" and colon:
        return _pkcs11(rest)
    if scheme == "file" and colon:
        place, _, query = rest.partition("?")
        options = uri_attributes(query, "&", _FILE_QUERY)
        source = options.get("passphrase-source")
        return KeyFile(path_of(place), Secret(source) if source else None)
    if re.match(r"[a-z0-9+-]+:", uri) or not uri:
        raise KeyUriError(f"{scheme or 'nothing'} is no place of keys; say file: or pkcs11:")
    return KeyFile(Path(uri))


def _pkcs11(rest: str) -> KeyPlace:
    place = token_place(rest)
    from salus.crypto.pkcs11 import TokenKeys  # noqa: PLC0415  # only who has an HSM needs the library

    return TokenKeys(place)
