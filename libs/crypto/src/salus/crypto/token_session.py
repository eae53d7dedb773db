"""A session with a PKCS#11 token: opened when it is needed, and once more if the token does not serve.

A session does one thing at a time, and so does a module: the library initialises it without a word about
threads, and two of them in it at once can end the process. A call that hangs keeps the module, and whoever
comes after is refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from salus.crypto.call_thread import CALL_S_MAX
from salus.crypto.errors import CryptoError, KmsAwayError, KmsUnusableError
from salus.crypto.key_uri import TokenPlace

try:
    import pkcs11
except ImportError:  # pragma: no cover  # the extra is installed where this is tested
    HAS_LIBRARY = False
else:
    HAS_LIBRARY = True
    _PIN_FAULTS = (
        pkcs11.PinExpired,
        pkcs11.PinIncorrect,
        pkcs11.PinInvalid,
        pkcs11.PinLenRange,
        pkcs11.PinLocked,
        pkcs11.UserPinNotInitialized,
    )

_T = TypeVar("_T")


class _Module:
    """Who is in a module: one thread at a time, whichever sessions it has."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: float | None = None
        # By token: the PIN that it refused. A token is locked after a few wrong ones, for everybody.
        self.refused_pins: dict[str, str] = {}

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Be alone in it; raises KmsAwayError at once while somebody's turn does not end."""
        begun = self._begun
        wait_s = CALL_S_MAX if begun is None else max(0.0, begun + CALL_S_MAX - time.monotonic())
        if not self._lock.acquire(timeout=wait_s):
            raise KmsAwayError("another call into the module of the token has not ended")
        self._begun = time.monotonic()
        try:
            yield
        finally:
            self._begun = None
            self._lock.release()


_MODULES: dict[str, _Module] = {}


@dataclass
class TokenSession:
    """The session of one place; `forget` is called when it ends, for what it found is of no use then."""

    place: TokenPlace
    forget: Callable[[], None]
    # A token in which keys are made or destroyed is opened for writing.
    writable: bool = False
    _module: _Module = field(init=False, repr=False)
    _session: pkcs11.Session | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not HAS_LIBRARY:
            raise KmsAwayError("pkcs11: URIs need the library: install salus-crypto[pkcs11]")
        self._module = _MODULES.setdefault(self.place.module, _Module())

    def run(self, attempt: Callable[[pkcs11.Session], _T]) -> _T:
        """Attempt it, and once more in a new session if the token does not serve.

        Raises:
            KmsAwayError: it does not serve, or a call before this one does not end.
            KmsUnusableError: it does not take the PIN, which is tried again once it changes at its source.
        """
        with self._module.turn():
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
        """Log out and end the session; the next call opens another. A token that hangs is left as it is."""
        with suppress(KmsAwayError), self._module.turn():
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
        pin, refused = self._pin(), self._module.refused_pins
        which = f"{self.place.token} {wanted.get('serial', '')}"
        sentence = f"token {self.place.token} does not take the PIN of {self.place.pin.source}"
        if refused.get(which) == pin:
            raise KmsUnusableError(f"{sentence}: it is tried again once it changes there, or after a restart")
        try:
            return token.open(rw=self.writable, user_pin=pin)
        except pkcs11.UserAlreadyLoggedIn:
            # A login is the whole process's: another place in this token was first.
            return token.open(rw=self.writable)
        except _PIN_FAULTS as error:
            refused[which] = pin
            raise KmsUnusableError(f"{sentence}: {type(error).__name__}") from error

    def _pin(self) -> str:
        try:
            return self.place.pin.read()
        except CryptoError as error:
            raise KmsUnusableError(f"{error}") from error

    def _end(self) -> None:
        self.forget()
        session, self._session = self._session, None
        if session is not None:
            with suppress(pkcs11.PKCS11Error):
                session.close()
