"""Wires anchoring and runs it: `python -m salus.anchoring`."""

from __future__ import annotations

from salus.runtime.garbage import collect_rarely

if __name__ == "__main__":
    collect_rarely()

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import structlog
from fastapi import FastAPI

from salus.anchoring.adapters.kafka import KafkaAlarms, KafkaAnnouncements, OutcomeOf, listen
from salus.anchoring.adapters.pacing import Pace, in_a_thread
from salus.anchoring.adapters.witnesses import HttpWitness
from salus.anchoring.alarm_outcomes import LedgerOutcomes
from salus.anchoring.cose import CoseIssuer
from salus.anchoring.cosigning import Cosigning
from salus.anchoring.event_index import EventIndex
from salus.anchoring.event_lookup import EventLookup
from salus.anchoring.handlers import Anchor
from salus.anchoring.log_bucket import LogBucket
from salus.anchoring.metrics import Metrics
from salus.anchoring.ports import StatedAt
from salus.anchoring.receipt_api import VALUES_MAX, ReceiptService
from salus.anchoring.receipt_lane import ReceiptLane
from salus.anchoring.routes import install_routes
from salus.anchoring.runner import Runner
from salus.anchoring.scrubbing import Scrubber, Scrubbing
from salus.anchoring.settings import Settings
from salus.archive.blocks import BlockArchive
from salus.archive.duplicates import WindowSize
from salus.archive.fsck import Stores
from salus.archive.log import LogReader
from salus.archive.receipts import ReceiptMaker
from salus.archive.trust import Trust
from salus.client import EventName
from salus.crypto.scratch_folders import scratch_folder
from salus.crypto.signing_keys import key_place
from salus.crypto.text_files import read_text_file
from salus.events.contexts.ledger import BlockSealed, CheckpointPublished
from salus.events.contexts.network import DamageFound
from salus.events.effect import Outcome
from salus.events.event_types import type_of
from salus.ledger.block import Header, open_header
from salus.ledger.errors import PolicyError
from salus.ledger.key_periods import Keys
from salus.ledger.note import NoteVerifier
from salus.ledger.policy import Policy
from salus.messaging import ping, require_topics
from salus.objects import S3Objects, open_store, probe
from salus.runtime.identity_view import IDENTITY_TOPIC
from salus.runtime.keys import load_signer
from salus.runtime.live_keys import HeldSigners, WatchedNetwork
from salus.runtime.own_key import AnnouncingKey
from salus.runtime.service import Check, create_app, serve, until_passes
from salus.runtime.shard_keys import follow_shards
from salus.runtime.supervisor import AGE_S_MAX, Supervisor, resting
from salus.runtime.telemetry import set_up

# A pass tells how far it is once a stretch of blocks is read, which at the slowest pace takes minutes.
SCRUB_AGE_S_MAX = 1800.0

TOPICS = (IDENTITY_TOPIC, *(type_of(it).topic for it in (BlockSealed, CheckpointPublished, DamageFound)))

_log = structlog.get_logger()


class StandingStillError(Exception):
    """Anchoring does not go on; the sentence is shown in /readyz."""


@dataclass(frozen=True)
class Resources:
    """What is shared by the API and the tasks beside it."""

    settings: Settings
    watched: WatchedNetwork
    objects: S3Objects
    log: LogReader
    bucket: LogBucket
    runner: Runner
    # Shared with the runner: what is learned of added shards counts at once.
    shards: dict[int, Keys]
    metrics: Metrics
    maker: ReceiptMaker
    lookup: EventLookup
    issuer: CoseIssuer
    own_key: AnnouncingKey
    closing: AsyncExitStack


def open_resources(settings: Settings) -> Resources:
    """Read the files and put the parts together; nothing is sent yet.

    Raises:
        ValueError, CryptoError: a file is not what it should be; the message names it.
    """
    watched = WatchedNetwork(settings.network_file)
    shards: dict[int, Keys] = {**watched.shards()}
    signer = HeldSigners(watched.log(), key_place(settings.note_key))
    signer.require_one()
    objects = open_bucket(settings, settings.log_bucket)
    log = LogReader(objects)
    blocks = BlockArchive(open_bucket(settings, settings.ledger_bucket))
    closing = AsyncExitStack()
    cosigning = open_cosigning(settings, log, closing)
    bucket = LogBucket(objects, watched.log())
    anchor = Anchor(
        blocks=blocks,
        bucket=bucket,
        log=log,
        origin=signer.name,
        signer=signer,
        shards=shards,
        entries_max=settings.append_entries_max,
        is_final=cosigning.is_final if cosigning else None,
    )
    metrics = Metrics()
    runner = Runner(
        anchor,
        metrics,
        poll_interval_s=settings.poll_interval_ms_max / 1000,
        checkpoint_interval_s=settings.checkpoint_interval_ms_min / 1000,
        cosigning=cosigning,
    )

    def open_note(shard: int, note: bytes) -> Header:
        return open_header(note, shards[shard])

    maker = ReceiptMaker(
        blocks,
        log,
        open_note=open_note,
        leaves_cached_max=settings.receipt_leaves_cached_max,
    )
    return Resources(
        settings,
        watched,
        objects,
        log,
        bucket,
        runner,
        shards,
        metrics,
        maker,
        EventLookup(
            open_event_index(settings, signer.name, closing),
            runner,
            blocks,
            metrics,
            open_note=open_note,
            share=settings.event_index_share_max,
        ),
        CoseIssuer(watched.log(), signer),
        AnnouncingKey(load_signer(settings.signing_key_file, settings.signing_key_id), role="anchoring"),
        closing,
    )


