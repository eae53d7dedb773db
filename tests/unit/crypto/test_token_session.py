"""A token that does not take the PIN, or hangs; the real one is in tests/integration."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pkcs11
import pytest

from salus.crypto import token_session
from salus.crypto.errors import KmsAwayError, KmsUnusableError
from salus.crypto.key_uri import TokenPlace, token_place
from salus.crypto.token_session import TokenSession

RIGHT, WRONG = "1234", "9999"


@dataclass
class Library:
    """A module with one token; it counts the logins."""

    fault: type[Exception] = pkcs11.PinIncorrect
    logins: list[str | None] = field(default_factory=list)

    def get_token(self, **_: Any) -> Library:
        return self

    def open(self, *, rw: bool = False, user_pin: str | None = None) -> Any:
        del rw
        self.logins.append(user_pin)
        if user_pin != RIGHT:
            raise self.fault
        return SimpleNamespace(close=lambda: None)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    made = Library()
    monkeypatch.setattr(pkcs11, "lib", lambda _: made)
    monkeypatch.setattr(token_session, "_MODULES", {})
    monkeypatch.setenv("PIN", WRONG)
    return made


def place(token: str = "t") -> TokenPlace:
    return token_place(f"token={token}?module-path=/m&pin-source=env:PIN")


def session(token: str = "t") -> TokenSession:
    return TokenSession(place(token), forget=lambda: None)


@pytest.mark.parametrize("fault", token_session._PIN_FAULTS)
def test_a_pin_that_is_refused_is_not_tried_again_until_it_changes(
    library: Library, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    """A few wrong ones lock the token, for the signing keys in it as well."""
    library.fault = fault
    kms, signing_keys = session(), session()
    for each in (kms, kms, signing_keys):
        with pytest.raises(KmsUnusableError, match=r"does not take the PIN of env:PIN") as raised:
            each.run(lambda _: 1)
        assert WRONG not in str(raised.value)
    assert library.logins == [WRONG]

    monkeypatch.setenv("PIN", RIGHT)
    assert kms.run(lambda _: 1) == signing_keys.run(lambda _: 1) == 1


def test_a_pin_that_one_token_refused_may_be_that_of_another(library: Library) -> None:
    for token in ("t", "u"):
        with pytest.raises(KmsUnusableError):
            session(token).run(lambda _: 1)

    assert library.logins == [WRONG, WRONG]


@pytest.mark.usefixtures("library")
def test_a_pin_that_is_not_there_is_said_by_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIN")
    with pytest.raises(KmsUnusableError, match="no secret at env:PIN"):
        session().run(lambda _: 1)


@pytest.mark.usefixtures("library")
def test_a_session_in_a_module_that_hangs_is_refused_and_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever signs does so in the event loop: it must not wait for a key service that hangs."""
    monkeypatch.setenv("PIN", RIGHT)
    monkeypatch.setattr(token_session, "CALL_S_MAX", 0.01)
    begun, may_end = threading.Event(), threading.Event()

    def hang(_: Any) -> bool:
        begun.set()
        return may_end.wait(120)

    thread = threading.Thread(target=lambda: session().run(hang))
    thread.start()
    try:
        assert begun.wait(60)
        signing_keys = session()
        with pytest.raises(KmsAwayError, match="has not ended"):
            signing_keys.run(lambda _: 1)
        signing_keys.close()
    finally:
        may_end.set()
        thread.join(60)
    monkeypatch.setattr(token_session, "CALL_S_MAX", 60.0)
    assert signing_keys.run(lambda _: 1) == 1
