"""Wires the sequencer of one shard and runs it: `python -m salus.sequencer`."""

from __future__ import annotations

from salus.runtime.garbage import collect_rarely

if __name__ == "__main__":
    collect_rarely()

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace

import pyarrow as pa
import structlog
from fastapi import FastAPI

from salus.archive.duplicates import WindowSize
from salus.archive.kept_memory import keep_freed_memory
from salus.crypto.errors import InvalidKeyError, KmsAwayError, KmsUnusableError
from salus.crypto.signing_keys import key_place
from salus.events.contexts import CATALOGUE
from salus.events.contexts.ledger import BlockSealed, RecordRejected
from salus.events.event_types import MEMBER, type_of
from salus.messaging import CorruptBatchError, ping, require_topics
from salus.objects import ObjectStore, S3Objects, open_store, probe
from salus.objects.errors import RefusedError, StoreAwayError
from salus.runtime.halt import HaltedError
from salus.runtime.identity_view import IDENTITY_TOPIC
from salus.runtime.keys import load_signer
from salus.runtime.live_keys import HeldSigners, WatchedNetwork
from salus.runtime.own_key import AnnouncingKey
from salus.runtime.scheduling import switch_quickly, wait_for_a_turn
from salus.runtime.service import Check, create_app, serve
from salus.runtime.supervisor import Pulse, Supervisor, failed, succeeded
from salus.runtime.telemetry import set_up
from salus.runtime.topic_check import TopicCheck
from salus.sequencer.adapters.announcements import open_announcements
from salus.sequencer.adapters.archive import PART as S3
from salus.sequencer.adapters.archive import ObjectArchive
from salus.sequencer.adapters.log import PART as KAFKA
from salus.sequencer.adapters.log import KafkaLog, open_identities
from salus.sequencer.adapters.machine import SystemClock, in_thread
from salus.sequencer.adapters.observation import AWAITED, LAG, PrometheusObserver
from salus.sequencer.adapters.patience import Patience
from salus.sequencer.api import routes
from salus.sequencer.domain import Partition
from salus.sequencer.errors import HaltError, NoKeyError
from salus.sequencer.handlers import Progress, Sequencer, lag_of, run
from salus.sequencer.restoring import Shard
from salus.sequencer.settings import Settings

ANNOUNCED = tuple(type_of(it).topic for it in (BlockSealed, RecordRejected))
LAG_EVERY_S = 5.0
# Services read these from their beginning; they have one partition each, and keep everything.
FOLDED_TOPICS = {kind.topic for kind in CATALOGUE.types() if kind.owner != MEMBER}
KMS_RETRY_S = 1.0
# After SIGTERM the blocks under way get this long to be committed; cut off, they are sealed anew later.
STOP_S_MAX = 8.0

_log = structlog.get_logger()


def shard_of(watched: WatchedNetwork, shard_id: int) -> Shard:
    """Return the shard's description from the network file, whose keys it goes on to follow.

    Raises:
        LookupError: the network has no such shard.
    """
    network = watched.network
    (identity,) = network.topic_partitions(IDENTITY_TOPIC)
    shards = {
        shard.id: Shard(
            id=shard.id,
            verifier=watched.shard(shard.id),
            partitions=tuple(sorted((topic, n) for topic, ns in shard.topics.items() for n in ns)),
            identity=identity,
        )
        for shard in network.shards
    }
    if shard_id not in shards:
        raise LookupError(f"{network.origin} has no shard {shard_id}: `salus shard assign` adds one")
    own = shards.pop(shard_id)
    return replace(own, fellows=tuple(shards.values()), described=lambda shard: watched.shards().get(shard))


