"""Logging in, as identity states it: OpenID providers for members' people, and the sessions of people."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

import msgspec

from salus.events.contexts.identity import CONTEXT, IDENTITY, PublicKey, key_claims
from salus.events.event_types import Retention
from salus.events.fields import Did, Moment
from salus.events.requests import RequestedData
from salus.events.signed_request import Asked, Body
from salus.events.token_exchange import EXCHANGE_BYTES_MAX, is_exchange

ISSUER_PATTERN = (
    r"^(https://[A-Za-z0-9.-]+|http://(127[.]0[.]0[.]1|localhost))(:[0-9]{1,5})?(/[A-Za-z0-9._~%/-]*)?\Z"
)
ProviderName = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{0,62}\Z", max_length=63)]
Issuer = Annotated[str, msgspec.Meta(pattern=ISSUER_PATTERN, max_length=256)]
# What OpenID calls a client, a claim or a level of authentication (`acr`).
OpenIdName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:/~-]+\Z", max_length=128)]
JwsKeyName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._:/+=~-]+\Z", max_length=128)]
Base64Url = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]+\Z", max_length=1024)]
SessionSeconds = Annotated[int, msgspec.Meta(ge=60, le=86_400)]
# A single sign-on lasts weeks at most.
SignOnSeconds = Annotated[int, msgspec.Meta(ge=0, le=2_592_000)]
ProviderAlgorithm = Literal["RS256", "PS256", "ES256"]


class ProviderKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A key that signs ID tokens, by the members of its JWK (RFC 7518): n, e of RSA, x, y of P-256."""

    kid: JwsKeyName
    alg: ProviderAlgorithm
    n: Base64Url | None = None
    e: Base64Url | None = None
    x: Base64Url | None = None
    y: Base64Url | None = None


ProviderKeys = Annotated[tuple[ProviderKey, ...], msgspec.Meta(min_length=1, max_length=16)]

_provider_event = partial(
    CONTEXT.event, owner=IDENTITY, retention=Retention.NETWORK, subject_field="provider", changes=True
)


# A provider before it could say how fresh a login is to be.
_WITHOUT_SIGN_ON = (
    "urn:salus:schema:salus.identity.provider-added.v1:sha256:"
    "55e4a1f29a4bc6eae372da5934ea48ce11b1e27b3dceb799e2f7e386891cfb33"
)


@_provider_event("salus.identity.provider-added.v1", older_dataschemas=frozenset({_WITHOUT_SIGN_ON}))
class ProviderAdded(RequestedData):
    """People of a member may log in at this OpenID provider, as its ID tokens say under these keys.

    `client` is who asks the provider for the network, `did_claim` the claim that has a person's DID. `acr`
    are the levels of authentication that are enough; none: any is. A session lasts `session_s_max` at most.

    Who signed on at the provider longer ago than `sign_on_s_max` logs in anew, and in a session some acts
    take a fresh login, with one of the levels `step_up_acr` if there are any (`salus.events.step_up`). A
    provider that was added before there was `sign_on_s_max` has neither.
    """

    provider: ProviderName
    member: Did
    issuer: Issuer
    client: OpenIdName
    did_claim: OpenIdName
    acr: Annotated[tuple[OpenIdName, ...], msgspec.Meta(max_length=16)]
    session_s_max: SessionSeconds
    keys: ProviderKeys
    sign_on_s_max: SignOnSeconds | None = None
    step_up_acr: Annotated[tuple[OpenIdName, ...], msgspec.Meta(max_length=16)] = ()


@_provider_event("salus.identity.provider-keys-replaced.v1")
class ProviderKeysReplaced(RequestedData):
    """ID tokens of a provider are signed by these keys from now on, and by no others."""

    provider: ProviderName
    keys: ProviderKeys


@_provider_event("salus.identity.provider-withdrawn.v1")
class ProviderWithdrawn(RequestedData):
    """Nobody logs in at this provider any more, and the sessions that it gave are over."""

    provider: ProviderName


def _claims_of_session(data: SessionOpened) -> tuple[str, ...]:
    return key_claims(data.key)


@CONTEXT.event(
    "salus.identity.session-opened.v1",
    owner=IDENTITY,
    retention=Retention.NETWORK,
    subject_field="did",
    claims=_claims_of_session,
)
class SessionOpened(RequestedData):
    """A person who logged in at a provider signs what she asks for with this key, until its end.

    `authenticated` is when the provider looked who she is, and `acr` how, if it says.
    """

    did: Did
    key: PublicKey
    provider: ProviderName
    authenticated: Moment
    acr: OpenIdName | None = None


# --- which request asks for which event -------------------------------------------------------------

_KEYS = 32 * 1024
CONTEXT.form("POST", "providers", body_bytes_max=_KEYS)
CONTEXT.form("POST", "providers", None, "keys", body_bytes_max=_KEYS)
CONTEXT.form("POST", "providers", None, "withdraw", body_bytes_max=0)
CONTEXT.form("POST", "token", body_bytes_max=EXCHANGE_BYTES_MAX)


class _Provider(Body):
    provider: str
    member: str
    issuer: str
    client: str
    did_claim: str
    session_s_max: int
    keys: tuple[ProviderKey, ...]
    acr: tuple[str, ...] = ()
    sign_on_s_max: int | None = None
    step_up_acr: tuple[str, ...] = ()

    def is_(self, data: ProviderAdded) -> bool:
        return all(getattr(self, name) == getattr(data, name) for name in self.__struct_fields__)


class _Keys(Body):
    keys: tuple[ProviderKey, ...]


@CONTEXT.asked(ProviderAdded)
def _adds_provider(asked: Asked, data: ProviderAdded) -> bool:
    body = asked.read(_Provider)
    return asked.is_("POST", "providers") and body is not None and body.is_(data)


@CONTEXT.asked(ProviderKeysReplaced)
def _replaces_keys(asked: Asked, data: ProviderKeysReplaced) -> bool:
    body = asked.read(_Keys)
    is_it = asked.is_("POST", "providers", data.provider, "keys")
    return is_it and body is not None and body.keys == data.keys


@CONTEXT.asked(ProviderWithdrawn)
def _withdraws_provider(asked: Asked, data: ProviderWithdrawn) -> bool:
    return asked.is_("POST", "providers", data.provider, "withdraw")


@CONTEXT.asked(SessionOpened)
def _opens_session(asked: Asked, _: SessionOpened) -> bool:
    # What the tokens in it say is judged with the provider: `salus.events.sessions`.
    return asked.is_("POST", "token") and asked.body is not None and is_exchange(asked.body)
