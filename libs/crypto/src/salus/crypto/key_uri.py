"""The parts of URIs that name keys and hold no secret; and where in a PKCS#11 token keys are (RFC 7512)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from salus.crypto.errors import KeyUriError
from salus.crypto.secret_source import Secret

_ATTRIBUTE = re.compile(r"([a-z0-9-]+)=([^;?&]*)")
_PKCS11_PATH = {"token", "serial", "object"}
_PKCS11_QUERY = {"module-path", "pin-source"}


@dataclass(frozen=True, slots=True)
class TokenPlace:
    """A token, the module that speaks to it, and where its PIN is; `wanted` are the URI's path attributes."""

    module: str
    pin: Secret
    wanted: Mapping[str, str]

    @property
    def token(self) -> str:
        """The token's label."""
        return self.wanted["token"]


def token_place(rest: str) -> TokenPlace:
    """Return what a pkcs11: URI names, given without its scheme; raises KeyUriError."""
    path, _, query = rest.partition("?")
    wanted, how = uri_attributes(path, ";", _PKCS11_PATH), uri_attributes(query, "&", _PKCS11_QUERY)
    for needed, told in (("token", wanted), ("module-path", how), ("pin-source", how)):
        if needed not in told:
            raise KeyUriError(f"a pkcs11: URI needs {needed}")
    return TokenPlace(how["module-path"], Secret(how["pin-source"]), wanted)


def uri_attributes(text: str, separator: str, known: set[str]) -> Mapping[str, str]:
    """Return the attributes of a URI's part; what is not known might change which key is meant."""
    found: dict[str, str] = {}
    for part in text.split(separator) if text else ():
        match = _ATTRIBUTE.fullmatch(part)
        name = match[1] if match else part.partition("=")[0]
        if name == "pin-value":
            raise KeyUriError("a PIN does not belong into settings; say pin-source=file:PATH or env:NAME")
        if match is None or name not in known or name in found:
            raise KeyUriError(f"{name or 'nothing'} is not known here, malformed or there twice")
        found[name] = unquote(match[2])
    return found
