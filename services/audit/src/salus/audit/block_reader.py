"""Reads blocks from the ledger and verifies them, as far as each reader goes."""

from __future__ import annotations

import asyncio

from salus.audit.domain.blocks import Block, BlockRefusedError, verified_rows, verify_body, verify_header
from salus.audit.ports import Ledger, Tip, UnreadableBodyError
from salus.ledger.check_blocks import Row
from salus.ledger.key_periods import Keys, is_void


async def read_header(ledger: Ledger, shard: int, tip: Tip, keys: Keys) -> Block | None:
    """Return the block that goes on after a tip, its body not read yet; None if there is none (yet).

    What lies behind the end of a chain is none.

    Raises:
        BlockRefusedError: the header does not verify.
        OutOfReachError: the archive is away.
    """
    note = None if is_void(keys, tip.height) else await ledger.header(shard, tip.height)
    if note is None:
        return None
    return verify_header(note, shard=shard, height=tip.height, verifier=keys, previous=tip.note)


async def read_rows(ledger: Ledger, block: Block) -> list[Row]:
    """Return the rows of a block's body, which are the leaves of its header.

    Raises:
        BlockRefusedError: the body does not verify.
        OutOfReachError: the archive is away.
    """
    try:
        body = await ledger.body(block.shard, block.header)
        verify_body(block, body)
        # Hashing a full block takes a while; requests go on meanwhile.
        return await asyncio.to_thread(lambda: verified_rows(block, ledger.rows(body)))
    except UnreadableBodyError as error:
        raise BlockRefusedError(
            shard=block.shard, height=block.header.height, code="body-unreadable", detail=str(error)
        ) from error
