"""Ending an overlap: what the old key signed stays valid, and an interrupted change is gone on with."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Self, cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from salus.archive.blocks import BlockArchive
from salus.archive.log import CHECKPOINT_KEY, LogReader
from salus.cli import key_rotation
from salus.cli.exits import CommandError
from salus.cli.key_rotation import Reason, _Turn
from salus.cli.sharding import Standing
from salus.cli.signed_positions import SignedPositions
from salus.client import DeliveryError, Publisher
from salus.crypto.keys import load_all_ed25519
from salus.devkit.key_files import KeyEntry, Owner
from salus.devkit.narration import SilentNarrator
from salus.devkit.network import NetworkFolder, Plan
from salus.devkit.platform import Platform
from salus.events.contexts.network import KeyRetired, KeyRotated
from salus.events.did import LocalSigner
from salus.events.event_types import EventData
from salus.ledger.base import base64_of
from salus.ledger.block import Header, Range, header_key, open_header
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.key_periods import KeyHistory, KeyPeriod
from salus.ledger.merkle import EMPTY_ROOT
from salus.ledger.note import NoteSigner, sign_note
from salus.objects.memory import MemoryObjects

SHARD, LOG = Owner("sequencer"), Owner("log")
TIME = datetime(2026, 11, 22, tzinfo=UTC)


class Kept(Publisher):
    """Keeps what is published, by its id; or the network is away."""

    events: dict[str, list[EventData]]
    away = False

    async def publish(self, data: EventData, *, id: str, **_: object) -> object:  # type: ignore[override]  # noqa: A002
        if Kept.away:
            raise DeliveryError([])
        Kept.events.setdefault(id, []).append(data)
        return SimpleNamespace(position=self.flush)

    async def flush(self) -> None: ...

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None: ...


class Change:
    """A change of keys over stores in memory."""

    def __init__(self, folder: NetworkFolder, owner: Owner) -> None:
        self.folder, self.owner = folder, owner
        self.ledger, self.log = MemoryObjects(), MemoryObjects()

    def turn(self) -> _Turn:
        """Return a new call of the command."""
        platform = cast("Platform", SimpleNamespace(network=self.folder, kafka_bootstrap=""))
        operator = LocalSigner(Ed25519PrivateKey.generate())
        turn = _Turn(platform, self.owner, operator, SilentNarrator())
        turn._positions = SignedPositions(self.folder, BlockArchive(self.ledger), LogReader(self.log))
        return turn

    def signers(self) -> list[NoteSigner]:
        """Return who holds the keys in the key file, the oldest first."""
        [entry, *_] = self.turn().files.of(self.owner)
        return [
            NoteSigner(entry.name, key)
            for key in load_all_ed25519(self.folder.key_file(self.owner.file_name))
        ]

    async def seal(self, height: int, *signers: NoteSigner) -> None:
        """Put a header with these signatures."""
        name = signers[0].name
        ranges = (Range("t", 0, 0, 0),)
        header = Header(name, height, 0, EMPTY_ROOT, bytes(32), TIME, 0, 0, bytes(32), ("i", 0, 0), ranges)
        await self.ledger.put(header_key(0, height), sign_note(header.text(), signers))


@pytest.fixture
def change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Change:
    folder = NetworkFolder(tmp_path)
    folder.create(Plan(witnesses=1))
    Kept.events, Kept.away = {}, False
    monkeypatch.setattr(key_rotation, "Publisher", Kept)
    monkeypatch.setattr(key_rotation, "whom_and_where", lambda _: (None, Stores()))
    monkeypatch.setattr(key_rotation, "TAKEN_OVER_S_MAX", 0.01)
    return Change(folder, SHARD)


class Stores:
    """Stores that are not opened."""

    def open(self) -> SimpleNamespace:
        return SimpleNamespace(ledger=None, log=None)


def recorded(kind: type[EventData]) -> list[EventData]:
    """Return the events that the ledger would take: one of each id."""
    return [events[0] for events in Kept.events.values() if isinstance(events[0], kind)]


def history(entries: list[KeyEntry], signers: list[NoteSigner]) -> KeyHistory:
    verifiers = {signer.vkey: signer.verifier for signer in signers}
    return KeyHistory(
        entries[0].name, tuple(KeyPeriod(verifiers[e.verifier_key], e.first, e.end) for e in entries)
    )


async def test_blocks_that_a_replica_sealed_with_the_old_key_alone_stay_valid(change: Change) -> None:
    [old] = change.signers()
    for height in range(3):
        await change.seal(height, old)
    turn = change.turn()
    await turn.begin()
    old, new = signers = change.signers()
    for height, by in {3: (old, new), 4: (old,), 5: (old,), 6: (old, new)}.items():
        await change.seal(height, *by)
    first, second = turn.signing()
    await turn.retire(first, end=await turn.taken_over(second), reason=Reason.ROTATED)

    keys = history(turn.files.of(SHARD), signers)
    assert [entry.end for entry in turn.files.of(SHARD)] == [7, None]
    for height in range(7):
        open_header(await change.ledger.get(header_key(0, height), bytes_max=1 << 30), keys)


async def test_an_old_key_that_seals_alone_now_is_not_retired(change: Change) -> None:
    [old] = change.signers()
    await change.seal(0, old)
    turn = change.turn()
    new_entry = await turn.begin()
    old, new = change.signers()
    await change.seal(1, old, new)
    await change.seal(2, old)
    with pytest.raises(CommandError, match="both keys count"):
        await turn.taken_over(new_entry)


async def test_the_log_changes_over_behind_the_newest_checkpoint(change: Change) -> None:
    for height in range(5):
        await change.seal(height, *change.signers())
    change.owner = LOG
    turn = change.turn()
    entry = await turn.begin()
    await change.log.put(
        CHECKPOINT_KEY, sign_checkpoint(Checkpoint(entry.name, 5, bytes(32)), change.signers())
    )

    assert await turn.taken_over(entry) == 6


async def test_a_change_that_was_not_recorded_is_recorded_by_the_next_call_and_counts_once(
    change: Change,
) -> None:
    Kept.away = True
    with pytest.raises(CommandError, match="not recorded"):
        await change.turn().begin()
    old, new = change.turn().signing()
    Kept.away = False
    for _ in range(2):
        assert await change.turn().record_again(Reason.ROTATED)
    assert recorded(KeyRotated) == [
        KeyRotated(name=new.name, role="sequencer", verifier_key=new.verifier_key, first=new.first)
    ]

    Kept.away = True
    with pytest.raises(CommandError, match="not recorded"):
        await change.turn().retire(old, end=4, reason=Reason.ROTATED)
    Kept.away = False
    for _ in range(2):
        assert await change.turn().record_again(Reason.ROTATED)
    assert recorded(KeyRetired) == [
        KeyRetired(name=old.name, role="sequencer", verifier_key=old.verifier_key, end=4, reason="rotated")
    ]
    assert change.turn().signing() == [new]


async def test_a_retired_key_that_is_still_here_is_forgotten_by_the_next_call(change: Change) -> None:
    await change.seal(0, *change.signers())
    await change.turn().begin()
    path = change.folder.key_file("shard-0")
    both = path.read_bytes()
    await change.turn().retire(change.turn().signing()[0], end=4, reason=Reason.ROTATED)
    path.write_bytes(both)
    await change.turn().record_again(Reason.ROTATED)

    assert [entry.held for entry in change.turn().files.of(SHARD)] == [False, True]


# case redB8 8
async def test_a_shard_whose_chain_ended_has_no_key_to_change(change: Change) -> None:
    [entry] = change.turn().files.of(SHARD)
    network = change.folder.read()
    network["shards"][0]["keys"] = [{"verifier_key": entry.verifier_key, "from": 0, "until": 3}]
    change.folder.file.write_text(json.dumps(network))

    with pytest.raises(CommandError, match=f"the chain of {entry.name} ended before block 3"):
        await change.turn().record_again(Reason.COMPROMISED)
    assert not Kept.events
    assert change.folder.read() == network


async def test_where_no_key_changed_nothing_is_recorded_again(change: Change) -> None:
    assert not await change.turn().record_again(Reason.ROTATED)
    assert Kept.events == {}


def bogus(name: str, key_id: str) -> bytes:
    """Return the line of a signature that nobody made."""
    return f"— {name} {base64_of(bytes.fromhex(key_id) + bytes(64))}\n".encode()


async def forge(change: Change, size: int, *signatures: bytes) -> None:
    """Put a checkpoint as who may write to the log's bucket can; no key is needed."""
    [entry, *_] = change.turn().files.of(LOG)
    text = Checkpoint(entry.name, size, bytes(32)).text() + "\n"
    await change.log.put(CHECKPOINT_KEY, text.encode() + b"".join(signatures))


