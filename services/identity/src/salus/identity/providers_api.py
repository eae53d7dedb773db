"""Login providers over HTTP: at which OpenID providers people of which member log in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, Field

from salus.contracts.contract import ContractHost
from salus.contracts.http_fields import CommandBody
from salus.events.contexts import identity_login
from salus.events.contexts.identity_login import (
    ProviderAdded,
    ProviderAlgorithm,
    ProviderKey,
    ProviderKeysReplaced,
    ProviderWithdrawn,
)
from salus.events.keyring import KeyRing
from salus.events.logins import ProviderFact
from salus.events.requests import Request
from salus.identity.api import actor_of
from salus.identity.handlers import as_known
from salus.identity.logins import ProviderState, decide
from salus.identity.ports import Ring
from salus.runtime.auth import Caller, Callers
from salus.runtime.fields import Did, pattern_of
from salus.runtime.limits import AccountLimit, Rate
from salus.runtime.problems import documented
from salus.runtime.refusal import Refusal

COMMANDS = Rate(burst=60, per_minute=1)
NAME = pattern_of(identity_login.ProviderName)
OPENID_NAME = pattern_of(identity_login.OpenIdName)

ProviderInPath = Annotated[str, Path(max_length=63, pattern=NAME)]
_BASE64URL = pattern_of(identity_login.Base64Url)
_JwkMember = Annotated[str | None, Field(max_length=1024, pattern=_BASE64URL)]


class ProviderKeyBody(CommandBody):
    """A key of the provider's JWKS that signs ID tokens: `n` and `e` of RSA, `x` and `y` of P-256."""

    kid: str = Field(max_length=128, pattern=pattern_of(identity_login.JwsKeyName))
    alg: ProviderAlgorithm
    n: _JwkMember = None
    e: _JwkMember = None
    x: _JwkMember = None
    y: _JwkMember = None

    def as_key(self) -> ProviderKey:
        """Return the key as events carry it."""
        return ProviderKey(**self.model_dump())


class ProviderKeysBody(CommandBody):
    """The keys that sign ID tokens from now on."""

    keys: list[ProviderKeyBody] = Field(min_length=1, max_length=16)

    def as_keys(self) -> tuple[ProviderKey, ...]:
        """Return the keys as events carry them."""
        return tuple(key.as_key() for key in self.keys)


class ProviderBody(ProviderKeysBody):
    """An OpenID provider at which people of a member log in."""

    provider: str = Field(max_length=63, pattern=NAME, description="What the network calls it.")
    member: Did = Field(description="Whose people log in there.")
    issuer: str = Field(max_length=256, pattern=pattern_of(identity_login.Issuer))
    client: str = Field(max_length=128, pattern=OPENID_NAME, description="The network's client id there.")
    did_claim: str = Field(max_length=128, pattern=OPENID_NAME, description="The claim with a person's DID.")
    acr: list[Annotated[str, Field(max_length=128, pattern=OPENID_NAME)]] = Field(
        default=[], max_length=16, description="The levels of authentication that are enough; none: any is."
    )
    session_s_max: int = Field(ge=60, le=86_400, description="How long a session lasts.")
    sign_on_s_max: int = Field(
        ge=0, le=2_592_000, description="Who signed on at the provider longer ago logs in anew."
    )
    step_up_acr: list[Annotated[str, Field(max_length=128, pattern=OPENID_NAME)]] = Field(
        default=[],
        max_length=16,
        description="The levels that are enough for what takes a fresh login; none: any is.",
    )

    def as_fact(self, request: Request) -> ProviderAdded:
        """Return the fact that is asked for."""
        return ProviderAdded(
            provider=self.provider,
            member=self.member,
            issuer=self.issuer,
            client=self.client,
            did_claim=self.did_claim,
            acr=tuple(self.acr),
            session_s_max=self.session_s_max,
            keys=self.as_keys(),
            sign_on_s_max=self.sign_on_s_max,
            step_up_acr=tuple(self.step_up_acr),
            request=request,
        )


class ProviderKeyView(BaseModel):
    """A key that signs ID tokens, by its JWK."""

    kid: str
    alg: ProviderAlgorithm
    n: str | None
    e: str | None
    x: str | None
    y: str | None


