"""The RFC 6962 tree over the parts of a stored object: its head, then each sealed segment."""

from __future__ import annotations

from hashlib import sha256

from salus.crypto.sealed_object import HASH_BYTES
from salus.ledger.merkle import LEAF_PREFIX, root_of_joined


def part_hash(part: bytes) -> bytes:
    """Return the leaf hash of a part, which may be large: nothing is copied."""
    digest = sha256(LEAF_PREFIX)
    digest.update(part)
    return digest.digest()


class SegmentIndex:
    """The leaf hashes of an object's parts, joined, as they lie at its end."""

    def __init__(self, joined: bytes) -> None:
        self.joined = joined

    @property
    def root(self) -> str:
        """The root of the tree, as the ledger has it; "" of what is no index."""
        return "" if len(self.joined) % HASH_BYTES else root_of_joined(self.joined).hex()

    def has_head(self, head: bytes) -> bool:
        """Tell whether this is the head that the index names."""
        return self.joined[:HASH_BYTES] == part_hash(head)

    def has_segment(self, index: int, stored: bytes) -> bool:
        """Tell whether this is segment number `index` that the index names."""
        at = HASH_BYTES * (1 + index)
        return self.joined[at : at + HASH_BYTES] == part_hash(stored)
