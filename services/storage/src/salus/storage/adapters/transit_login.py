"""How storage logs in to OpenBao or Vault: by a token in a file that an agent renews, or by an AppRole."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from salus.crypto.errors import CryptoError, KmsUnusableError
from salus.crypto.secret_source import Secret
from salus.storage.kms_places import RoleLogin, TokenLogin

# A token is asked for anew when so much of its time is over.
LEASE_USED_MAX = 2 / 3

Ask = Callable[[str, bytes], Awaitable[bytes]]
"""Posts a body to a path without a token and returns the answer; raises KmsAwayError, KmsUnusableError."""


class Login(Protocol):
    """Where tokens come from."""

    async def token(self, ask: Ask) -> str:
        """Return a token, which may have been revoked since it was given out."""

    def forget(self, token: str) -> None:
        """Have the next call give another token, if there is one: this one is refused."""


@dataclass
class TokenFile:
    """A token that somebody else renews; it is read again when it is refused."""

    source: Secret
    _token: str | None = field(default=None, init=False, repr=False)

    async def token(self, ask: Ask) -> str:
        """Return the token in the file."""
        del ask
        if self._token is None:
            self._token = secret_at(self.source)
        return self._token

    def forget(self, token: str) -> None:
        """Read the file again next time."""
        if token == self._token:
            self._token = None


class _Auth(msgspec.Struct, frozen=True):
    client_token: str
    lease_duration: int


class _LoginAnswer(msgspec.Struct, frozen=True):
    auth: _Auth


@dataclass
class AppRole:
    """A role and its secret; each login gives a token of its own, with a lease."""

    role: Secret
    secret: Secret
    clock: Callable[[], float] = time.monotonic
    _token: str | None = field(default=None, init=False, repr=False)
    _until: float = field(default=0.0, init=False, repr=False)
    # Each login takes a use of the secret and leaves a lease in the server: callers at once share one.
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock, init=False, repr=False)

    async def token(self, ask: Ask) -> str:
        """Return a token whose lease is not about to end; many callers at once wait for one login."""
        async with self._lock:
            if self._token is None or self.clock() >= self._until:
                await self._log_in(ask)
            return self._token or ""

    async def _log_in(self, ask: Ask) -> None:
        begun = self.clock()
        body = msgspec.json.encode({"role_id": secret_at(self.role), "secret_id": secret_at(self.secret)})
        try:
            answer = msgspec.json.decode(await ask("auth/approle/login", body), type=_LoginAnswer).auth
        except msgspec.MsgspecError:
            # `from None`: the answer may hold a token.
            raise KmsUnusableError("the KMS's login answers what is no login") from None
        self._token = answer.client_token
        # A lease of 0 is one without an end.
        lease_s = answer.lease_duration or math.inf
        self._until = begun + LEASE_USED_MAX * lease_s

    def forget(self, token: str) -> None:
        """Log in again next time, unless somebody else has since."""
        if token == self._token:
            self._token = None


def login_of(place: TokenLogin | RoleLogin) -> Login:
    """Return what logs in as a KMS URI says."""
    match place:
        case TokenLogin():
            return TokenFile(place.token)
        case RoleLogin():
            return AppRole(place.role, place.secret)


def secret_at(source: Secret) -> str:
    """Return a secret; raises KmsUnusableError with where it should be, and not what it is."""
    try:
        return source.read().strip()
    except CryptoError as error:
        raise KmsUnusableError(f"{error}") from error
