"""Watches a log from outside: each checkpoint it shows must extend, or be extended by, the last one seen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from salus.archive.errors import ArchiveError, MissingError
from salus.archive.log import cut_tile
from salus.ledger.checkpoint import Checkpoint
from salus.ledger.errors import ConsistencyError, LedgerError, TileError
from salus.ledger.merkle import verify_consistency
from salus.ledger.policy import Policy, SeenCheckpoint
from salus.ledger.tiles import (
    TILE_WIDTH,
    ReadTile,
    TileRef,
    consistency_proof,
    root_at,
    root_of_prefix,
    tiles_for_consistency,
    tiles_for_prefix,
    tiles_for_root,
)

Fetch = Callable[[str], Awaitable[bytes]]
"""Path below the log's prefix -> its bytes; raises MissingError where the log has nothing."""


class HistoryError(ArchiveError):
    """Two checkpoints that one log signed do not belong together; `seen` and `shown` are their notes.

    `proven`: its own tiles show that neither extends the other. Otherwise it does not serve the tiles that
    would show that one does, which a log that kept its word could.
    """

    code = "two-histories"

    def __init__(self, why: str, *, seen: bytes, shown: bytes, proven: bool) -> None:
        super().__init__(why)
        self.seen = seen
        self.shown = shown
        self.proven = proven


class SeenError(ArchiveError):
    """What was remembered is no checkpoint that the log signed: it says nothing about the log."""

    code = "seen-unreadable"


async def compare(seen: bytes | None, shown: bytes, *, policy: Policy, fetch: Fetch) -> bytes:
    """Return which of the two to remember: the larger; of equals the final one, or whom more cosigned.

    `seen` is the last checkpoint that was remembered.

    Raises:
        SeenError: `seen` is not a checkpoint that the log signed, or is another log's.
        NoteError, CheckpointError: `shown` is not a checkpoint that the log signed, so it proves nothing.
        HistoryError: they are of two histories, or the log does not show that they are of one.
    """
    before = _remembered(seen, policy)
    now = policy.open_checkpoint(shown)
    if seen is None or before is None:
        return shown
    old, new = before.checkpoint, now.checkpoint
    if new.origin != old.origin:
        # A policy may name several logs, and what one has signed says nothing about another.
        raise SeenError(f"it is of {old.origin}, and {new.origin} is looked at")
    if new.size == old.size:
        if new.root != old.root:
            raise HistoryError(
                f"two trees of size {new.size} are signed", seen=seen, shown=shown, proven=True
            )
        better = (now.is_final, len(now.cosigners)) > (before.is_final, len(before.cosigners))
        return shown if better else seen
    small, large = sorted((old, new), key=lambda checkpoint: checkpoint.size)
    try:
        await _require_extension(small, large, fetch)
    except (_ForkError, _NotShownError) as error:
        proven = isinstance(error, _ForkError)
        raise HistoryError(str(error), seen=seen, shown=shown, proven=proven) from None
    return shown if large is new else seen


def _remembered(seen: bytes | None, policy: Policy) -> SeenCheckpoint | None:
    try:
        return None if seen is None else policy.open_checkpoint(seen)
    except LedgerError as error:
        raise SeenError(str(error)) from None


class _ForkError(Exception):
    """The tiles of the tree that is signed show that it begins with another tree than was signed before."""


class _NotShownError(Exception):
    """The log does not serve the tiles of a tree that it signed."""


async def _require_extension(small: Checkpoint, large: Checkpoint, fetch: Fetch) -> None:
    if small.size == 0:
        return
    refs = [
        *tiles_for_consistency(small.size, large.size),
        *tiles_for_prefix(small.size, large.size),
        *tiles_for_root(large.size),
    ]
    try:
        tiles = {ref: await _tile(ref, fetch) for ref in dict.fromkeys(refs)}
        read: ReadTile = lambda *ref: tiles[TileRef(*ref)]  # noqa: E731  # two uses of one expression
        if root_at(large.size, read) != large.root:
            raise _NotShownError(f"the tiles of size {large.size} do not lead to the root that is signed")
        began = root_of_prefix(small.size, large.size, read)
        # Else the tiles below are not of the tree that is signed, and anybody may have changed them.
        verify_consistency(
            first=small.size,
            second=large.size,
            first_root=began,
            second_root=large.root,
            proof=consistency_proof(small.size, large.size, read),
        )
    except (ArchiveError, TileError, ConsistencyError) as error:
        raise _NotShownError(f"from size {small.size} to {large.size}: {error}") from None
    if began != small.root:
        raise _ForkError(f"the tree of size {large.size} does not begin with the one of size {small.size}")


async def _tile(ref: TileRef, fetch: Fetch) -> bytes:
    """Return a tile; a partial one may have given way to the full one."""
    try:
        return await fetch(ref.path)
    except MissingError:
        if ref.width == TILE_WIDTH:
            raise
    full = TileRef(ref.level, ref.index, TILE_WIDTH)
    return cut_tile(full, await fetch(full.path), ref.width)