def open_event_index(settings: Settings, log: str, closing: AsyncExitStack) -> EventIndex:
    """Return the index in the operator's file, or in one that `closing` removes."""
    file = settings.event_index_file
    if file is None:
        file = closing.enter_context(scratch_folder("salus-anchoring-")) / "events.sqlite"
    index = EventIndex(file, log=log)
    closing.callback(index.close)
    return index


def open_cosigning(settings: Settings, log: LogReader, closing: AsyncExitStack) -> Cosigning | None:
    """Return how checkpoints become final, or None where none has to be cosigned; `closing` disconnects.

    Raises:
        ValueError: a witness has no key in network.json, or those with an address are no quorum.
    """
    policy = Policy.from_network(read_text_file(settings.network_file))
    quorum = policy.quorum
    if unknown := settings.witnesses.keys() - {key.name for key in quorum.verifiers}:
        raise ValueError(f"SALUS_WITNESSES names {sorted(unknown)}, of which network.json has no key")
    urls = quorum.url_of | settings.witnesses
    reached = {witness.key for witness in quorum.witnesses if witness.verifier.name in urls}
    if (shortfall := quorum.shortfall(reached)) is not None:
        sentence = f"the policy can never be met, as not every witness has an address: {shortfall}"
        raise ValueError(f"{sentence}; add URLs to network.json or SALUS_WITNESSES")
    if not urls:
        return None
    witnesses = {name: HttpWitness(url) for name, url in urls.items()}
    for witness in witnesses.values():
        closing.push_async_callback(witness.close)
    return Cosigning(
        witnesses,
        policy,
        log,
        deadline_s=settings.witness_deadline_ms_max / 1000,
        stragglers_s=settings.witness_stragglers_ms_max / 1000,
    )


def open_bucket(settings: Settings, bucket: str) -> S3Objects:
    """Return a bucket of the operator's store."""
    return open_store(
        endpoint=settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        region=settings.s3_region,
        bucket=bucket,
    )


async def anchor_for_ever(resources: Resources) -> None:
    """Wait for the log's bucket, refuse a store without conditional writes, and anchor."""
    say = resources.runner.say
    await until_passes("s3", resources.objects.require_bucket, tell=say)
    await until_passes("s3", lambda: probe(resources.objects), tell=say)
    await resources.runner.run()


async def announce_for_ever(resources: Resources) -> None:
    """Announce checkpoints."""
    settings = resources.settings
    signer = load_signer(settings.signing_key_file, settings.signing_key_id)
    announcements = KafkaAnnouncements(
        settings.kafka, signer, resources.own_key, origin=resources.watched.log().name
    )
    try:
        await resources.runner.announce(announcements)
    finally:
        await announcements.close()


async def scrub_for_ever(resources: Resources) -> None:
    """Read the archive again and again, once there is a log."""
    with resting():
        await resources.runner.wait_beyond(-1)
    loop = asyncio.get_running_loop()
    outcomes = LedgerOutcomes(resources.runner, resources.lookup, resources.maker)

    async def outcome(name: EventName, stated: StatedAt) -> Outcome:
        # The log and its index belong to this event loop, and the scrubber has another.
        looking = asyncio.run_coroutine_threadsafe(outcomes.outcome(name, stated), loop)
        return await asyncio.wrap_future(looking)

    await in_a_thread(partial(scrub, resources, outcome))


