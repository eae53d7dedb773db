"""What every KMS promises, asked of the real ones: `salus.crypto.kms.Kms`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection

import pytest

from salus.crypto.errors import RootInUseError, UnwrapError
from salus.crypto.kms import Kms, root_name, wrapped_form

KEY = bytes(range(32))


def names_in(*wrapped: bytes) -> Callable[[], Awaitable[Collection[str]]]:
    """Return what lists the root keys of so many wrapped keys."""

    async def in_use() -> list[str]:
        return [root_name(each) for each in wrapped]

    return in_use


async def require_binding(kms: Kms) -> None:
    """A wrapped key opens in its own context, and not when a byte of it differs."""
    wrapped = await kms.wrap(KEY, context="patient 1")

    assert await kms.unwrap(wrapped, context="patient 1") == KEY
    assert KEY not in wrapped
    with pytest.raises(UnwrapError):
        await kms.unwrap(wrapped, context="patient 2")
    body = wrapped.index(b"\n") + 1
    for at in (3, body - 2, body, body + 10, len(wrapped) - 3):
        altered = bytes([*wrapped[:at], wrapped[at] ^ 1, *wrapped[at + 1 :]])
        with pytest.raises(UnwrapError):
            await kms.unwrap(altered, context="patient 1")
    with pytest.raises(UnwrapError):
        await kms.unwrap(wrapped_form("root-of-another", b"x" * 60), context="patient 1")


async def require_rotation(kms: Kms) -> None:
    """Old root keys open until they are retired, which they are not while a key bears their name."""
    old = await kms.wrap(KEY, context="c")
    assert await kms.is_current(old)
    name = await kms.rotate()
    assert not await kms.is_current(old)
    new = await kms.rewrap(old, context="c")

    assert root_name(new) == name != root_name(old)
    assert await kms.unwrap(old, context="c") == await kms.unwrap(new, context="c") == KEY
    assert await kms.rewrap(new, context="c") == new
    with pytest.raises(RootInUseError):
        await kms.retire(names_in(old, new))
    assert await kms.unwrap(old, context="c") == KEY
    await kms.retire(names_in(new))
    assert await kms.unwrap(new, context="c") == KEY
    with pytest.raises(UnwrapError):
        await kms.unwrap(old, context="c")
    await kms.check()
