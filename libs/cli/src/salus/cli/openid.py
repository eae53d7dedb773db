"""An OpenID provider as the command speaks to it: its metadata, its keys, and a code for an ID token.

A provider is not believed: answers are bounded, nothing is followed, and its keys and endpoints are asked of
its own origin unless somebody names another.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

import httpx
import msgspec

from salus.cli.display import shown
from salus.cli.exits import CommandError, Exit
from salus.cli.service_answers import AnswerError, read_answer
from salus.client.bounded_http import bounded_client
from salus.events.contexts.identity_login import ProviderKey
from salus.events.id_token import fault_of_key

METADATA_BYTES_MAX = 256 * 1024
CALL_S_MAX = 20.0
ALGORITHMS = {"RSA": ("RS256", "PS256"), "EC": ("ES256",)}


class ProviderMetadata(msgspec.Struct, frozen=True):
    """What is used of a provider's metadata (OpenID Connect Discovery)."""

    issuer: str
    jwks_uri: str
    authorization_endpoint: str
    token_endpoint: str


class _Jwk(msgspec.Struct, frozen=True):
    kty: str
    kid: str | None = None
    use: str | None = None
    alg: str | None = None
    crv: str | None = None
    n: str | None = None
    e: str | None = None
    x: str | None = None
    y: str | None = None


class _Jwks(msgspec.Struct, frozen=True):
    keys: tuple[_Jwk, ...]


class _Tokens(msgspec.Struct, frozen=True):
    id_token: str


def require_safe(url: str, what: str) -> str:
    """Return a URL that may be asked: https, or http of this machine.

    Raises:
        CommandError: it is another one.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        parts, host = urlsplit(""), ""
    is_here = parts.scheme == "http" and host in {"127.0.0.1", "localhost"}
    if not host or parts.username is not None or not (parts.scheme == "https" or is_here):
        raise CommandError(Exit.USAGE, f"{what}: {shown(url)} is no https URL, nor of this machine")
    return url


async def metadata_of(issuer: str) -> ProviderMetadata:
    """Return what a provider says of itself.

    Raises:
        CommandError: it does not answer, is another issuer, or names an endpoint of no https URL.
    """
    url = f"{require_safe(issuer, '--issuer').rstrip('/')}/.well-known/openid-configuration"
    told = read_answer("the provider", await _ask("GET", url), ProviderMetadata)
    if told.issuer != issuer:
        raise AnswerError("the provider", "issuer: it is another one than was asked")
    for name in ("jwks_uri", "authorization_endpoint", "token_endpoint"):
        require_safe(getattr(told, name), name)
    return told


async def keys_of(metadata: ProviderMetadata, jwks: str | None) -> tuple[ProviderKey, ...]:
    """Return the keys that sign a provider's ID tokens, from `jwks` if somebody named it.

    Raises:
        CommandError: the metadata names a place at another host, or no key there is of a kind that is taken.
    """
    url = metadata.jwks_uri if jwks is None else require_safe(jwks, "--jwks")
    if jwks is None and _origin(url) != _origin(metadata.issuer):
        raise CommandError(
            Exit.NO, f"jwks_uri: {shown(url)} is of another host than the issuer: name it with --jwks"
        )
    told = read_answer("the provider", await _ask("GET", url), _Jwks)
    found = tuple(key for jwk in told.keys for key in _taken(jwk))
    if not found:
        kinds = ", ".join(kind for kinds in ALGORITHMS.values() for kind in kinds)
        raise CommandError(Exit.NO, f"the provider has no key with a kid that signs with {kinds}")
    return found


async def exchange_code(metadata: ProviderMetadata, form: Mapping[str, str]) -> str:
    """Return the ID token that a provider gives for a code; raises CommandError."""
    answer = await _ask("POST", metadata.token_endpoint, form)
    return read_answer("the provider", answer, _Tokens).id_token


def _taken(jwk: _Jwk) -> list[ProviderKey]:
    algorithms = (
        ALGORITHMS.get(jwk.kty, ()) if jwk.use in (None, "sig") and jwk.crv in (None, "P-256") else ()
    )
    alg = jwk.alg if jwk.alg is not None else next(iter(algorithms), None)
    if jwk.kid is None or alg not in algorithms:
        return []
    members = {"n": jwk.n, "e": jwk.e} if jwk.kty == "RSA" else {"x": jwk.x, "y": jwk.y}
    try:
        key = msgspec.convert({"kid": jwk.kid, "alg": alg, **members}, ProviderKey)
    except msgspec.ValidationError:
        return []
    return [key] if fault_of_key(key) is None else []


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


async def _ask(method: str, url: str, form: Mapping[str, str] | None = None) -> bytes:
    try:
        async with (
            asyncio.timeout(CALL_S_MAX),
            bounded_client(METADATA_BYTES_MAX, trust_env=False, follow_redirects=False) as http,
        ):
            answer = await http.request(method, url, data=form)
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
        why = f"the provider at {shown(url)} does not answer: {type(error).__name__}"
        raise CommandError(Exit.NOT_RUNNING, why) from error
    if answer.status_code != httpx.codes.OK:
        raise CommandError(Exit.NO, f"the provider at {shown(url)} answered {answer.status_code}")
    return answer.content