class ProviderView(BaseModel):
    """A provider in force, with the keys that it has now."""

    provider: str
    member: str
    issuer: str
    client: str
    did_claim: str
    acr: list[str]
    session_s_max: int
    sign_on_s_max: int | None = Field(
        description="None: it was added before logins had to be fresh, and its sessions never step up."
    )
    step_up_acr: list[str]
    keys: list[ProviderKeyView]

    @classmethod
    def of(cls, provider: ProviderAdded) -> Self:
        """Return the view of a provider."""
        keys = [
            ProviderKeyView(kid=key.kid, alg=key.alg, n=key.n, e=key.e, x=key.x, y=key.y)
            for key in provider.keys
        ]
        lists = {name: list(getattr(provider, name)) for name in ("acr", "step_up_acr")}
        facts = {name: getattr(provider, name) for name in cls.model_fields if name not in {"keys", *lists}}
        return cls(**facts, **lists, keys=keys)


class ProviderList(BaseModel):
    """The providers in force, by name."""

    providers: list[ProviderView]


class Withdrawn(BaseModel):
    """Nobody logs in there any more."""

    provider: str


def provider_routes(
    host: ContractHost[ProviderState],
    *,
    authenticate: Callers,
    ring: Ring,
    now: Callable[[], datetime],
    commands: Rate = COMMANDS,
) -> APIRouter:
    """Return the routes about login providers."""
    router = APIRouter(tags=["login"])
    limit = AccountLimit("login providers", commands)
    _add_reads(router, ring=ring)

    async def state(fact: ProviderFact, caller: Caller) -> None:
        async def rule(_: ProviderState) -> ProviderFact:
            # It may have waited: who asks, who governs and what is in force is looked up in its turn.
            known, at = await ring.catch_up(), now()
            actor = as_known(actor_of(caller), known, at=at)
            return decide(fact, actor=actor, operators=known.operators(at=at), standing=known)

        limit.take(caller.party)
        await host.execute(fact.provider, rule)

    async def view(name: str) -> ProviderView:
        return _view_of((await ring.catch_up()), name)

    caller = Depends(authenticate.command)
    problems = documented(401, 403, 404, 409, 422, 429, 503)

    @router.post("/providers", status_code=201, responses=problems)
    async def add_provider(body: ProviderBody, caller: Caller = caller) -> ProviderView:
        """Let people of a member log in at an OpenID provider."""
        await state(body.as_fact(caller.request), caller)
        return await view(body.provider)

    @router.post("/providers/{provider}/keys", responses=problems)
    async def replace_provider_keys(
        provider: ProviderInPath, body: ProviderKeysBody, caller: Caller = caller
    ) -> ProviderView:
        """Take ID tokens of a provider that are signed by these keys, and by no others."""
        await state(ProviderKeysReplaced(provider, body.as_keys(), request=caller.request), caller)
        return await view(provider)

    @router.post("/providers/{provider}/withdraw", responses=problems)
    async def withdraw_provider(provider: ProviderInPath, caller: Caller = caller) -> Withdrawn:
        """Let nobody log in there any more, and end the sessions that it gave."""
        await state(ProviderWithdrawn(provider, request=caller.request), caller)
        return Withdrawn(provider=provider)

    return router


def _view_of(ring: KeyRing, name: str) -> ProviderView:
    provider = ring.logins.providers.get(name)
    if provider is None:
        raise Refusal("unknown-provider", "no provider of that name is in force", status=404)
    return ProviderView.of(provider)


def _add_reads(router: APIRouter, *, ring: Ring) -> None:
    @router.get("/providers", responses=documented(503))
    async def list_providers() -> ProviderList:
        """List the providers in force, with what a client needs to log in there."""
        known = (await ring.catch_up()).logins.providers
        return ProviderList(providers=[ProviderView.of(known[name]) for name in sorted(known)])

    @router.get("/providers/{provider}", responses=documented(404, 422, 503))
    async def get_provider(provider: ProviderInPath) -> ProviderView:
        """Return one provider in force."""
        return _view_of(await ring.catch_up(), provider)
