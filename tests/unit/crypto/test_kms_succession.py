"""A KMS takes over from another: nothing stops opening, and what is wrapped anew needs the new one alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.kms_promises import KEY, require_binding, require_rotation

from salus.crypto.errors import KmsAwayError, UnwrapError
from salus.crypto.file_kms import FileKms
from salus.crypto.kms_succession import KmsSuccession


async def test_a_file_keeps_what_every_kms_promises(tmp_path: Path) -> None:
    kms = await FileKms.create(tmp_path / "kms")

    await require_binding(kms)
    await require_rotation(kms)


async def test_a_succession_keeps_what_every_kms_promises(tmp_path: Path) -> None:
    old, new = await FileKms.create(tmp_path / "old"), await FileKms.create(tmp_path / "new")
    kms = KmsSuccession(new, old)

    await require_binding(kms)
    await require_rotation(kms)
    await kms.close()


async def test_both_are_closed_though_one_does_not_close(tmp_path: Path) -> None:
    closed: list[str] = []

    class Closing(FileKms):
        async def close(self) -> None:
            closed.append(self.path.name)
            await super().close()
            raise KmsAwayError("it does not close")

    old, new = [await Closing.create(tmp_path / name) for name in ("old", "new")]
    with pytest.raises(KmsAwayError):
        await KmsSuccession(new, old).close()

    assert closed == ["new", "old"]


async def test_what_the_previous_kms_wrapped_opens_until_it_goes(tmp_path: Path) -> None:
    old, new = await FileKms.create(tmp_path / "old"), await FileKms.create(tmp_path / "new")
    kms = KmsSuccession(new, old)
    wrapped = await old.wrap(KEY, context="c")

    assert await kms.unwrap(wrapped, context="c") == KEY
    assert not await kms.is_current(wrapped)
    anew = await kms.rewrap(wrapped, context="c")
    assert await new.unwrap(anew, context="c") == KEY
    with pytest.raises(UnwrapError):
        await old.unwrap(anew, context="c")
    with pytest.raises(UnwrapError):
        await kms.unwrap(wrapped, context="d")
