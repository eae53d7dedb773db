"""RFC 6962 Merkle trees: hashes, roots, inclusion and consistency proofs, compact ranges.

Everything here takes values and returns values. Hashes are 32-byte SHA-256 digests. Source: RFC 6962
section 2.1, RFC 9162 section 2.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from salus.ledger.errors import ConsistencyError, InclusionError
from salus.ledger.hashing import hash_each, hash_pieces

HASH_SIZE = 32
LEAF_PREFIX = b"\x00"
NODE_PREFIX = b"\x01"
EMPTY_ROOT = sha256(b"").digest()


def leaf_hash(data: bytes) -> bytes:
    """Return SHA-256(0x00 || data), the hash of one leaf."""
    return sha256(LEAF_PREFIX + data).digest()


def hashes_of(leaves: Sequence[bytes]) -> list[bytes]:
    """Return the hash of each leaf: `[leaf_hash(data) for data in leaves]`, but fast."""
    return hash_each(LEAF_PREFIX, leaves)


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right), the hash of an interior node."""
    return sha256(NODE_PREFIX + left + right).digest()


def levels_of(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return every level of the tree over these leaf hashes, the leaves first and the root last.

    A node without a right sibling moves up unchanged, which yields exactly the RFC 6962 tree.
    """
    level = list(leaves)
    levels = [level]
    while len(level) > 1:
        pairs = [left + right for left, right in zip(level[::2], level[1::2], strict=False)]
        level = hash_each(NODE_PREFIX, pairs) + level[2 * len(pairs) :]
        levels.append(level)
    return levels


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash over leaf hashes; the empty tree has the hash of no bytes."""
    if any(len(leaf) != HASH_SIZE for leaf in leaves):
        # Somebody's malformed hashes, joined, could not be told from well-formed ones.
        return levels_of(leaves)[-1][0]
    return root_of_joined(b"".join(leaves))


def root_of_joined(leaves: bytes) -> bytes:
    """Return the Merkle tree hash over leaf hashes that are joined.

    Raises:
        ValueError: not a whole number of hashes.
    """
    if len(leaves) % HASH_SIZE:
        raise ValueError(f"{len(leaves)} bytes are no whole number of hashes")
    level = leaves
    while len(level) > HASH_SIZE:
        paired = len(level) - len(level) % (2 * HASH_SIZE)
        level = hash_pieces(NODE_PREFIX, level[:paired], 2 * HASH_SIZE) + level[paired:]
    return level or EMPTY_ROOT


def path_in(levels: Sequence[Sequence[bytes]], index: int) -> list[bytes]:
    """Return the inclusion path of leaf `index`, from its sibling up, out of `levels_of(leaves)`."""
    if not 0 <= index < len(levels[0]):
        raise IndexError(f"leaf {index} of a tree of {len(levels[0])}")
    path = []
    for level in levels[:-1]:
        sibling = index ^ 1
        if sibling < len(level):
            path.append(level[sibling])
        index >>= 1
    return path


def joined_paths(levels: Sequence[Sequence[bytes]]) -> list[bytes]:
    """Return every leaf's path, its hashes joined: `[b"".join(path_in(levels, i)) for i in …]`, but fast.

    The path of a node is its sibling, if it has one, and then its parent's path.
    """
    paths = [b""]
    for level in reversed(levels[:-1]):
        siblings = [node for pair in zip(level[1::2], level[0::2], strict=False) for node in pair]
        # A node without a sibling stands last and has its parent's path.
        siblings += [b""] * (len(level) - len(siblings))
        paths = [sibling + paths[index >> 1] for index, sibling in enumerate(siblings)]
    return paths


def root_from_path(*, leaf: bytes, index: int, tree_size: int, path: Sequence[bytes]) -> bytes:
    """Return the root that an inclusion path leads to (RFC 9162 section 2.1.3.2).

    Raises:
        InclusionError: the index is outside the tree, or leaf or path has the wrong length.
    """
    if len(leaf) != HASH_SIZE:
        raise InclusionError(f"a leaf hash of {len(leaf)} bytes")
    if not 0 <= index < tree_size:
        raise InclusionError(f"index {index} is outside a tree of {tree_size}")
    fn, sn, node = index, tree_size - 1, leaf
    for sibling in path:
        if sn == 0:
            raise InclusionError(f"the path has {len(path)} hashes, too many for a tree of {tree_size}")
        if fn & 1 or fn == sn:
            node = node_hash(sibling, node)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            node = node_hash(node, sibling)
        fn >>= 1
        sn >>= 1
    if sn != 0:
        raise InclusionError(f"the path has {len(path)} hashes, too few for a tree of {tree_size}")
    return node


def verify_inclusion(
    *, leaf: bytes, index: int, tree_size: int, path: Sequence[bytes], expected_root: bytes
) -> None:
    """Raise InclusionError unless the path proves that `leaf` is at `index` under `expected_root`."""
    if root_from_path(leaf=leaf, index=index, tree_size=tree_size, path=path) != expected_root:
        raise InclusionError(f"the path of leaf {index} does not lead to the root")


def verify_consistency(  # noqa: C901, PLR0912  # the loop is the RFC's, kept recognisable
    *, first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise ConsistencyError unless the tree of size `second` extends the one of size `first`.

    The empty tree (`first` 0) is refused: every tree extends it, so a proof from it says nothing and a
    caller asking for one has lost its state (docs/decisions/no-consistency-from-the-empty-tree.md).
    Source: RFC 9162 section 2.1.4.2.
    """
    if first < 1 or second < first:
        raise ConsistencyError(f"no consistency proof from size {first} to {second}")
    if first == second:
        if first_root != second_root:
            raise ConsistencyError(f"two different trees of size {first}", refuted=True)
        if proof:
            raise ConsistencyError("a proof between equal trees has no hashes")
        return
    if not proof:
        raise ConsistencyError("the proof is empty")
    nodes = list(proof)
    if first & (first - 1) == 0:
        nodes.insert(0, first_root)
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    old = new = nodes[0]
    for node in nodes[1:]:
        if sn == 0:
            raise ConsistencyError("the proof is too long")
        if fn & 1 or fn == sn:
            old, new = node_hash(node, old), node_hash(node, new)
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            new = node_hash(new, node)
        fn >>= 1
        sn >>= 1
    if sn != 0:
        raise ConsistencyError("the proof is too short")
    if old != first_root:
        # Hashes that lead to the larger root are of the larger tree, whoever sent them.
        raise ConsistencyError(
            f"the proof does not lead to the root of size {first}", refuted=new == second_root
        )
    if new != second_root:
        raise ConsistencyError(f"the proof does not lead to the root of size {second}")
