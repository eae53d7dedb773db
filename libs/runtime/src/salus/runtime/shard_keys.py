"""The keys of shards: those of network.json, and those of shards that were added since, by signed events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from salus.events.keyring import KeyRing
from salus.events.sharding import Sharding
from salus.ledger.key_periods import Keys
from salus.ledger.note import NoteVerifier
from salus.messaging import Bootstrap, MessagingError
from salus.runtime.identity_view import open_identity_view
from salus.runtime.network import Network
from salus.runtime.supervisor import failed, succeeded

LOOK_EVERY_S = 1.0

_log = structlog.get_logger()


async def follow_shards(
    bootstrap: Bootstrap,
    network: Network,
    keys: dict[int, Keys],
    *,
    seen: Callable[[KeyRing], None] = lambda _: None,
) -> None:
    """Add the key of every shard that is added, by its id, until cancelled; `seen` has each ring as folded.

    While the broker is away nothing is learned, and what is known stays. A key that network.json names is
    never replaced.
    """
    while True:
        try:
            async with open_identity_view(bootstrap, network) as view:
                while True:
                    ring = await view.catch_up()
                    learn(keys, Sharding.of(network.shards, ring.assignments))
                    seen(ring)
                    succeeded()
                    await asyncio.sleep(LOOK_EVERY_S)
        except MessagingError as error:
            failed(error)
            _log.info("nothing is learned of shards that are added", error=str(error))
            await asyncio.sleep(LOOK_EVERY_S)


def learn(keys: dict[int, Keys], sharding: Sharding) -> None:
    """Add the keys of added shards that are not known yet."""
    for shard, added in sharding.added.items():
        if shard not in keys:
            keys[shard] = NoteVerifier.from_vkey(added.verifier_key)
            _log.info("a shard was added", shard=shard, origin=added.origin)
