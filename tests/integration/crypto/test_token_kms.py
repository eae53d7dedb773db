"""Root keys in a PKCS#11 token: SoftHSM, which Debian ships (issue 15, section 2)."""

from __future__ import annotations

import asyncio

import pytest
from tests.integration.crypto.conftest import Token
from tests.kms_promises import KEY, require_binding, require_rotation

from salus.crypto.errors import KeyUriError, KmsAwayError, KmsUnusableError
from salus.crypto.key_uri import token_place
from salus.crypto.token_kms import TokenKms


def kms_of(token: Token, label: str | None) -> TokenKms:
    return TokenKms(token_place(token.uri(label).removeprefix("pkcs11:")))


async def test_a_token_keeps_what_every_kms_promises(softhsm: Token) -> None:
    kms = kms_of(softhsm, "promises")
    with pytest.raises(KmsUnusableError, match="has no AES key promises: rotate makes one"):
        await kms.check()
    await kms.rotate()

    await require_binding(kms)
    await require_rotation(kms)


async def test_rotations_at_once_leave_one_current_root_key_that_all_see(softhsm: Token) -> None:
    first, second = kms_of(softhsm, "races"), kms_of(softhsm, "races")
    await first.rotate()
    wrapped = await first.wrap(KEY, context="c")
    names = await asyncio.gather(first.rotate(), second.rotate())

    by_first, by_second = await first.wrap(KEY, context="c"), await second.wrap(KEY, context="c")
    assert await first.is_current(by_second)
    assert await second.is_current(by_first)
    assert max(names).encode() in by_first
    for each in (wrapped, by_first, by_second):
        assert await second.unwrap(each, context="c") == KEY


async def test_a_token_that_is_not_there_is_away_and_a_uri_without_a_label_is_none(softhsm: Token) -> None:
    other = token_place(softhsm.uri("x").replace(softhsm.label, "other").removeprefix("pkcs11:"))
    with pytest.raises(KmsAwayError, match="no token other"):
        await TokenKms(other).wrap(KEY, context="c")
    with pytest.raises(KeyUriError, match="needs object"):
        kms_of(softhsm, None)
