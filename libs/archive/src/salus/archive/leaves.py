"""The leaf hashes of a body in the making."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from salus.archive.body import BodyColumns, column_of, hashes_of_rows
from salus.archive.quick_rows import load
from salus.ledger.block import leaf_hashes
from salus.ledger.hashing import split

_quick = load()


def leaf_hashes_of(columns: BodyColumns, digests: Sequence[bytes]) -> list[bytes]:
    """Return the leaf hash of each row, out of position, status, signature and the digest of its value."""
    if _quick is None:
        names = columns.topic, columns.partition, columns.offset, columns.status
        return leaf_hashes(zip(*names, digests, columns.signature, strict=True))
    # The library hashes values, and takes the digest where there is none: here there is none anywhere.
    cells = {
        name: column_of(columns, name) for name in ("topic", "partition", "offset", "status", "signature")
    }
    cells["value"] = pa.nulls(len(digests), pa.binary())
    cells["digest"] = hashes_of_rows(digests, "digest")
    if {len(cell) for cell in cells.values()} != {len(digests)}:
        raise ValueError("columns of different length")
    return split(_quick.leaf_hashes(cells))
