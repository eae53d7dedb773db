"""What may be appended to the log, and how the log looks afterwards: pure functions of what was read."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from salus.archive.errors import HeadError
from salus.archive.head import HEAD_FORMAT, Chain, Head
from salus.ledger.base import base64_of
from salus.ledger.block import Header, check_succession, open_header, parse_block_origin
from salus.ledger.checkpoint import Checkpoint, sign_checkpoint
from salus.ledger.errors import LedgerError
from salus.ledger.key_periods import Keys
from salus.ledger.merkle import EMPTY_ROOT, leaf_hash
from salus.ledger.note import Signers
from salus.ledger.tiles import (
    ENTRIES,
    CompactRange,
    TileRef,
    decode_bundle,
    new_tiles,
    range_at,
    tiles_for_append,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A header to be appended: its shard, the opened header, and the bytes that are the log's entry."""

    shard: int
    header: Header
    note: bytes


@dataclass(frozen=True, slots=True)
class Edge:
    """The right edge of the log, which is all that growing it needs: O(log n) hashes and partial tiles."""

    tree: CompactRange
    tiles: Mapping[TileRef, bytes]


@dataclass(frozen=True, slots=True)
class Append:
    """An append that is ready: the head to swap in, the objects that the log then consists of, its edge."""

    head: Head
    objects: Mapping[str, bytes]
    edge: Edge


def first_head(origin: str, signer: Signers) -> Head:
    """Return the head of the empty log."""
    return _head(origin, signer, CompactRange(), {}, ())


def append(head: Head, edge: Edge, blocks: Sequence[Block], *, origin: str, signer: Signers) -> Append:
    """Return the log with these headers at its end; deterministic, so that a repetition changes nothing.

    The headers must be the next ones of their chains (`open_next`).
    """
    notes = [block.note for block in blocks]
    objects = new_tiles(head.size, notes, lambda *ref: edge.tiles[TileRef(*ref)])
    tree = CompactRange(edge.tree.size, edge.tree.hashes)
    tree.extend(map(leaf_hash, notes))
    chains = dict(head.chains)
    for block in blocks:
        chains[str(block.shard)] = Chain(block.header.height + 1, base64_of(leaf_hash(block.note)))
    tiles = _edge_after(tree.size, objects, edge.tiles)
    return Append(_head(origin, signer, tree, chains, notes), objects, Edge(tree, tiles))


def append_again(head: Head, before: Mapping[TileRef, bytes]) -> Append:
    """Return the append that led to this head, out of the entries that it brings and the edge before them.

    Raises:
        HeadError: entries and edge do not lead to the head's root, so nothing of it may be written.
    """
    _require_entries_hash(before)
    try:
        notes = [entry.encode() for entry in head.entries]
        objects = new_tiles(head.size_before, notes, lambda *ref: before[TileRef(*ref)])
    except LedgerError as error:
        raise HeadError(f"the tiles at the log's edge are malformed: {error}") from error
    return Append(head, objects, open_edge(head, _edge_after(head.size, objects, before)))


def open_next(note: bytes, *, shard: int, before: tuple[Header, bytes] | None, verifier: Keys) -> Block:
    """Return the header as the next block of its chain.

    Raises:
        BlockError: the signature is not the shard's, or it does not follow the header before it.
    """
    header = open_header(note, verifier)
    check_succession(before, header)
    return Block(shard, header, note)


def in_handover_order(chains: Mapping[int, Sequence[Block]], logged: Mapping[str, int]) -> list[Block]:
    """Return the blocks, those of one shard in their order, each after the blocks that it takes from.

    So whoever reads the log meets the offsets of a partition in their order. `logged` is the next height of
    each shard in the log, by origin. A block that takes from one that is not there yet waits, and so do
    those behind it.
    """
    following, queues, ready = dict(logged), {shard: deque(chain) for shard, chain in chains.items()}, []
    moved = True
    while moved:
        moved = False
        for _, queue in sorted(queues.items()):
            while queue and _may_follow(queue[0].header, following):
                block = queue.popleft()
                following[block.header.origin] = block.header.height + 1
                ready.append(block)
                moved = True
    return ready


def _may_follow(header: Header, following: Mapping[str, int]) -> bool:
    givers = (parse_block_origin(h.other) for h in header.handovers if h.way == "took")
    return all(following.get(origin, 0) > height for origin, height in givers)


def open_edge(head: Head, tiles: Mapping[TileRef, bytes]) -> Edge:
    """Return the edge, checked against the head's root: nothing is ever built on a damaged tile.

    Raises:
        HeadError: the tiles do not lead to the head's root, or the entries do not hash to their tile.
    """
    _require_entries_hash(tiles)
    try:
        tree = range_at(head.size, lambda *ref: tiles[TileRef(*ref)])
    except LedgerError as error:
        raise HeadError(f"the tiles at the log's edge are malformed: {error}") from error
    if tree.root() != head.root_hash:
        raise HeadError(f"the tiles of size {head.size} do not lead to the head's root")
    return Edge(tree, tiles)


def _require_entries_hash(edge: Mapping[TileRef, bytes]) -> None:
    try:
        for ref, data in edge.items():
            if ref.level == ENTRIES and b"".join(map(leaf_hash, decode_bundle(data))) != edge.get(
                TileRef(0, ref.index, ref.width)
            ):
                raise HeadError(f"{ref.path}: the entries do not hash to their tile")
    except LedgerError as error:
        raise HeadError(f"the tiles at the log's edge are malformed: {error}") from error


def _edge_after(
    size: int, written: Mapping[str, bytes], before: Mapping[TileRef, bytes]
) -> dict[TileRef, bytes]:
    """Return the edge of the log of that size; what was not written is as it was before."""
    return {ref: written[ref.path] if ref.path in written else before[ref] for ref in tiles_for_append(size)}


def cosigning_request(old_size: int, proof: Sequence[bytes], note: bytes) -> bytes:
    """Return the body of add-checkpoint (c2sp.org/tlog-witness)."""
    return "\n".join([f"old {old_size}", *map(base64_of, proof)]).encode() + b"\n\n" + note


def _head(
    origin: str, signer: Signers, tree: CompactRange, chains: dict[str, Chain], notes: Sequence[bytes]
) -> Head:
    root = tree.root() if tree.size else EMPTY_ROOT
    note = sign_checkpoint(Checkpoint(origin, tree.size, root), signer.at(tree.size))
    entries = tuple(entry.decode() for entry in notes)
    return Head(HEAD_FORMAT, tree.size, base64_of(root), chains, note.decode(), entries)
