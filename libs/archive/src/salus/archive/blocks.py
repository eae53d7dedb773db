"""Reads the chains of blocks: header notes and bodies as they lie in the ledger bucket."""

from __future__ import annotations

import asyncio
import re
from hashlib import sha256

from salus.archive.errors import DamagedError, MissingError
from salus.ledger.block import HEADER_BYTES_MAX, Header, body_key, header_key
from salus.objects import NotFoundError, ObjectStore, TooLargeError

# Reads of headers under way at once while catching up.
HEADERS_AT_ONCE = 16
HEIGHT_DIGITS = 12
BODY_BYTES_MAX = 256 * 1024 * 1024
"""How large a body is at most, whatever a header says."""
_OBJECT = re.compile(r"shard/(0|[1-9][0-9]*)/([0-9]{12})/(?:(header)|body-([0-9a-f]{64})\.parquet)")


class BlockArchive:
    """The ledger bucket, read only; nothing it returns has been verified."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    async def header(self, shard: int, height: int) -> bytes | None:
        """Return the header note, or None if there is no such block (yet).

        Of an object that is too large for one nothing is read: no bytes, which are no header either.
        """
        try:
            return await self._objects.get(header_key(shard, height), bytes_max=HEADER_BYTES_MAX)
        except NotFoundError:
            return None
        except TooLargeError:
            return b""

    async def headers_from(self, shard: int, height: int, *, limit: int) -> list[bytes]:
        """Return up to `limit` header notes from `height` on, without a gap."""
        notes: list[bytes] = []
        # One by one at first: mostly there is just one new block.
        step = 1
        while len(notes) < limit:
            start = height + len(notes)
            wanted = range(start, start + min(step, limit - len(notes)))
            found = await asyncio.gather(*(self.header(shard, h) for h in wanted))
            for note in found:
                if note is None:
                    return notes
                notes.append(note)
            step = min(step * 4, HEADERS_AT_ONCE)
        return notes

    async def body(self, shard: int, header: Header) -> bytes:
        """Return the body that the header names.

        Raises:
            DamagedError: it is missing, or its bytes are not those the header commits to.
        """
        key = body_key(shard, header.height, header.root)
        try:
            data = await self._objects.get(key, bytes_max=body_bytes_max(header))
        except NotFoundError:
            raise MissingError(key, "the body is missing") from None
        except TooLargeError as error:
            raise DamagedError(key, str(error)) from None
        if len(data) != header.body_bytes or sha256(data).digest() != header.body_sha256:
            raise DamagedError(key, "the body is not the one that the header commits to")
        return data


def body_bytes_max(header: Header) -> int:
    """Return how many bytes of a body are read: those that its header names, up to what any may have."""
    return min(header.body_bytes, BODY_BYTES_MAX)


def parse_key(key: str) -> tuple[int, int, bytes | None] | None:
    """Return (shard, height, None) of a header's key, (shard, height, root) of a body's, else None."""
    match = _OBJECT.fullmatch(key)
    if match is None:
        return None
    shard, height, header, root = match.groups()
    return int(shard), int(height), None if header else bytes.fromhex(root)
