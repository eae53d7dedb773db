"""A session with a PKCS#11 token: opened when it is needed, and once more if the token does not serve.

A session does one thing at a time, and so does a module: the library initialises it without a word about
threads, and two of them in it at once can end the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from salus.crypto.errors import KmsAwayError
from salus.crypto.key_uri import TokenPlace

try:
    import pkcs11
except ImportError:  # pragma: no cover  # the extra is installed where this is tested
    HAS_LIBRARY = False
else:
    HAS_LIBRARY = True

_T = TypeVar("_T")
# One for each module, whichever sessions it has.
_LOCKS: dict[str, threading.Lock] = {}


@dataclass
class TokenSession:
    """The session of one place; `forget` is called when it ends, for what it found is of no use then."""

    place: TokenPlace
    forget: Callable[[], None]
    # A token in which keys are made or destroyed is opened for writing.
    writable: bool = False
    _lock: threading.Lock = field(init=False, repr=False)
    _session: pkcs11.Session | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not HAS_LIBRARY:
            raise KmsAwayError("pkcs11: URIs need the library: install salus-crypto[pkcs11]")
        self._lock = _LOCKS.setdefault(self.place.module, threading.Lock())

    def run(self, attempt: Callable[[pkcs11.Session], _T]) -> _T:
        """Attempt it, and once more in a new session if the token does not serve; raises KmsAwayError."""
        with self._lock:
            try:
                return attempt(self._opened())
            except pkcs11.PKCS11Error:
                self._end()
            try:
                return attempt(self._opened())
            except pkcs11.PKCS11Error as error:
                self._end()
                name = type(error).__name__
                sentence = f"token {self.place.token} does not serve: {name} {error}"
                raise KmsAwayError(sentence.strip()) from error

    def close(self) -> None:
        """Log out and end the session; the next call opens another."""
        with self._lock:
            self._end()

    def _opened(self) -> pkcs11.Session:
        if self._session is None:
            self._session = self._open()
        return self._session

    def _open(self) -> pkcs11.Session:
        wanted = self.place.wanted
        try:
            token = pkcs11.lib(self.place.module).get_token(
                token_label=self.place.token,
                token_serial=wanted["serial"].encode() if "serial" in wanted else None,
            )
        except (RuntimeError, OSError) as error:
            sentence = f"{self.place.module} has no token {self.place.token}: {type(error).__name__} {error}"
            raise KmsAwayError(sentence.strip()) from error
        try:
            return token.open(rw=self.writable, user_pin=self.place.pin.read())
        except pkcs11.UserAlreadyLoggedIn:
            # A login is the whole process's: another place in this token was first.
            return token.open(rw=self.writable)

    def _end(self) -> None:
        self.forget()
        session, self._session = self._session, None
        if session is not None:
            with suppress(pkcs11.PKCS11Error):
                session.close()
