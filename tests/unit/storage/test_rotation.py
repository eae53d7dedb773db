"""Root keys change over, twice at once and through crashes; every patient's key stays readable (case F10)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.unit.storage import killed_rotation

from salus.crypto.errors import KmsError
from salus.crypto.file_kms import FileKms
from salus.crypto.key_cache import KeyCache
from salus.objects.memory import MemoryObjects
from salus.storage import rotate as command
from salus.storage.adapters.metered_kms import MeteredKms
from salus.storage.adapters.vault import REWRAPPED_AT_ONCE, BucketVault
from salus.storage.settings import Settings

PATIENTS = [f"urn:uuid:00000000-0000-4000-8000-{n:012d}" for n in range(20)]
PRIVATE = b"k" * 32
LINES_MIN = 100


async def keep_all(vault: BucketVault) -> None:
    for patient in PATIENTS:
        await vault.keep(patient=patient, key=f"{patient}#aa", private_key=PRIVATE)


async def all_read(store: MemoryObjects, path: Path) -> bool:
    vault = BucketVault(store, await FileKms.open(path))
    return all([await vault.fetch(patient=p, key=f"{p}#aa") == PRIVATE for p in PATIENTS])


@pytest.mark.parametrize("turn", range(5))
async def test_rotations_and_retirements_at_the_same_moment_lose_no_key(tmp_path: Path, turn: int) -> None:
    path, store = tmp_path / f"kms-{turn}", MemoryObjects()
    await keep_all(BucketVault(store, await FileKms.create(path)))

    async def rotate() -> None:
        kms = await FileKms.open(path)
        await kms.rotate()
        await BucketVault(store, kms).rewrap()

    async def retire() -> None:
        kms = await FileKms.open(path)
        vault = BucketVault(store, kms)
        await vault.rewrap()
        await kms.retire(vault.roots_in_use)

    ended = await asyncio.gather(rotate(), retire(), rotate(), retire(), return_exceptions=True)

    assert [error for error in ended if error and not isinstance(error, KmsError)] == []
    assert await all_read(store, path)
    await retire()
    assert await all_read(store, path)


class Between(MemoryObjects):
    """A store that lets something happen before an object is created."""

    async def create(self, key: str, data: bytes) -> str:
        await self.meanwhile()
        return await super().create(key, data)

    async def meanwhile(self) -> None:
        """Do nothing."""


async def test_a_key_that_is_stored_while_its_root_key_goes_is_wrapped_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Between()
    service = BucketVault(store, await FileKms.create(tmp_path / "kms"))
    other = await FileKms.open(tmp_path / "kms")

    async def rotate_and_retire() -> None:
        await other.rotate()
        vault = BucketVault(store, other)
        await vault.rewrap()
        await other.retire(vault.roots_in_use)

    monkeypatch.setattr(store, "meanwhile", rotate_and_retire)
    await keep_all(service)

    assert await all_read(store, tmp_path / "kms")


async def test_each_key_has_the_time_of_all_that_wait_for_a_token_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A token does one thing at a time: within the deadline of one use the last never had its turn."""
    opened = MeteredKms(await FileKms.create(tmp_path / "kms"), KeyCache(0, clock=lambda: 0.0), deadline_s=5)
    used: list[float] = []

    class Vault(BucketVault):
        async def rewrap(self, **_: Any) -> int:
            assert isinstance(self.kms, MeteredKms)
            used.append(self.kms.deadline_s)
            return 0

    async def open_kms(*_: object) -> MeteredKms:
        return opened

    async def open_buckets(_: object) -> tuple[None, MemoryObjects]:
        return None, MemoryObjects()

    for name, fake in {"open_kms": open_kms, "open_buckets": open_buckets, "BucketVault": Vault}.items():
        monkeypatch.setattr(command, name, fake)
    settings = Settings.model_construct(kms_deadline_s=5)
    await command.rotate(settings, step="rewrap")

    assert used == [5 * REWRAPPED_AT_ONCE]


def test_a_rotation_that_is_killed_at_any_line_leaves_every_key_readable(tmp_path: Path) -> None:
    program = [sys.executable, str(killed_rotation.__file__), str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)  # ours

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > LINES_MIN


def test_a_rotation_that_cannot_be_made_ends_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    async def held(*_: object, **__: object) -> NoReturn:
        raise KmsError("another process has been changing kms for 60 s; try again later")

    monkeypatch.setattr(command, "rotate", held)
    monkeypatch.setattr(command, "Settings", object)
    monkeypatch.setattr(command, "set_up", lambda _: None)
    monkeypatch.setattr("sys.argv", ["rotate"])

    with pytest.raises(SystemExit, match="KmsError: another process has been changing kms"):
        command.main()
