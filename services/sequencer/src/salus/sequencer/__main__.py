"""Wires the sequencer of one shard and runs it: `python -m salus.sequencer`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import pyarrow as pa
from fastapi import FastAPI

from salus.ledger.block import header_key
from salus.ledger.note import NoteSigner, NoteVerifier
from salus.messaging import ping
from salus.objects import ObjectStore, open_store, probe
from salus.objects.errors import NotFoundError, RefusedError, StoreAwayError
from salus.runtime.identity_view import IDENTITY_TOPIC
from salus.runtime.keys import load_ed25519, load_signer
from salus.runtime.network import Network
from salus.runtime.service import Check, create_app, serve
from salus.runtime.telemetry import set_up
from salus.sequencer.adapters.announcements import open_announcements
from salus.sequencer.adapters.archive import PART as S3
from salus.sequencer.adapters.archive import ObjectArchive
from salus.sequencer.adapters.log import PART as KAFKA
from salus.sequencer.adapters.log import KafkaLog, open_identities
from salus.sequencer.adapters.machine import SystemClock, in_thread
from salus.sequencer.adapters.observation import LAG, PrometheusObserver
from salus.sequencer.adapters.patience import Patience
from salus.sequencer.api import routes
from salus.sequencer.errors import HaltError
from salus.sequencer.handlers import Progress, Sequencer, WindowSize, lag_of, run
from salus.sequencer.restoring import Shard
from salus.sequencer.settings import Settings

LAG_EVERY_S = 5.0
# After SIGTERM the blocks under way get this long to be committed; cut off, they are sealed anew later.
STOP_S_MAX = 8.0


def shard_of(network: Network, shard_id: int) -> Shard:
    """Return the shard's description from the network file.

    Raises:
        LookupError: the network has no such shard.
    """
    (identity,) = network.topic_partitions(IDENTITY_TOPIC)
    shards = {
        shard.id: Shard(
            id=shard.id,
            verifier=NoteVerifier.from_vkey(shard.verifier_key),
            partitions=tuple(sorted((topic, n) for topic, ns in shard.topics.items() for n in ns)),
            identity=identity,
        )
        for shard in network.shards
    }
    if shard_id not in shards:
        raise LookupError(f"{network.origin} has no shard {shard_id}: `salus shard assign` adds one")
    own = shards.pop(shard_id)
    return replace(own, fellows=tuple(shards.values()))


@asynccontextmanager
async def open_sequencer(
    settings: Settings, store: ObjectStore, progress: Progress
) -> AsyncIterator[Sequencer]:
    """Connect every port; waits while a part is away."""
    network = Network.read(settings.network_file)
    shard, patience, kafka = shard_of(network, settings.shard), Patience(), settings.kafka_bootstrap
    signer = NoteSigner(shard.verifier.name, load_ed25519(settings.note_key_file))
    if signer.key_id != shard.verifier.key_id:
        raise ValueError(f"{settings.note_key_file} is not the key of {shard.verifier.name}")
    await patience.outlast(S3, lambda: probe(store), errors=(StoreAwayError, RefusedError))
    async with AsyncExitStack() as resources:
        identities = await resources.enter_async_context(open_identities(kafka, network, patience))
        announcements = await resources.enter_async_context(
            open_announcements(kafka, load_signer(settings.signing_key_file), signer.name, patience)
        )
        yield Sequencer(
            shard=shard,
            signer=signer,
            archive=ObjectArchive(store, patience),
            log=KafkaLog(kafka, patience),
            identities=identities,
            announcements=announcements,
            observer=PrometheusObserver(shard.id),
            clock=SystemClock(),
            offload=in_thread,
            limits=settings.limits(),
            window=WindowSize(settings.duplicates_window, settings.duplicates_window_blocks),
            progress=progress,
        )


async def seal(settings: Settings, store: ObjectStore, progress: Progress, stop: asyncio.Event) -> None:
    """Seal until told to stop; a halt leaves the process up, so that its alarm can be seen."""
    async with open_sequencer(settings, store, progress) as sequencer:
        lag = asyncio.create_task(watch_lag(sequencer.shard.id, progress))
        try:
            await run(sequencer, stop)
        except HaltError as error:
            progress.halted = f"{type(error).__name__}: {error}"
            sequencer.observer.halted(error)
            await stop.wait()
        finally:
            lag.cancel()


async def watch_lag(shard: int, progress: Progress) -> None:
    """Keep the lag gauge up to date."""
    while True:
        for (topic, partition), lag in (await lag_of(progress)).items():
            LAG.labels(str(shard), topic, str(partition)).set(lag)
        await asyncio.sleep(LAG_EVERY_S)


def checks_of(settings: Settings, store: ObjectStore, progress: Progress) -> dict[str, Check]:
    """Return what /readyz looks at."""

    async def require_store() -> None:
        with suppress(NotFoundError):
            await store.head(header_key(settings.shard, 0))

    async def require_sealing() -> None:
        if progress.halted is not None:
            raise RuntimeError(progress.halted)
        idle = progress.outlook is not None and not progress.starts
        if progress.reader is None and not idle:
            raise RuntimeError("the chain is not read back yet")

    return {
        KAFKA: lambda: ping(settings.kafka_bootstrap),
        S3: require_store,
        "sealing": require_sealing,
    }


async def main(settings: Settings) -> None:
    """Serve health, metrics and status while sealing; end with an error if sealing ends with one."""
    set_up(settings)
    # Arrow's own allocator keeps what a body took; this one gives it back, some 50 MB less at any time.
    pa.set_memory_pool(pa.system_memory_pool())
    shard = shard_of(Network.read(settings.network_file), settings.shard)
    store = open_store(
        endpoint=settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        region=settings.s3_region,
        bucket=settings.ledger_bucket,
    )
    progress, stop = Progress(), asyncio.Event()
    sealing = asyncio.create_task(seal(settings, store, progress, stop))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        stop.set()
        await asyncio.wait((sealing,), timeout=STOP_S_MAX)

    checks = checks_of(settings, store, progress)
    app = create_app(settings, title="Salus sequencer", lifespan=lifespan, checks=checks)
    app.include_router(routes(shard, progress))
    serving = asyncio.create_task(serve(app, settings))
    await asyncio.wait((serving, sealing), return_when=asyncio.FIRST_COMPLETED)
    for task in (sealing, serving):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


if __name__ == "__main__":
    asyncio.run(main(Settings()))
