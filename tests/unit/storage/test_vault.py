"""What else lies among the patients' keys disturbs no erasure, no start and no rotation (case S4)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from salus.crypto.errors import UnwrapError
from salus.crypto.file_kms import FileKms
from salus.objects import Entry, RefusedError, StoreAwayError
from salus.objects.memory import MemoryObjects
from salus.storage.adapters.vault import WRAPPED_BYTES_MAX, BucketVault, holds_keys

HER, HIM = "urn:uuid:2f9c4b62-59a7-4b21-8ee0-1d2f3a4b5c6d", "urn:uuid:00000000-0000-4000-8000-000000000001"
STRAYS = (
    f"subjects/{HER}/note\n.txt",
    f"subjects/{HER}/README",
    f"subjects/{HER}//1",
    f"subjects/{HER}/1/",
    f"subjects/{HER}/a/b",
    "subjects/note\n.txt",
    "subjects/README",
    "subjects/a/b/c",
    "subjects/../1",
)


@pytest.fixture
def store() -> MemoryObjects:
    objects = MemoryObjects()
    for key in STRAYS:
        objects.plant(key, b"none of ours")
    return objects


@pytest.fixture
async def vault(store: MemoryObjects, tmp_path: Path) -> BucketVault:
    kms = await FileKms.create(tmp_path / "kms")
    return BucketVault(store, kms)


async def keep(vault: BucketVault, patient: str, number: str) -> None:
    await vault.keep(patient=patient, key=f"{patient}#{number}", private_key=bytes(32))


async def test_every_key_of_a_patient_is_destroyed_whatever_else_lies_there(
    store: MemoryObjects, vault: BucketVault, capsys: pytest.CaptureFixture[str]
) -> None:
    await keep(vault, HER, "0123456789abcdef")
    await keep(vault, HER, "fedcba9876543210")
    await keep(vault, HIM, "1")

    await vault.destroy(HER, key=f"{HER}#0123456789abcdef")

    assert set(store.objects) == {*STRAYS, f"subjects/{HIM}/1"}
    told = capsys.readouterr().out
    assert "what is no key" in told
    assert "\n.txt" not in told


async def test_what_is_no_key_does_not_count_as_one_at_the_start(
    store: MemoryObjects, vault: BucketVault
) -> None:
    assert not await holds_keys(store)

    await keep(vault, HIM, "1")
    assert await holds_keys(store)


async def test_rotation_passes_what_is_no_key(vault: BucketVault) -> None:
    kms = vault.kms
    assert isinstance(kms, FileKms)
    await keep(vault, HER, "1")
    await keep(vault, HIM, "2")
    await kms.rotate()

    assert await vault.rewrap() == 2
    assert await vault.rewrap() == 0


async def test_a_key_that_does_not_unwrap_is_named_and_the_others_are_wrapped_anew(
    store: MemoryObjects, vault: BucketVault
) -> None:
    kms = vault.kms
    assert isinstance(kms, FileKms)
    await keep(vault, HER, "1")
    await keep(vault, HIM, "2")
    store.plant(f"subjects/{HIM}/1", b"not wrapped")
    await kms.rotate()

    with pytest.raises(UnwrapError, match=f"1 keys, the first at subjects/{HIM}/1; 2 were wrapped anew"):
        await vault.rewrap()


async def test_a_key_under_lock_holds_up_no_other(store: MemoryObjects, vault: BucketVault) -> None:
    await keep(vault, HER, "1")
    await keep(vault, HER, "2")
    destroy = store.destroy

    async def locked(key: str) -> None:
        if key.endswith("/1"):
            raise RefusedError(key, "under lock")
        await destroy(key)

    store.destroy = locked  # type: ignore[method-assign]  # a store with a lock

    with pytest.raises(RefusedError):
        await vault.destroy(HER, key=f"{HER}#1")
    assert f"subjects/{HER}/2" not in store.objects


async def test_a_key_that_a_list_leaves_out_is_destroyed_by_its_name(
    store: MemoryObjects, vault: BucketVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    # redB6 10d: a list that is stale or cut.
    await keep(vault, HER, "1")

    async def nothing(*_: object, **__: object) -> AsyncIterator[Entry]:
        none: list[Entry] = []
        for entry in none:
            yield entry

    monkeypatch.setattr(store, "list", nothing)
    await vault.destroy(HER, key=f"{HER}#1")

    assert f"subjects/{HER}/1" not in store.objects


async def test_a_key_that_is_there_after_it_was_destroyed_is_not_said_to_be_gone(
    store: MemoryObjects, vault: BucketVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    # redB6 10d: of a list of versions that is cut, nothing is removed.
    await keep(vault, HER, "1")
    await keep(vault, HER, "2")

    async def cut(key: str) -> None:
        if not key.endswith("/1"):
            store.objects.pop(key)

    monkeypatch.setattr(store, "destroy", cut)
    with pytest.raises(StoreAwayError, match="there after it was destroyed"):
        await vault.destroy(HER, key=f"{HER}#2")

    assert f"subjects/{HER}/2" not in store.objects


async def test_a_key_that_is_larger_than_any_does_not_unwrap(
    store: MemoryObjects, vault: BucketVault
) -> None:
    # case F8
    await keep(vault, HER, "1")
    store.plant(f"subjects/{HER}/1", bytes(WRAPPED_BYTES_MAX + 1))

    with pytest.raises(UnwrapError, match="at most"):
        await vault.fetch(patient=HER, key=f"{HER}#1")
    with pytest.raises(UnwrapError, match="the first at"):
        await vault.rewrap()


async def test_wrapping_anew_tells_how_far_it_is_and_goes_on_from_there(vault: BucketVault) -> None:
    kms = vault.kms
    assert isinstance(kms, FileKms)
    for number in range(40):
        await keep(vault, HER, f"{number:02x}")
    await kms.rotate()
    told: list[tuple[int, int, str]] = []

    def tell(keys: int, changed: int, last: str) -> None:
        told.append((keys, changed, last))

    half = f"subjects/{HER}/{19:02x}"
    assert await vault.rewrap(after=half, tell=tell) == 20
    assert told == [(16, 16, f"subjects/{HER}/{35:02x}"), (4, 20, f"subjects/{HER}/{39:02x}")]
    assert await vault.rewrap() == 20
