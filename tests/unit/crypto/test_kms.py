"""The KMS in a file: wraps, re-wraps, and keeps its root keys to itself."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from salus.crypto.errors import (
    KmsAwayError,
    KmsError,
    KmsExistsError,
    KmsUnusableError,
    RootInUseError,
    UnwrapError,
)
from salus.crypto.file_kms import FileKms
from salus.crypto.file_lock import changing, changing_now
from salus.crypto.kms import root_name

KEY = bytes(range(32))


def names_in(wrapped: list[bytes]) -> Callable[[], Awaitable[Collection[str]]]:
    """Return what lists the root keys of so many wrapped keys."""

    async def in_use() -> list[str]:
        return [root_name(each) for each in wrapped]

    return in_use


@pytest.fixture(params=[None, "correct horse"], ids=["plain", "passphrase"])
def passphrase(request: pytest.FixtureRequest) -> str | None:
    chosen: str | None = request.param
    return chosen


async def test_a_wrapped_key_unwraps_after_a_restart(tmp_path: Path, passphrase: str | None) -> None:
    wrapped = await (await FileKms.create(tmp_path / "kms", passphrase)).wrap(KEY, context="patient 1")
    again = await FileKms.open(tmp_path / "kms", passphrase)

    assert await again.unwrap(wrapped, context="patient 1") == KEY
    assert KEY not in wrapped


async def test_a_wrapped_key_does_not_unwrap_for_another_use(tmp_path: Path) -> None:
    kms = await FileKms.create(tmp_path / "kms")
    wrapped = await kms.wrap(KEY, context="patient 1")

    with pytest.raises(UnwrapError):
        await kms.unwrap(wrapped, context="patient 2")


async def test_no_altered_byte_unwraps(tmp_path: Path) -> None:
    kms = await FileKms.create(tmp_path / "kms")
    wrapped = await kms.wrap(KEY, context="c")
    for at in range(len(wrapped)):
        altered = bytes([*wrapped[:at], wrapped[at] ^ 1, *wrapped[at + 1 :]])

        with pytest.raises(UnwrapError):
            await kms.unwrap(altered, context="c")


async def test_rotation_rewraps_and_the_old_root_key_can_go(tmp_path: Path, passphrase: str | None) -> None:
    kms = await FileKms.create(tmp_path / "kms", passphrase)
    old = await kms.wrap(KEY, context="c")
    await kms.rotate()
    new = await kms.rewrap(old, context="c")

    assert await kms.unwrap(old, context="c") == await kms.unwrap(new, context="c") == KEY
    assert await kms.rewrap(new, context="c") == new
    await kms.retire(names_in([new]))
    assert await kms.unwrap(new, context="c") == KEY
    with pytest.raises(UnwrapError, match="no root key"):
        await kms.unwrap(old, context="c")


async def test_a_rotation_by_another_process_is_noticed(tmp_path: Path) -> None:
    here = await FileKms.create(tmp_path / "kms")
    there = await FileKms.open(tmp_path / "kms")
    await there.rotate()

    assert await here.unwrap(await there.wrap(KEY, context="c"), context="c") == KEY


# case F10
async def test_no_root_key_goes_while_a_key_bears_its_name(tmp_path: Path) -> None:
    here = await FileKms.create(tmp_path / "kms")
    wrapped = await here.wrap(KEY, context="c")
    there = await FileKms.open(tmp_path / "kms")
    await there.rotate()

    with pytest.raises(RootInUseError, match="no root key was retired"):
        await here.retire(names_in([wrapped]))
    assert await (await FileKms.open(tmp_path / "kms")).unwrap(wrapped, context="c") == KEY


# case F10
async def test_no_root_key_goes_that_another_process_made_meanwhile(tmp_path: Path) -> None:
    here = await FileKms.create(tmp_path / "kms")
    there = await FileKms.open(tmp_path / "kms")
    await there.rotate()
    wrapped = await there.wrap(KEY, context="c")

    await here.retire(names_in([wrapped]))

    assert await (await FileKms.open(tmp_path / "kms")).unwrap(wrapped, context="c") == KEY


# case F10
async def test_what_is_wrapped_is_wrapped_under_the_root_key_that_the_file_has_now(tmp_path: Path) -> None:
    here = await FileKms.create(tmp_path / "kms")
    there = await FileKms.open(tmp_path / "kms")
    before = await here.wrap(KEY, context="c")
    await there.rotate()
    await there.retire(names_in([]))

    wrapped = await here.wrap(KEY, context="c")

    assert await (await FileKms.open(tmp_path / "kms")).unwrap(wrapped, context="c") == KEY
    assert await here.is_current(wrapped)
    assert not await here.is_current(before)


# case F10
async def test_rotations_at_the_same_moment_lose_no_root_key(tmp_path: Path) -> None:
    await FileKms.create(tmp_path / "kms")

    async def rotate() -> bytes:
        kms = await FileKms.open(tmp_path / "kms")
        await kms.rotate()
        return await kms.wrap(KEY, context="c")

    wrapped = await asyncio.gather(*(rotate() for _ in range(10)))

    kms = await FileKms.open(tmp_path / "kms")
    assert [await kms.unwrap(each, context="c") for each in wrapped] == [KEY] * 10


# case F10
async def test_who_finds_the_file_locked_changes_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kms = await FileKms.create(tmp_path / "kms")
    before = (tmp_path / "kms").read_bytes()
    monkeypatch.setattr("salus.crypto.file_kms.changing", partial(changing, wait_s=0))

    with changing_now(tmp_path / "kms"), pytest.raises(KmsError, match="another process has been changing"):
        await kms.rotate()
    assert (tmp_path / "kms").read_bytes() == before
    await kms.rotate()


async def test_a_kms_file_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kms = await FileKms.create(tmp_path / "kms")

    def refused(path: Path) -> NoReturn:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr("salus.crypto.file_kms.changing", refused)

    with pytest.raises(KmsError, match="cannot be changed: Read-only file system"):
        await kms.rotate()


async def test_a_kms_is_never_made_over_another(tmp_path: Path) -> None:
    await FileKms.create(tmp_path / "kms")

    with pytest.raises(KmsExistsError, match="exists"):
        await FileKms.create(tmp_path / "kms")


async def test_a_wrong_passphrase_opens_nothing(tmp_path: Path) -> None:
    await FileKms.create(tmp_path / "kms", "right")

    with pytest.raises(KmsUnusableError, match="passphrase"):
        await FileKms.open(tmp_path / "kms", "wrong")
    with pytest.raises(KmsUnusableError, match="passphrase"):
        await FileKms.open(tmp_path / "kms")


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{}",
        b'{"format":"other"}',
        b"\xff",
        b'{"format":"salus.health/kms-file/v1","roots":{"current":"a","keys":{}}}',
        b'{"format":"salus.health/kms-file/v1","roots":{"current":"a","keys":{"a":"AA=="}}}',
    ],
)
async def test_what_is_not_a_kms_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "kms"
    if content is not None:
        path.write_bytes(content)
        path.chmod(0o600)

    with pytest.raises(KmsAwayError if content is None else KmsUnusableError, match="kms"):
        await FileKms.open(path)


async def test_a_passphrase_hides_the_root_keys_in_the_file(tmp_path: Path) -> None:
    kms = await FileKms.create(tmp_path / "kms", "right")

    assert b"roots" not in (tmp_path / "kms").read_bytes()
    assert "root-" not in repr(kms)