@asynccontextmanager
async def open_sequencer(
    settings: Settings,
    watched: WatchedNetwork,
    store: ObjectStore,
    progress: Progress,
    own_key: AnnouncingKey,
) -> AsyncIterator[Sequencer]:
    """Connect every port; waits while a part is away."""
    network, patience, kafka = watched.network, Patience(), settings.kafka
    progress.away = patience.away
    shard = shard_of(watched, settings.shard)
    signer = HeldSigners(watched.shard(shard.id), key_place(settings.note_key))
    await asyncio.to_thread(signer.require_one)
    await patience.outlast(S3, lambda: probe(store), errors=(StoreAwayError, RefusedError))
    async with AsyncExitStack() as resources:
        identities = await resources.enter_async_context(
            open_identities(kafka, network, patience, seen=own_key.look)
        )
        announcements = await resources.enter_async_context(
            open_announcements(
                kafka, load_signer(settings.signing_key_file, settings.signing_key_id), signer.name, patience
            )
        )
        yield Sequencer(
            shard=shard,
            signer=signer,
            archive=ObjectArchive(store, patience),
            log=KafkaLog(kafka, patience, restored=network.restored_ranges()),
            identities=identities,
            announcements=announcements,
            observer=PrometheusObserver(shard.id),
            clock=SystemClock(),
            offload=in_thread,
            limits=settings.limits(),
            window=WindowSize(settings.duplicates_window, settings.duplicates_window_blocks),
            progress=progress,
        )


async def seal(  # noqa: PLR0913  # what sealing is made of
    settings: Settings,
    watched: WatchedNetwork,
    store: ObjectStore,
    *,
    progress: Progress,
    stop: asyncio.Event,
    topics: TopicCheck,
    supervisor: Supervisor,
    own_key: AnnouncingKey,
) -> None:
    """Seal until told to stop; a halt leaves the process up, so that its alarm can be seen."""
    async with AsyncExitStack() as stack:
        sealing = stack.enter_context(supervisor.watching("sealing"))
        sequencer = await stack.enter_async_context(
            open_sequencer(settings, watched, store, progress, own_key)
        )
        lag = watch_lag(sequencer.shard.id, progress, sealing)
        await stack.enter_async_context(supervisor.running(lag, name="lag"))
        await stack.enter_async_context(supervisor.running(watched.follow(), name="keys"))
        await stack.enter_async_context(supervisor.running(topics.run(), name="topics"))
        try:
            await seal_with_keys(sequencer, stop)
        except HaltError as error:
            progress.halted = f"{type(error).__name__}: {error}"
            sequencer.observer.halted(error)
            failed(error)
            await stop.wait()