# case F18
@pytest.mark.parametrize("owner", [LOG, Owner("witness", 1)])
@pytest.mark.parametrize("size", [1, 10**15])
async def test_no_key_begins_where_a_checkpoint_says_that_nobody_signed(
    change: Change, owner: Owner, size: int
) -> None:
    await change.seal(0, *change.signers())
    change.owner = owner
    [old] = change.turn().files.of(LOG)
    await forge(change, size, bogus(old.name, old.key_id))

    with pytest.raises(CommandError, match=r"not what was signed.*: invalid-signature"):
        await change.turn().begin()
    assert len(change.turn().files.of(owner)) == 1


# case F18
async def test_a_stolen_key_does_not_count_longer_by_a_checkpoint_with_a_signature_nobody_made(
    change: Change,
) -> None:
    change.owner = LOG
    turn = change.turn()
    old_signer = change.signers()[0]
    new = await turn.begin()
    text = Checkpoint(new.name, 10**15, bytes(32))
    by_thief = sign_checkpoint(text, [old_signer])
    await change.log.put(CHECKPOINT_KEY, by_thief + bogus(new.name, new.key_id))

    with pytest.raises(CommandError, match="both keys count"):
        await turn.taken_over(new)


# case F18
async def test_a_checkpoint_is_never_larger_than_the_blocks_are_many(change: Change) -> None:
    await change.seal(0, *change.signers())
    change.owner = LOG
    [old] = change.signers()
    await change.log.put(CHECKPOINT_KEY, sign_checkpoint(Checkpoint(old.name, 10**15, bytes(32)), [old]))

    with pytest.raises(CommandError, match="size 1000000000000000, but the shards have 1 blocks"):
        await change.turn().begin()


