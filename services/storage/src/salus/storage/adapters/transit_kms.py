"""A KMS in the transit engine of OpenBao or Vault: root keys are versions of one key that never leaves it.

The key is derived (`derived=true`): each use names its context, from which the engine makes the key of that
use. So a wrapped key opens only in its context, and the engine itself can wrap it anew.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, TypeVar

import httpx
import msgspec
from opentelemetry import propagate

from salus.client.bounded_http import bounded_client
from salus.crypto.errors import KmsAwayError, KmsUnusableError, RootInUseError, UnwrapError
from salus.crypto.kms import RootsInUse, parsed, root_name, wrapped_form
from salus.storage.adapters.transit_login import Login, login_of
from salus.storage.kms_places import TransitPlace

ANSWER_BYTES_MAX = 64 * 1024
CONNECTIONS_MAX = 16
ATTEMPTS_MAX = 3
RETRY_S = 0.1
DEADLINE_S = 5.0
# What a server answers that is sealed, starting, overloaded or behind the one that leads.
_PASSING = {307, 408, 412, 429, 472, 473, 500, 502, 503, 504}
_CIPHERTEXT = re.compile(r"vault:v([1-9][0-9]{0,8}):[A-Za-z0-9+/=]+")
_T = TypeVar("_T")


class _Key(msgspec.Struct, frozen=True):
    derived: bool
    exportable: bool
    latest_version: int
    allow_plaintext_backup: bool
    # Only said of derived keys.
    convergent_encryption: bool = False


class _Ciphertext(msgspec.Struct, frozen=True):
    ciphertext: str


class _Plaintext(msgspec.Struct, frozen=True):
    plaintext: str


@dataclass
class TransitKms:
    """Wraps by the engine. Nothing is asked for until it is needed."""

    place: TransitPlace
    deadline_s: float = DEADLINE_S
    transport: httpx.AsyncBaseTransport | None = field(default=None, repr=False)
    _login: Login = field(init=False, repr=False)
    _client: httpx.AsyncClient = field(init=False, repr=False)
    _under_way: set[asyncio.Task[httpx.Response]] = field(default_factory=set, init=False, repr=False)
    _is_fit: bool = field(default=False, init=False, repr=False)
    _attempt_s: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._attempt_s = _attempt_s_max(self.deadline_s)
        self._login = login_of(self.place.login)
        self._client = bounded_client(
            ANSWER_BYTES_MAX,
            base_url=f"{self.place.address}/v1/",
            verify=_trusted(self.place.ca),
            transport=self.transport,
            trust_env=False,
            timeout=self._attempt_s,
            limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
        )

    async def wrap(self, key: bytes, *, context: str) -> bytes:
        """Return the key wrapped under the latest version."""
        await self._require_fit_once()
        asked = {"plaintext": _base64(key), "context": _base64(context.encode())}
        return self._wrapped(await self._use("encrypt", asked, _Ciphertext))

    async def unwrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Return the key."""
        asked = {"ciphertext": self._ciphertext(wrapped), "context": _base64(context.encode())}
        await self._require_fit_once()
        answer = await self._use("decrypt", asked, _Plaintext)
        try:
            return b64decode(answer.plaintext, validate=True)
        except ValueError:
            raise KmsUnusableError("the KMS answers what is not base64") from None

    async def rewrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Return the same key under the latest version; the key itself does not leave the engine.

        The engine is asked even if the name is that of the latest version: another engine may have a key of
        the same name, and only the one that wrapped a key opens it.
        """
        asked = {"ciphertext": self._ciphertext(wrapped), "context": _base64(context.encode())}
        await self._require_fit_once()
        anew = self._wrapped(await self._use("rewrap", asked, _Ciphertext))
        return wrapped if root_name(anew) == root_name(wrapped) else anew

    async def is_current(self, wrapped: bytes) -> bool:
        """Say whether a key is wrapped under the latest version."""
        name, _ = parsed(wrapped)
        return name == self._name((await self._require_fit()).latest_version)

    async def rotate(self) -> str:
        """Add a version, and return its name."""
        await self._require_fit()
        # An answer that was lost may have left a version more than was asked for, which harms nothing.
        await self._asked("POST", f"{self._key_path}/rotate", {}, attempts=1)
        return self._name((await self._require_fit()).latest_version)

    async def retire(self, in_use: RootsInUse) -> None:
        """Have the engine forget every version but the latest."""
        latest = (await self._require_fit()).latest_version
        if left := set(await in_use()) - {self._name(latest)}:
            raise RootInUseError(left)
        least = {"min_decryption_version": latest, "min_encryption_version": latest}
        await self._asked("POST", f"{self._key_path}/config", least)
        await self._asked("POST", f"{self._key_path}/trim", {"min_available_version": latest})

    async def check(self) -> None:
        """Return if the engine answers us, and has the key."""
        await self._require_fit()

    async def close(self) -> None:
        """Close the connections, once what is under way has ended: each attempt has a deadline of its own."""
        await asyncio.gather(*self._under_way, return_exceptions=True)
        await self._client.aclose()

    @property
    def _key_path(self) -> str:
        return f"{self.place.mount}/keys/{self.place.key}"

    @property
    def _prefix(self) -> str:
        return f"transit-{self.place.key}-v"

    def _name(self, version: int) -> str:
        return f"{self._prefix}{version}"

    def _wrapped(self, answer: _Ciphertext) -> bytes:
        match = _CIPHERTEXT.fullmatch(answer.ciphertext)
        if match is None:
            raise KmsUnusableError("the KMS answers what is no ciphertext of a transit engine")
        return wrapped_form(self._name(int(match[1])), answer.ciphertext.encode("ascii"))

    def _ciphertext(self, wrapped: bytes) -> str:
        """Return what the engine made; what is not its own is not sent to it."""
        name, body = parsed(wrapped)
        match = _CIPHERTEXT.fullmatch(body.decode("ascii", "replace"))
        if match is None or name != self._name(int(match[1])):
            raise UnwrapError(f"{name} is no root key of {self.place.key} in the transit engine")
        return match[0]

    async def _require_fit(self) -> _Key:
        """Return what the engine says of the key; raises KmsUnusableError if it would not bind or keep it."""
        try:
            key = _decoded(await self._asked("GET", self._key_path), _Key)
        except _NotFoundError:
            raise KmsUnusableError(
                f"the KMS has no key {self.place.key} at {self.place.mount}, or shows it to another namespace"
            ) from None
        if not key.derived or key.convergent_encryption or key.exportable or key.allow_plaintext_backup:
            raise KmsUnusableError(
                f"the KMS's key {self.place.key} has to be derived, and not convergent, exportable or open to"
                " plaintext backup"
            )
        self._is_fit = True
        return key

    async def _require_fit_once(self) -> None:
        if not self._is_fit:
            await self._require_fit()

    async def _use(self, operation: str, asked: Mapping[str, str], kind: type[_T]) -> _T:
        path = f"{self.place.mount}/{operation}/{self.place.key}"
        try:
            return _decoded(await self._asked("POST", path, asked), kind)
        except _NotFoundError:
            raise KmsUnusableError(f"the KMS has no transit engine at {self.place.mount}") from None
        except _RefusedError:
            if operation == "encrypt":
                raise KmsUnusableError("the KMS refuses to wrap a key") from None
            raise UnwrapError("altered, wrapped for another use, or its root key is gone") from None

    async def _asked(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, attempts: int = ATTEMPTS_MAX
    ) -> bytes:
        """Return the answer, asked for with a token that counts; each attempt is harmless."""
        content = b"" if body is None else msgspec.json.encode(body)
        for is_last in (False, True):
            token = await self._login.token(self._log_in)
            try:
                return await self._tried(method, path, content, token, attempts=attempts)
            except _DeniedError:
                # One that was asked for just now has not ended: what is denied then is denied to the role.
                if is_last:
                    break
                self._login.forget(token)
        raise KmsUnusableError(f"the KMS denies {method} {path} to the token or role that we have")

    async def _log_in(self, path: str, body: bytes) -> bytes:
        try:
            return await self._tried("POST", path, body, None, attempts=ATTEMPTS_MAX)
        except (_RefusedError, _DeniedError, _NotFoundError):
            raise KmsUnusableError("the KMS refuses our login") from None

    async def _tried(
        self, method: str, path: str, content: bytes, token: str | None, *, attempts: int
    ) -> bytes:
        for attempt in range(attempts):
            try:
                return await self._once(method, path, content, token)
            except KmsAwayError:
                if attempt + 1 == attempts:
                    raise
                await asyncio.sleep(RETRY_S * (1 << attempt))
        raise AssertionError

    async def _once(self, method: str, path: str, content: bytes, token: str | None) -> bytes:
        # The engine's audit log shows the header to whom its operators tell it to: which request used a key.
        headers: dict[str, str] = {}
        propagate.inject(headers)
        if token is not None:
            headers["X-Vault-Token"] = token
        if self.place.namespace is not None:
            headers["X-Vault-Namespace"] = self.place.namespace
        request = asyncio.create_task(self._sent(method, path, content, headers))
        self._under_way.add(request)
        request.add_done_callback(self._ended)
        try:
            # Who does not wait any more does not cut it off: that would leave its connection behind.
            answer = await asyncio.shield(request)
        except (httpx.HTTPError, TimeoutError) as error:
            # `from None`: the request of the error has the token and what was to be wrapped.
            raise KmsAwayError(f"the KMS does not answer: {type(error).__name__}") from None
        return _content(answer)

    async def _sent(
        self, method: str, path: str, content: bytes, headers: Mapping[str, str]
    ) -> httpx.Response:
        """Return the answer, which is whole within the time of an attempt once there is a connection."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as deadline:

            async def trace(event: str, _: object) -> None:
                # httpx bounds each step, but not how many reads an answer takes. While it connects, its own
                # bounds are enough, and cutting off a handshake would leave the connection behind.
                if event.endswith(".send_request_headers.started"):
                    deadline.reschedule(loop.time() + self._attempt_s)

            return await self._client.request(
                method, path, content=content, headers=headers, extensions={"trace": trace}
            )

    def _ended(self, request: asyncio.Task[httpx.Response]) -> None:
        self._under_way.discard(request)
        if not request.cancelled():
            # Whoever asked may be gone, and nobody else asks what became of it.
            request.exception()


