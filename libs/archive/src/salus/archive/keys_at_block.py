"""Which keys of parties were valid at a block: from the ledger alone, whoever asks, and whenever.

The log's entries are the blocks' headers, so they say which blocks hold events of identity; no other body is
read.
"""

from __future__ import annotations

from dataclasses import dataclass

from salus.archive.blocks import BlockArchive
from salus.archive.deep import (
    IDENTITY_TOPIC,
    IdentityEvent,
    IdentityTopic,
    Judge,
    identity_rows,
    rightly_accepted,
)
from salus.archive.errors import DamagedError
from salus.archive.finality import require_final
from salus.archive.fsck import Stores
from salus.archive.log import CHECKPOINT_KEY, LogReader
from salus.archive.replay import ReplayError
from salus.archive.trust import Trust
from salus.events.contexts import CATALOGUE
from salus.events.parties import KnownKey
from salus.ledger.block import Header, open_header, parse_block_origin
from salus.ledger.errors import BlockError
from salus.ledger.key_periods import is_void
from salus.ledger.merkle import leaf_hash
from salus.ledger.tiles import CompactRange


@dataclass(frozen=True, slots=True)
class KeysAtBlock:
    """The keys that could sign what was appended when a block was sealed, by id.

    `doubted` has those of them that were in other hands by then, as all of the ledger says that was read.
    """

    header: Header
    keys: dict[str, KnownKey]
    doubted: frozenset[str]


async def keys_at_block(stores: Stores, trust: Trust, *, shard: int, height: int) -> KeysAtBlock:
    """Return which keys were valid at a block, by the identity position that its header names.

    Raises:
        ArchiveError, LedgerError: the ledger is not as signed, or not all there; nothing is concluded then.
        ObjectsError: the store is away.
        ValueError: the network file names no root of identity, or no shard of that number.
    """
    if shard not in trust.shards:
        raise ValueError(f"the network file names no shard {shard}")
    place = trust.shards[shard].name, height
    headers = await _headers(LogReader(stores.log), trust)
    asked = next((header for _, header in headers if (header.origin, header.height) == place), None)
    if asked is None:
        raise ReplayError(f"no block {height} of shard {shard} is under the log's checkpoint")
    topic = rightly_accepted(trust, await _identities(BlockArchive(stores.ledger), headers), CATALOGUE)
    position = asked.identity[2]
    if topic.sealed_to < position:
        raise ReplayError(
            f"the block was judged at {position} of identity's topic, sealed are {topic.sealed_to}"
        )
    judge = Judge(trust, topic, CATALOGUE)
    keys = judge.ring_at(position).valid_keys(at=asked.time)
    doubted = judge.whole.doubted(keys, at=asked.time)
    return KeysAtBlock(asked, keys, frozenset(doubted))


async def _headers(log: LogReader, trust: Trust) -> list[tuple[int, Header]]:
    """Return the headers under the checkpoint, each with its shard, without those behind a chain's end."""
    note = await log.checkpoint()
    if note is None:
        raise ReplayError("the log has no checkpoint")
    checkpoint = require_final(note, trust)
    shards = {keys.name: (shard, keys) for shard, keys in trust.shards.items()}
    tree, found = CompactRange(), []
    async for entry in log.entries(0, checkpoint.size):
        tree.extend([leaf_hash(entry)])
        try:
            origin, height = parse_block_origin(entry.partition(b"\n")[0].decode())
            shard, keys = shards[origin]
            if not is_void(keys, height):
                found.append((shard, open_header(entry, keys)))
        except (BlockError, ValueError, KeyError):
            raise DamagedError(CHECKPOINT_KEY, "an entry of the log is no header of a known shard") from None
    if checkpoint.size and tree.root() != checkpoint.root:
        raise DamagedError(CHECKPOINT_KEY, "the log's entries do not lead to the signed root")
    return found


async def _identities(archive: BlockArchive, headers: list[tuple[int, Header]]) -> IdentityTopic:
    """Return what the blocks hold of identity's topic, without a gap."""
    covering = [
        (range_.first, range_.next, shard, header)
        for shard, header in headers
        for range_ in header.ranges
        if range_.topic == IDENTITY_TOPIC and range_.first < range_.next
    ]
    events: list[IdentityEvent] = []
    reached = 0
    for first, following, shard, header in sorted(covering, key=lambda each: each[:2]):
        if first != reached:
            raise ReplayError(f"the log has no block with {reached} of identity's topic")
        events += identity_rows(await archive.body(shard, header))
        reached = following
    return IdentityTopic(events, reached)
