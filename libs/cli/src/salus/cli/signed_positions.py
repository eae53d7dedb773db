"""Where a key may begin or end to count, by headers and checkpoints of which the signatures were verified.

Who may write to a bucket can put there what he likes. A chain goes as far as headers that the keys sign which
count there; what else lies behind its end is nothing. Only right at the end it is refused, for it may stand
in the place of a block. A checkpoint that goes further than the blocks is refused as well: a key that was
stolen must not count longer because of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from salus.archive.blocks import BlockArchive
from salus.archive.log import CHECKPOINT_KEY, LogReader
from salus.cli.exits import CommandError, Exit
from salus.devkit.key_files import KeyEntry, Owner
from salus.devkit.network import NetworkFolder
from salus.ledger.block import header_key
from salus.ledger.cosignature import CosignatureVerifier
from salus.ledger.errors import LedgerError, NoteError
from salus.ledger.key_periods import Keys, chain_end, is_void
from salus.ledger.note import NoteVerifier, open_note
from salus.ledger.policy import Policy


@dataclass(frozen=True, slots=True)
class SignedPositions:
    """Heights of a shard, or sizes of the log, as network.json's keys have signed them.

    Raises, from every method:
        CommandError: a header or checkpoint is not as these keys would have signed it.
    """

    folder: NetworkFolder
    blocks: BlockArchive
    log: LogReader

    async def next(self, owner: Owner) -> int:
        """Return the height of the next block of a shard, or the size of the next checkpoint at least."""
        if owner.role == "sequencer":
            return await self._clear(owner.number, await self._next_height(owner.number))
        note = await self.log.checkpoint()
        return 1 if note is None else await self._size(note) + 1

    async def end_of_signed(self, entry: KeyEntry) -> int | None:
        """Return the position behind the newest block or checkpoint; None if the key did not sign that."""
        if entry.owner.role == "sequencer":
            end = await self._next_height(entry.owner.number, entry.first)
            end = await self._clear(entry.owner.number, end)
            note = await self.blocks.header(entry.owner.number, end - 1) if end else None
            return end if note is not None and end > entry.first and _has_signed(entry, note) else None
        note = await self.log.checkpoint()
        if note is None or not _has_signed(entry, note):
            return None
        size = await self._size(note)
        return size + 1 if size >= entry.first else None

    async def header(self, shard: int, height: int) -> bytes | None:
        """Return a block's header if a key signs it that counts there, and it is not void."""
        note = await self.blocks.header(shard, height)
        return note if note is not None and self._why_not(shard, height, note) is None else None

    async def _clear(self, shard: int, end: int) -> int:
        """Return the height of the next block; raise CommandError if something else lies there."""
        while (note := await self.blocks.header(shard, end)) is not None:
            if is_void(self._keys(shard), end):
                break
            if (why := self._why_not(shard, end, note)) is not None:
                raise _refused(header_key(shard, end), why)
            # It was sealed while we looked.
            end += 1
        return end

    async def _size(self, note: bytes) -> int:
        """Return a checkpoint's size; each entry of the log is a block's header, so the blocks bound it."""
        try:
            size = self._policy().open_checkpoint(note).checkpoint.size
        except LedgerError as error:
            raise _refused(CHECKPOINT_KEY, str(error)) from None
        shards = [shard["id"] for shard in self.folder.read()["shards"]]
        blocks = sum([await self._next_height(shard) + await self._void(shard) for shard in shards])
        if size > blocks:
            raise _refused(CHECKPOINT_KEY, f"size {size}, but the shards have {blocks} blocks in all")
        return size

    async def _next_height(self, shard: int, height: int = 0) -> int:
        """Return the height of the next block; there is one at every height below the one given."""
        step = 1
        while await self.header(shard, height + step - 1) is not None:
            height, step = height + step, step * 2
        while step > 1:
            step //= 2
            if await self.header(shard, height + step - 1) is not None:
                height += step
        return height

    async def _void(self, shard: int) -> int:
        """Return how many headers lie behind the end of a chain: the log may have them as well."""
        end, count = chain_end(self._keys(shard)), 0
        while end is not None and await self.blocks.header(shard, end + count) is not None:
            count += 1
        return count

    def _keys(self, shard: int) -> Keys:
        origins = {described["id"]: described["origin"] for described in self.folder.read()["shards"]}
        return self._policy().shards[origins[shard]]

    def _why_not(self, shard: int, height: int, note: bytes) -> str | None:
        """Return why what lies there is no block of the chain; None if it is one."""
        if is_void(self._keys(shard), height):
            return "it is behind the end of the chain"
        origins = {described["id"]: described["origin"] for described in self.folder.read()["shards"]}
        try:
            found = self._policy().open_header(note, origins[shard]).height
        except LedgerError as error:
            return str(error)
        return None if found == height else f"the header of height {found}"

    def _policy(self) -> Policy:
        # Read each time: keys change over while we look, and a note may be by one that was just added.
        return Policy.from_network(self.folder.file.read_bytes())


def _has_signed(entry: KeyEntry, note: bytes) -> bool:
    read = CosignatureVerifier if entry.owner.role == "witness" else NoteVerifier
    try:
        open_note(note, (read.from_vkey(entry.verifier_key),))
    except NoteError:
        return False
    return True


def _refused(key: str, why: str) -> CommandError:
    sentence = f"{key} in the store is not what was signed, so no position is taken from it: {why}"
    return CommandError(Exit.NO, f"{sentence}. Look with `salus ledger fsck`")
