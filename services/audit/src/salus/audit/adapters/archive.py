"""The blocks in the ledger bucket, as `Ledger`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from salus.archive.blocks import BlockArchive
from salus.archive.body import decode_body
from salus.archive.errors import BodyError, DamagedError
from salus.audit.ports import OutOfReachError, UnreadableBodyError
from salus.ledger.block import Header
from salus.objects import ObjectsError, ObjectStore


class ArchivedLedger:
    """Reads headers and bodies with `salus.archive`."""

    def __init__(self, objects: ObjectStore) -> None:
        self._archive = BlockArchive(objects)

    async def header(self, shard: int, height: int) -> bytes | None:
        """Return a header note, if the block exists."""
        try:
            return await self._archive.header(shard, height)
        except ObjectsError as error:
            raise OutOfReachError(f"the archive: {error}") from error

    async def body(self, shard: int, header: Header) -> bytes:
        """Return the body that a header names."""
        try:
            return await self._archive.body(shard, header)
        except DamagedError as error:
            raise UnreadableBodyError(str(error)) from error
        except ObjectsError as error:
            raise OutOfReachError(f"the archive: {error}") from error

    def rows(self, body: bytes) -> Sequence[Sequence[Any]]:
        """Return the rows of a body."""
        try:
            table = decode_body(body)
            return list(zip(*(column.to_pylist() for column in table.columns), strict=True))
        except BodyError as error:
            raise UnreadableBodyError(str(error)) from error
        except (OverflowError, ValueError) as error:
            raise UnreadableBodyError(
                "a time in it that no calendar has, or a text that is not UTF-8"
            ) from error
