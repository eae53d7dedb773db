"""Where root keys are: in a file, a PKCS#11 token or a transit engine, named by a URI that holds no secret.

- `/run/salus/kms`, or `file:/run/salus/kms`: a KMS file
- `file:/run/salus/kms?passphrase-source=file:/run/passphrase`: an encrypted one
- `pkcs11:token=salus;object=subjects?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/run/pin`
- `transit:https://bao.example.org:8200/transit/subjects?role-id-source=file:/run/role&secret-id-source=file:/run/s`
- `transit:https://bao.example.org:8200/transit/subjects?token-source=file:/run/token&ca=/run/ca.crt&namespace=x`
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from salus.crypto.errors import KeyUriError
from salus.crypto.key_uri import TokenPlace, token_place, uri_attributes
from salus.crypto.secret_source import Secret, path_of

_FILE_QUERY = {"passphrase-source"}
_TRANSIT_QUERY = {"token-source", "role-id-source", "secret-id-source", "ca", "namespace"}
_MOUNT = re.compile(r"(?:/[A-Za-z0-9_-]+)+")
_TRANSIT_KEY = re.compile(r"[a-z0-9-]{1,40}")
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True, slots=True)
class KmsFile:
    """A KMS file, and where its passphrase is."""

    path: Path
    passphrase: Secret | None = None

    def secret(self) -> str | None:
        """Return the passphrase, if there is one; raises KeyUriError, ExposedKeyError."""
        return self.passphrase.read() if self.passphrase else None


@dataclass(frozen=True, slots=True)
class TokenLogin:
    """A token that somebody else renews."""

    token: Secret


@dataclass(frozen=True, slots=True)
class RoleLogin:
    """An AppRole, which gives tokens."""

    role: Secret
    secret: Secret


@dataclass(frozen=True, slots=True)
class TransitPlace:
    """A key of a transit engine; `ca` is the file of who signed its certificate, none: the system's."""

    address: str
    mount: str
    key: str
    login: TokenLogin | RoleLogin
    ca: str | None = None
    namespace: str | None = None


KmsPlace = KmsFile | TokenPlace | TransitPlace


def kms_place(uri: str) -> KmsPlace:
    """Return what a URI or a plain path names; nothing is read or asked for yet.

    Raises:
        KeyUriError: it is none of these, or lacks what we need.
    """
    scheme, colon, rest = uri.partition(":")
    if scheme == "pkcs11" and colon:
        return token_place(rest)
    if scheme == "transit" and colon:
        return _transit(rest)
    if scheme == "file" and colon:
        place, _, query = rest.partition("?")
        source = uri_attributes(query, "&", _FILE_QUERY).get("passphrase-source")
        return KmsFile(path_of(place), Secret(source) if source else None)
    if re.match(r"[a-z0-9+-]+:", uri) or not uri:
        raise KeyUriError(f"{scheme or 'nothing'} is no place of root keys; say file:, pkcs11: or transit:")
    return KmsFile(Path(uri))


def _transit(rest: str) -> TransitPlace:
    address, _, query = rest.partition("?")
    split = _split(address)
    mount, _, key = split.path.rpartition("/")
    is_named = _MOUNT.fullmatch(mount) is not None and _TRANSIT_KEY.fullmatch(key) is not None
    is_secret = split.scheme == "https" or (split.scheme == "http" and split.hostname in _LOOPBACK)
    is_plain = "@" not in split.netloc and not split.fragment
    if not is_secret or not split.hostname or not is_plain or not is_named:
        raise KeyUriError(
            "a transit: URI is transit:https://HOST[:PORT]/MOUNT/KEY?…; http only to this machine, and the"
            " name of a key has at most 40 of a-z, 0-9 and -"
        )
    told = uri_attributes(query, "&", _TRANSIT_QUERY)
    return TransitPlace(
        address=f"{split.scheme}://{split.netloc}",
        mount=mount.removeprefix("/"),
        key=key,
        login=_login(told.get("token-source"), told.get("role-id-source"), told.get("secret-id-source")),
        ca=told.get("ca"),
        namespace=told.get("namespace"),
    )


def _split(address: str) -> SplitResult:
    try:
        split = urlsplit(address)
        # Reading it is what refuses a port that is none.
        _ = split.port
    except ValueError:
        raise KeyUriError("a transit: URI has no such host and port") from None
    return split


def _login(token: str | None, role: str | None, secret: str | None) -> TokenLogin | RoleLogin:
    if token and not role and not secret:
        return TokenLogin(Secret(token))
    if role and secret and not token:
        return RoleLogin(Secret(role), Secret(secret))
    raise KeyUriError("a transit: URI needs token-source, or role-id-source and secret-id-source")