# case F18
async def test_no_header_counts_as_a_block_that_the_shard_did_not_sign_for_that_height(
    change: Change,
) -> None:
    [signer] = change.signers()
    await change.seal(0, signer)
    stranger = NoteSigner(signer.name, Ed25519PrivateKey.generate())
    await change.seal(1, stranger)
    with pytest.raises(CommandError, match="000000000001/header in the store is not what was signed"):
        await change.turn().begin()

    await change.ledger.put(header_key(0, 1), await change.ledger.get(header_key(0, 0), bytes_max=1 << 30))
    with pytest.raises(CommandError, match="the header of height 0"):
        await change.turn().begin()
    assert len(change.turn().files.of(SHARD)) == 1


# case F18
async def test_a_header_with_a_signature_of_the_new_key_that_nobody_made_ends_no_overlap(
    change: Change,
) -> None:
    old = change.signers()[0]
    turn = change.turn()
    entry = await turn.begin()
    await change.seal(0, old)
    note = await change.ledger.get(header_key(0, 0), bytes_max=1 << 30)
    await change.ledger.put(header_key(0, 0), note + bogus(entry.name, entry.key_id))

    with pytest.raises(CommandError):
        await turn.taken_over(entry)
    assert all(found.end is None for found in turn.files.of(SHARD))


@pytest.mark.parametrize("standing", [None, Standing(None, {}, (), "forged", halted=True)])
async def test_a_key_that_forged_a_block_is_retired_behind_it_at_once(
    change: Change, monkeypatch: pytest.MonkeyPatch, standing: Standing | None
) -> None:
    # redB6, 5: the sequencer halted, so no new key ever signs beside the stolen one
    monkeypatch.setattr(key_rotation, "standing_of", answering(standing))
    for height in range(3):
        await change.seal(height, *change.signers())
    turn = change.turn()
    await turn.require_halted()
    await turn.begin()
    await turn.retire_behind(turn.signing()[0])

    assert [(entry.first, entry.end) for entry in turn.files.of(SHARD)] == [(0, 3), (3, None)]
    [retired] = recorded(KeyRetired)
    assert isinstance(retired, KeyRetired)
    assert (retired.end, retired.reason) == (3, "compromised")


async def test_while_a_sequencer_seals_no_key_is_retired_at_once(
    change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_rotation, "standing_of", answering(Standing(1, {}, (), None)))

    with pytest.raises(CommandError, match="seals"):
        await change.turn().require_halted()


def answering(standing: Standing | None) -> Callable[..., Awaitable[Standing | None]]:
    async def standing_of(*_: object) -> Standing | None:
        return standing

    return standing_of
