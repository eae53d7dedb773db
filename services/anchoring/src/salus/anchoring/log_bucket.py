"""The log's bucket: the head by compare-and-swap, tiles, the published checkpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from salus.anchoring.tidying import Tidying
from salus.archive.errors import DamagedError, HeadError
from salus.archive.head import HEAD_BYTES_MAX, HEAD_KEY, Head, encode_head, open_head
from salus.archive.log import CHECKPOINT_KEY, LogReader
from salus.ledger.checkpoint import Checkpoint, open_checkpoint
from salus.ledger.errors import LedgerError
from salus.ledger.key_periods import Keys
from salus.ledger.note import NOTE_BYTES_MAX, add_signatures, split_note
from salus.ledger.tiles import TileRef
from salus.objects import AlreadyExistsError, ChangedError, NotFoundError, ObjectStore, TooLargeError

WRITES_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class _Shown:
    """The published checkpoint: its size, its root, its bytes and its ETag."""

    size: int
    root: bytes
    note: bytes
    etag: str


class LogBucket:
    """Reads and writes the log; every write may be repeated, and every order of crashes leaves it whole.

    `tidying` removes what full tiles replaced, while it runs.
    """

    def __init__(self, objects: ObjectStore, log: Keys) -> None:
        self._objects = objects
        self._keys = log
        self._published: _Shown | None = None
        self.tidying = Tidying(objects)

    async def load_head(self) -> tuple[Head, str] | None:
        """Return the head and its ETag, or None before the first start of a network.

        Raises:
            HeadError: it cannot be trusted.
        """
        try:
            data, etag = await self._objects.get_with_etag(HEAD_KEY, bytes_max=HEAD_BYTES_MAX)
        except NotFoundError:
            return None
        except TooLargeError as error:
            raise HeadError(str(error)) from error
        return open_head(data, self._keys), etag

    async def create_head(self, head: Head) -> str:
        """Write the first head; raises AlreadyExistsError if another process was quicker."""
        return await self._objects.create(HEAD_KEY, encode_head(head))

    async def swap_head(self, head: Head, etag: str) -> str:
        """Move the head: the commit point. Raises ChangedError if it is no longer the one of `etag`."""
        return await self._objects.replace(HEAD_KEY, encode_head(head), etag)

    async def head_is(self, etag: str) -> bool:
        """Tell whether the head is still the one of `etag`; it is not read, for it can be large."""
        try:
            return (await self._objects.head(HEAD_KEY)).etag == etag
        except NotFoundError:
            return False

    async def put_in_place(self, objects: Mapping[str, bytes]) -> None:
        """Write tiles and entry bundles. Their content is given by their path, so repeating is harmless."""
        limit = asyncio.Semaphore(WRITES_AT_ONCE)

        async def one(path: str, data: bytes) -> None:
            async with limit:
                await self._objects.put(path, data)

        await asyncio.gather(*(one(path, data) for path, data in objects.items()))
        self.tidying.heard(objects)

    async def read_tiles(self, refs: Iterable[TileRef]) -> dict[TileRef, bytes]:
        """Return these tiles; raises HeadError if one is missing."""
        wanted = list(refs)
        try:
            read = await LogReader(self._objects).tiles(wanted)
        except DamagedError as error:
            raise HeadError(str(error)) from error
        return {ref: read(ref.level, ref.index, ref.width) for ref in wanted}

    async def shown_size(self) -> int:
        """Return of which size the published checkpoint is, 0 if there is none; raises as `publish`."""
        self._published = shown = self._published or await self._read_published()
        return 0 if shown is None else shown.size

    async def shows(self, head: Head) -> bool:
        """Tell whether a checkpoint of the head's size, or a later one, is shown: then all of it is in place.

        Raises:
            HeadError: as `publish`.
        """
        self._published = shown = _of_this_tree(self._published or await self._read_published(), head)
        return shown is not None and shown.size >= head.size

    async def publish(self, head: Head) -> None:
        """Show the head's checkpoint, unless a later one is shown already: checkpoints never go back.

        One of the same size keeps the signatures that it has, and gains those that the head's brings.

        Raises:
            HeadError: the published checkpoint is not of this log.
        """
        note = head.checkpoint.encode()
        while True:
            shown = _of_this_tree(self._published or await self._read_published(), head)
            self._published = None
            try:
                if shown is None:
                    etag = await self._objects.create(CHECKPOINT_KEY, note)
                elif shown.size > head.size:
                    return
                else:
                    if shown.size == head.size:
                        note = add_signatures(shown.note, split_note(note)[1])
                    etag = shown.etag
                    if note != shown.note:
                        etag = await self._objects.replace(CHECKPOINT_KEY, note, etag)
            except (AlreadyExistsError, ChangedError):
                continue
            self._published = _Shown(head.size, head.root_hash, note, etag)
            return

    async def _read_published(self) -> _Shown | None:
        try:
            note, etag = await self._objects.get_with_etag(CHECKPOINT_KEY, bytes_max=NOTE_BYTES_MAX)
        except NotFoundError:
            return None
        except TooLargeError as error:
            raise HeadError(str(error)) from error
        shown = self._open(note)
        return _Shown(shown.size, shown.root, note, etag)

    def _open(self, note: bytes) -> Checkpoint:
        try:
            return open_checkpoint(note, self._keys)[0]
        except LedgerError as error:
            raise HeadError(f"the published checkpoint cannot be trusted: {error}") from error


def _of_this_tree(shown: _Shown | None, head: Head) -> _Shown | None:
    """Return what is shown; raises HeadError if the head is of its size and of another tree."""
    if shown is not None and shown.size == head.size and shown.root != head.root_hash:
        raise HeadError(f"the published checkpoint of size {head.size} is of another tree than the head")
    return shown