class _DeniedError(KmsUnusableError):
    """The token does not count, or not for this."""


class _RefusedError(KmsUnusableError):
    """The engine does not do this with what was sent."""


class _NotFoundError(KmsUnusableError):
    """There is no such key, or no such engine."""


_PERMANENT: dict[int, type[KmsUnusableError]] = {
    HTTPStatus.FORBIDDEN: _DeniedError,
    HTTPStatus.NOT_FOUND: _NotFoundError,
    HTTPStatus.BAD_REQUEST: _RefusedError,
}


def _content(answer: httpx.Response) -> bytes:
    status = answer.status_code
    if answer.is_success:
        return answer.content
    if status in _PASSING:
        raise KmsAwayError(f"the KMS answers {status}")
    raise _PERMANENT.get(status, KmsUnusableError)(f"the KMS answers {status}")


def _attempt_s_max(deadline_s: float) -> float:
    """Return how long each attempt may take, so that all of them are over before the deadline of a use is."""
    return max((deadline_s - RETRY_S * (1 << ATTEMPTS_MAX)) / (ATTEMPTS_MAX + 1), deadline_s / 20)


def _trusted(ca: str | None) -> ssl.SSLContext:
    if ca is None:
        return httpx.create_ssl_context(trust_env=False)
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise KmsUnusableError(f"the KMS's CA file {ca} cannot be read, or is none") from error


def _decoded(content: bytes, kind: type[_T]) -> _T:
    """Return the data of an answer."""
    try:
        return msgspec.convert(msgspec.json.decode(content)["data"], type=kind)
    except (msgspec.MsgspecError, KeyError, TypeError):
        raise KmsUnusableError("the KMS answers what is no answer of a transit engine") from None


def _base64(data: bytes) -> str:
    return b64encode(data).decode("ascii")