class FollowedTrust:
    """The keys of the network file, and those of shards that were added since it was written.

    While the file cannot be read, the keys before stay.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._trust = Trust.from_network(read_text_file(resources.settings.network_file))

    def now(self) -> Trust:
        """Return whom to trust now."""
        try:
            self._trust = Trust.from_network(read_text_file(self._resources.settings.network_file))
        except (OSError, ValueError) as error:
            _log.error("the network file cannot be read, the keys before stay", error=str(error))
        shards = self._resources.shards.items()
        added = {n: keys.vkey for n, keys in shards if isinstance(keys, NoteVerifier)}
        return replace(self._trust, shard_keys=dict(sorted((added | self._trust.shard_keys).items())))


async def scrub(resources: Resources, outcome: OutcomeOf) -> None:
    """Run a scrubber with connections of its own, for it has its own event loop."""
    settings, metrics = resources.settings, resources.metrics
    pace = Pace(settings.scrub_bytes_per_s_max, metrics.scrub_bytes.inc)
    ledger, log = (open_bucket(settings, name) for name in (settings.ledger_bucket, settings.log_bucket))
    signer = load_signer(settings.signing_key_file, settings.signing_key_id)
    alarms = KafkaAlarms(
        settings.kafka,
        signer,
        resources.own_key,
        origin=resources.watched.log().name,
        outcome=outcome,
    )
    scrubbing = Scrubbing(
        stores=Stores(pace.slow(ledger), pace.slow(log)),
        objects=log,
        trust=FollowedTrust(resources).now,
        alarms=alarms,
        signer=signer,
        metrics=metrics,
        pass_min=timedelta(seconds=settings.scrub_interval_s_min),
        window=WindowSize(settings.duplicates_window, settings.duplicates_window_blocks),
    )
    try:
        await Scrubber(scrubbing).run()
    finally:
        await alarms.close()


def go_by_new_keys(resources: Resources) -> None:
    """Take up what the network file says now, but for the log's keys, which are looked up each time."""
    resources.shards.update(resources.watched.shards())
    if (cosigning := resources.runner.cosigning) is not None:
        try:
            cosigning.go_by(Policy.from_network(read_text_file(resources.settings.network_file)))
        except (OSError, PolicyError) as error:
            _log.error("the network's policy cannot be followed", error=str(error))


def build_app(resources: Resources, supervisor: Supervisor) -> FastAPI:
    """Return the app. The log grows and is served without Kafka; readiness says that Kafka is away."""
    settings, runner = resources.settings, resources.runner

    async def reach_store() -> None:
        await resources.objects.require_bucket()
        await open_bucket(settings, settings.ledger_bucket).require_bucket()

    async def going() -> None:
        if runner.trouble is not None or not runner.caught_up:
            raise StandingStillError(runner.trouble or "catching up with the archive")

    async def final() -> None:
        if runner.unfinal is not None:
            raise StandingStillError(runner.unfinal)

    async def told() -> str | None:
        if resources.metrics.alarm_refused is not None:
            raise StandingStillError(resources.metrics.alarm_refused)
        return resources.metrics.alarm_late

    checks: dict[str, Check] = {
        "kafka": lambda: ping(settings.kafka),
        "topics": lambda: require_topics(settings.kafka, TOPICS),
        "s3": reach_store,
        "signing-key": resources.own_key.check,
        "log": going,
        "alarms": told,
        **({"witnesses": final} if runner.cosigning else {}),
    }
    app = create_app(
        settings, title="Salus anchoring", checks=checks, supervisor=supervisor, values_max=VALUES_MAX
    )
    receipts = ReceiptService(runner, resources.maker, resources.lookup, resources.metrics, resources.issuer)
    install_routes(app, runner, resources.log, receipts)
    return app


async def main(settings: Settings) -> None:
    """Anchor and serve until told to stop; a task that fails beside the API ends the process."""
    set_up(settings)
    collect_rarely()
    resources = open_resources(settings)
    runner = resources.runner

    def heard(block: BlockSealed, traceparent: bytes | None) -> None:
        runner.wake(shard=block.shard, height=block.height, leaves=block.leaves, traceparent=traceparent)

    kafka = settings.kafka
    beside = {
        "anchoring": anchor_for_ever(resources),
        "announcing": announce_for_ever(resources),
        "tidying": resources.bucket.tidying.run(),
        "listening": listen(kafka, heard=heard),
        "shards": follow_shards(
            kafka, resources.watched.network, resources.shards, seen=resources.own_key.look
        ),
        "event-index": resources.lookup.run(),
        "keys": resources.watched.follow(lambda: go_by_new_keys(resources)),
    }
    if settings.scrub_bytes_per_s_max:
        beside["scrubbing"] = scrub_for_ever(resources)
    if runner.cosigning:
        beside["cosigning"] = runner.finalise(runner.cosigning)
    supervisor = Supervisor()
    async with resources.closing, AsyncExitStack() as stack:
        for name, work in beside.items():
            age_s_max = SCRUB_AGE_S_MAX if name == "scrubbing" else AGE_S_MAX
            await stack.enter_async_context(supervisor.running(work, name=name, age_s_max=age_s_max))
        app = build_app(resources, supervisor)
        lane = ReceiptLane(app, runner, resources.maker, resources.metrics)
        # Cancelling the tasks is safe at any point: the next start stands on the head and completes it.
        await serve(app, settings, front=lane)


if __name__ == "__main__":
    asyncio.run(main(Settings()))
