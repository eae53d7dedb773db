"""A KMS in a PKCS#11 token: root keys are AES-256 keys of one label that never leave it (CKM_AES_GCM).

Each root key has an id of its own: eight digits that count up, and eight random ones. The greatest is
current, so two rotations at once leave two root keys, of which everybody takes the same one.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from salus.crypto.call_thread import CallThread
from salus.crypto.errors import KeyUriError, KmsUnusableError, RootInUseError, UnwrapError
from salus.crypto.key_uri import TokenPlace
from salus.crypto.kms import RootsInUse, bound_to, parsed, wrapped_form
from salus.crypto.token_session import TokenSession

with suppress(ImportError):
    import pkcs11
    from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, ObjectClass

ROOT_KEY_BITS = 256
NONCE_BYTES = 12
ID_BYTES = 8
# Encrypted once where a token fails to decrypt: what is altered is called differently by different tokens.
PROBE = b"salus.health/root-key-probe/v1\n"
_LABEL = re.compile(r"[a-z0-9-]{1,32}")
_T = TypeVar("_T")


@dataclass
class TokenKms:
    """Root keys in a token. Keys are looked up at each use, so what another process makes is found."""

    place: TokenPlace
    label: str = field(init=False)
    _token: TokenSession = field(init=False, repr=False)
    _calls: CallThread = field(default_factory=CallThread, init=False, repr=False)

    def __post_init__(self) -> None:
        self.label = self.place.wanted.get("object", "")
        if not _LABEL.fullmatch(self.label):
            raise KeyUriError("a pkcs11: URI of a KMS needs object, of at most 32 of a-z, 0-9 and -")
        self._token = TokenSession(self.place, forget=lambda: None, writable=True)

    async def wrap(self, key: bytes, *, context: str) -> bytes:
        """Return the key wrapped under the root key that is current in the token."""

        def attempt(session: pkcs11.Session) -> bytes:
            name, root = self._current(session)
            nonce = secrets.token_bytes(NONCE_BYTES)
            sealed = root.encrypt(key, **_gcm(nonce, bound_to(name, context)))
            return wrapped_form(name, nonce + bytes(sealed))

        return await self._run(attempt)

    async def unwrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Return the key."""
        name, body = parsed(wrapped)

        def attempt(session: pkcs11.Session) -> bytes:
            root = self._roots(session).get(name)
            if root is None:
                raise UnwrapError(f"there is no root key {name}")
            try:
                return bytes(
                    root.decrypt(body[NONCE_BYTES:], **_gcm(body[:NONCE_BYTES], bound_to(name, context)))
                )
            except pkcs11.PKCS11Error:
                _require_serves(root)
                raise UnwrapError("altered, or wrapped for another use") from None

        return await self._run(attempt)

    async def rewrap(self, wrapped: bytes, *, context: str) -> bytes:
        """Return the same key under the current root key."""
        key = await self.unwrap(wrapped, context=context)
        return wrapped if await self.is_current(wrapped) else await self.wrap(key, context=context)

    async def is_current(self, wrapped: bytes) -> bool:
        """Say whether a key is wrapped under the root key that is current in the token."""
        name, _ = parsed(wrapped)
        return await self._run(lambda session: self._current(session)[0]) == name

    async def rotate(self) -> str:
        """Make a root key in the token, which is current from then on, and return its name."""

        def attempt(session: pkcs11.Session) -> str:
            last = max(self._roots(session), default=f"{self._prefix}00000000")
            number = int(last[len(self._prefix) :][:8], 16) + 1
            identifier = number.to_bytes(4, "big") + secrets.token_bytes(ID_BYTES - 4)
            session.generate_key(
                KeyType.AES,
                ROOT_KEY_BITS,
                id=identifier,
                label=self.label,
                store=True,
                template={Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False},
            )
            return self._prefix + identifier.hex()

        return await self._run(attempt)

    async def retire(self, in_use: RootsInUse) -> None:
        """Destroy every root key but the current one."""
        current = await self._run(lambda session: self._current(session)[0])
        if left := set(await in_use()) - {current}:
            raise RootInUseError(left)

        def attempt(session: pkcs11.Session) -> None:
            for name, root in self._roots(session).items():
                # What another rotation made meanwhile is greater.
                if name < current:
                    root.destroy()

        await self._run(attempt)

    async def check(self) -> None:
        """Return if the token serves and has a root key."""
        await self._run(self._current)

    async def close(self) -> None:
        """Log out; a token that hangs is not waited for."""
        calls, self._calls = self._calls, CallThread()
        await calls.end(self._token.close)

    @property
    def _prefix(self) -> str:
        return f"token-{self.label}-"

    async def _run(self, attempt: Callable[[pkcs11.Session], _T]) -> _T:
        return await self._calls.run(partial(self._token.run, attempt))

    def _current(self, session: pkcs11.Session) -> tuple[str, Any]:
        roots = self._roots(session)
        if not roots:
            raise KmsUnusableError(f"token {self.place.token} has no AES key {self.label}: rotate makes one")
        name = max(roots)
        return name, roots[name]

    def _roots(self, session: pkcs11.Session) -> dict[str, Any]:
        """Return the root keys by name; what else lies in the token is none of ours."""
        template = {
            Attribute.CLASS: ObjectClass.SECRET_KEY,
            Attribute.KEY_TYPE: KeyType.AES,
            Attribute.LABEL: self.label,
        }
        found = {bytes(key[Attribute.ID]): key for key in session.get_objects(template)}
        return {self._prefix + id_.hex(): key for id_, key in found.items() if len(id_) == ID_BYTES}


def _gcm(nonce: bytes, associated: bytes) -> dict[str, Any]:
    return {"mechanism": Mechanism.AES_GCM, "mechanism_param": GCMParams(nonce, associated)}


def _require_serves(root: Any) -> None:
    """Raise PKCS11Error if the token does not decrypt what it has just encrypted."""
    how = _gcm(secrets.token_bytes(NONCE_BYTES), b"")
    root.decrypt(root.encrypt(PROBE, **how), **how)
