"""The KMS in a file: wraps, re-wraps, and keeps its root keys to itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from salus.crypto.errors import KmsAwayError, KmsError, KmsExistsError, KmsFileError, UnwrapError
from salus.crypto.kms import FileKms

KEY = bytes(range(32))


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
    await kms.retire()
    assert await kms.unwrap(new, context="c") == KEY
    with pytest.raises(UnwrapError, match="no root key"):
        await kms.unwrap(old, context="c")


async def test_a_rotation_by_another_process_is_noticed(tmp_path: Path) -> None:
    here = await FileKms.create(tmp_path / "kms")
    there = await FileKms.open(tmp_path / "kms")
    await there.rotate()

    assert await here.unwrap(await there.wrap(KEY, context="c"), context="c") == KEY


async def test_nothing_is_retired_that_another_process_has_replaced(tmp_path: Path) -> None:
    here = await FileKms.create(tmp_path / "kms")
    there = await FileKms.open(tmp_path / "kms")
    await there.rotate()
    wrapped = await there.wrap(KEY, context="c")

    with pytest.raises(KmsError, match="rotated"):
        await here.retire()
    assert await (await FileKms.open(tmp_path / "kms")).unwrap(wrapped, context="c") == KEY


async def test_a_kms_is_never_made_over_another(tmp_path: Path) -> None:
    await FileKms.create(tmp_path / "kms")

    with pytest.raises(KmsExistsError, match="exists"):
        await FileKms.create(tmp_path / "kms")


async def test_a_wrong_passphrase_opens_nothing(tmp_path: Path) -> None:
    await FileKms.create(tmp_path / "kms", "right")

    with pytest.raises(KmsFileError, match="passphrase"):
        await FileKms.open(tmp_path / "kms", "wrong")
    with pytest.raises(KmsFileError, match="passphrase"):
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

    with pytest.raises(KmsAwayError if content is None else KmsFileError, match="kms"):
        await FileKms.open(path)


async def test_a_passphrase_hides_the_root_keys_in_the_file(tmp_path: Path) -> None:
    kms = await FileKms.create(tmp_path / "kms", "right")

    assert b"roots" not in (tmp_path / "kms").read_bytes()
    assert "root-" not in repr(kms)
