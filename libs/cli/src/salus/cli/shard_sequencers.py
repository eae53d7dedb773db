"""The sequencers of the platform that runs here: each shard that has partitions has one."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from typing import Any

from salus.cli.callers import NotSentError, RefusedError
from salus.cli.exits import CommandError
from salus.cli.network_access import NetworkAccess
from salus.cli.sharding import Assignment, read_assignment
from salus.cli.state import require_service
from salus.client.auth import RequestLine
from salus.devkit.platform import Platform
from salus.devkit.services import sequencer_name
from salus.events.did import LocalSigner


async def present_assignment(network: NetworkAccess) -> Assignment:
    """Return the assignment in force; raises as `NetworkAccess.ask`."""
    return read_assignment(await network.ask("/shards"))


async def start_lacking(platform: Platform, shards: Iterable[int]) -> set[int]:
    """Start the sequencers that these shards lack, removed ones too; return whose they are.

    A shard that this platform's network.json does not name is another machine's.
    """
    removed = platform.state.removed_shards()
    here = {shard["id"] for shard in platform.network.read()["shards"]}.intersection(shards)
    lacking = {shard for shard in here if shard in removed or sequencer_name(shard) not in platform.services}
    if lacking:
        await platform.add_shards(sorted(lacking))
    return lacking


async def start_assigned(platform: Platform) -> set[int]:
    """Start the sequencers that shards with partitions lack, by the assignment in force."""
    network = NetworkAccess(platform.network, require_service(platform, "identity"))
    return await start_lacking(platform, (await present_assignment(network)).homes.values())


async def remove_idle(platform: Platform, shards: Collection[int]) -> set[int]:
    """Remove the sequencers of those shards that have no partitions; return which of them stay or are back.

    It looks again afterwards: another operator's assignment may have come into force in between.
    """
    network = NetworkAccess(platform.network, require_service(platform, "identity"))
    needed = set((await present_assignment(network)).homes.values())
    await platform.remove_sequencers({*shards} - needed)
    return (needed | await start_assigned(platform)).intersection(shards)


async def send_assignment(  # a command, and whom it is for
    line: RequestLine,
    network: NetworkAccess,
    signer: LocalSigner,
    *,
    platform: Platform,
    started: Collection[int],
    approval: str | None = None,
) -> dict[str, Any]:
    """Send an assignment; when this returns, each shard to which it gives partitions has a sequencer.

    Sequencers that were started for a request which is refused, or not sent, are removed again, unless the
    assignment in force needs them. Where nobody says which that is, they stay.
    """
    try:
        answer = await network.command(line, signer=signer, approval=approval)
    except (RefusedError, NotSentError):
        with contextlib.suppress(CommandError):
            await remove_idle(platform, started)
        raise
    await start_lacking(platform, Assignment.of(answer).homes.values())
    return answer
