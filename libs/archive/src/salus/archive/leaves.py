"""The leaf hashes of a body in the making."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from salus.archive.columns import list_of
from salus.archive.quick_rows import load
from salus.ledger.block import leaf_hashes
from salus.ledger.hashing import split
from salus.ledger.merkle import HASH_SIZE

_PLACE = ("topic", "partition", "offset", "timestamp", "status")
_quick = load()


def leaf_hashes_of(columns: Mapping[str, pa.Array], digests: bytes) -> bytes:
    """Return the leaf hash of each row, joined, given the digests of the values, joined.

    Raises:
        ValueError: not as many digests as rows.
    """
    cells = {name: columns[name] for name in (*_PLACE, "signature")}
    if {len(cell) * HASH_SIZE for cell in cells.values()} != {len(digests)}:
        raise ValueError("columns of different length")
    if _quick is None:
        place = (list_of(name, columns[name]) for name in _PLACE)
        return b"".join(
            leaf_hashes(zip(*place, split(digests), columns["signature"].to_pylist(), strict=True))
        )
    # The library hashes values, and takes the digest where there is none: here there is none anywhere.
    rows = len(columns["topic"])
    cells["value"] = pa.nulls(rows, pa.binary())
    cells["digest"] = pa.Array.from_buffers(pa.binary(HASH_SIZE), rows, [None, pa.py_buffer(digests)])
    return _quick.leaf_hashes(cells)