async def seal_with_keys(sequencer: Sequencer, stop: asyncio.Event) -> None:
    """Seal until told to stop; an HSM that does not answer, or does not take our PIN, is waited for.

    Raises:
        HaltError: as `run`, and NoKeyError if a key took over that is not held here.
    """
    while not stop.is_set():
        try:
            await run(sequencer, stop)
        except (KmsAwayError, KmsUnusableError) as error:
            _log.error("the signing key is away", error=str(error))
            failed(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(KMS_RETRY_S):
                    await stop.wait()
        except InvalidKeyError as error:
            raise NoKeyError(str(error)) from error


async def watch_lag(shard: int, progress: Progress, sealing: Pulse) -> None:
    """Keep the gauges of lag and of what is awaited up to date; of what was given away there is no lag.

    Sealing succeeds with each block, and here while there is nothing to seal.
    """
    shown: set[Partition] = set()
    while True:
        lags = await lag_of(progress)
        idle = progress.outlook is not None and not progress.starts
        if progress.halted is None and (idle or (lags and not any(lags.values()))):
            sealing.succeed()
        for (topic, partition), lag in lags.items():
            LAG.labels(str(shard), topic, str(partition)).set(lag)
            shown.add((topic, partition))
        for topic, partition in shown - progress.starts.keys():
            LAG.remove(str(shard), topic, str(partition))
        shown &= progress.starts.keys()
        succeeded()
        AWAITED.labels(str(shard)).set(len(progress.outlook.awaited) if progress.outlook else 0)
        await asyncio.sleep(LAG_EVERY_S)


def checks_of(  # noqa: PLR0913, PLR0917  # what readiness is made of
    settings: Settings,
    shard: Shard,
    store: S3Objects,
    progress: Progress,
    topics: TopicCheck,
    own_key: AnnouncingKey,
) -> dict[str, Check]:
    """Return what /readyz looks at."""
    needed = {IDENTITY_TOPIC, *ANNOUNCED, *(topic for topic, _ in shard.partitions)}

    async def require_fit_topics() -> None:
        await require_topics(settings.kafka, needed)
        await topics.check()

    async def require_sealing() -> None:
        if progress.halted is not None:
            raise HaltedError(progress.halted)
        idle = progress.outlook is not None and not progress.starts
        if progress.away:
            raise RuntimeError("; ".join(f"waits for {part}: {why}" for part, why in progress.away.items()))
        if progress.clock_off is not None:
            raise RuntimeError(progress.clock_off)
        if progress.reader is None and not idle:
            raise RuntimeError("the chain is not read back yet")
        outlook = progress.outlook
        if outlook is not None and outlook.awaited and outlook.trouble is not None:
            topic, number = outlook.awaited[0]
            raise RuntimeError(f"nobody seals {topic} {number}: {outlook.trouble}")
        for at, offset in (progress.reader.damaged if progress.reader else {}).items():
            raise CorruptBatchError(*at, offset)
        seen_now = progress.reader.missing if progress.reader else {}
        for error in (*progress.missing.values(), *seen_now.values()):
            raise error

    return {
        KAFKA: lambda: ping(settings.kafka),
        S3: store.require_bucket,
        "sealing": require_sealing,
        "topics": require_fit_topics,
        "signing-key": own_key.check,
    }


def tune_process() -> None:
    """Set what interpreter and C library do by themselves to what this process does: block after block.

    The thread that reads from Kafka asks for the interpreter lock after every piece it received, and gets
    it soon. The memory of one block serves the next; Arrow's own allocator would keep some 50 MB more. Its
    threads interrupt neither broker nor store, which they wait for anyway.
    """
    wait_for_a_turn()
    keep_freed_memory()
    pa.set_memory_pool(pa.system_memory_pool())
    collect_rarely()
    switch_quickly()


async def main(settings: Settings) -> None:
    """Serve health, metrics and status while sealing; end with an error if sealing ends with one."""
    set_up(settings)
    tune_process()
    watched = WatchedNetwork(settings.network_file)
    shard = shard_of(watched, settings.shard)
    store = open_store(
        endpoint=settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        region=settings.s3_region,
        bucket=settings.ledger_bucket,
    )
    progress, stop, supervisor = Progress(), asyncio.Event(), Supervisor()
    topics = TopicCheck(settings.kafka, lambda: progress.assigned, folded=FOLDED_TOPICS)
    signer = load_signer(settings.signing_key_file, settings.signing_key_id)
    own_key = AnnouncingKey(signer, role="sequencer")
    sealing = asyncio.create_task(
        seal(
            settings,
            watched,
            store,
            progress=progress,
            stop=stop,
            topics=topics,
            supervisor=supervisor,
            own_key=own_key,
        )
    )

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        stop.set()
        await asyncio.wait((sealing,), timeout=STOP_S_MAX)

    checks = checks_of(settings, shard, store, progress, topics, own_key)
    app = create_app(
        settings, title="Salus sequencer", lifespan=lifespan, checks=checks, supervisor=supervisor
    )
    app.include_router(routes(shard, progress, differences=lambda: topics.differences))
    serving = asyncio.create_task(serve(app, settings))
    await asyncio.wait((serving, sealing), return_when=asyncio.FIRST_COMPLETED)
    for task in (sealing, serving):
        task.cancel()
    for end in await asyncio.gather(sealing, serving, return_exceptions=True):
        if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
            raise end


if __name__ == "__main__":
    asyncio.run(main(Settings()))
