"""`salus ledger restore-topics`: Kafka was lost; its topics are filled again from the ledger."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from salus.archive.errors import ArchiveError
from salus.archive.finality import require_final
from salus.archive.fsck import Stores
from salus.archive.log import LogReader
from salus.archive.replay import SealedBlock, logged_headers, replay
from salus.archive.trust import Trust
from salus.cli.callers import given_key
from salus.cli.checking import address_of, whom_and_where
from salus.cli.console import Json, emit, narration, out
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.kafka_access import KAFKA_VARIABLE, given_kafka
from salus.cli.refilling import Comparison, OtherRecordError, Refill
from salus.cli.state import state_folder
from salus.cli.store_errors import store_error
from salus.client import Publisher
from salus.crypto.text_files import read_text_file
from salus.devkit.network import OPERATOR, NetworkFolder, output_topics
from salus.devkit.platform import Platform
from salus.devkit.processes import is_alive
from salus.devkit.run_record import StateFolder
from salus.events.contexts.network import RestoredPartition, TopicsRestored
from salus.events.did import LocalSigner
from salus.events.event_types import type_of
from salus.events.signature import Signer
from salus.ledger.checkpoint import Checkpoint
from salus.ledger.errors import LedgerError
from salus.ledger.json_reader import read_json
from salus.messaging import (
    TOPIC_SETTINGS,
    Bootstrap,
    DeliveryError,
    MessagingError,
    Position,
    Reader,
    RestoredRanges,
    TimestampReplacedError,
    Topic,
    ensure_topics,
    set_topic_setting,
    topic_settings,
)
from salus.messaging.connecting import to_the_end
from salus.objects import ObjectsError, RefusedError
from salus.runtime.manifests import Role, services

STAMPS = "message.timestamp.type"
BY_BROKER, BY_SENDER = "LogAppendTime", "CreateTime"
# Nobody judges by the stamps of this output topic, so theirs say whether something appended is unstated.
MARKED = "salus.ledger.rejections"
FILLS_MAX, STATEMENTS_MAX = 3, 10
POLL_MS = 1000

Partition = tuple[str, int]
ShardTopics = list[Mapping[str, list[int]]]


@dataclass(frozen=True, slots=True)
class Lost:
    """What is restored: from which store, by whose keys, to which broker, stated by whom."""

    bootstrap: Bootstrap
    stores: Stores
    trust: Trust
    shard_topics: ShardTopics
    operator: Signer
    network: NetworkFolder
    replication: int = 1

    @property
    def partitions(self) -> list[Partition]:
        """The input partitions of all shards."""
        return sorted(
            {(t, n) for topics in self.shard_topics for t, numbers in topics.items() for n in numbers}
        )


@dataclass(frozen=True, slots=True)
class Restored:
    """The next offset of each partition, how many records were appended to it, and whether it is recorded."""

    log_size: int
    next: dict[Partition, int]
    appended: dict[Partition, int]
    recorded: bool


def restore_topics(
    network: Annotated[
        Path | None,
        typer.Option(
            help="network.json of another network; its parts are in SALUS_KAFKA_BOOTSTRAP and so on."
        ),
    ] = None,
    operator_key: Annotated[
        Path | None, typer.Option(help="PEM Ed25519 key of an operator, with --network.", dir_okay=False)
    ] = None,
    replication: Annotated[
        int, typer.Option(min=1, help="Replicas of topics that do not exist yet, with --network.")
    ] = 3,
    as_json: Json = False,
) -> None:
    """Fill Kafka's topics from the ledger after Kafka was lost; every service must be stopped.

    Each record gets its old offset, so the chains go on where they are; what stands there already is
    compared. That it happened is stated by the operator as an event. Repeat it if it was interrupted. Without
    --network it starts the local platform's Kafka and object store, and stops them again.
    """
    with narration() as narrator:
        try:
            if network is None:
                restored = run_until_signal(_restore_local(Platform(state_folder(), narrator=narrator)))
            else:
                restored = run_until_signal(restore(_elsewhere(network, operator_key, replication)))
        except (ArchiveError, LedgerError, OtherRecordError) as error:
            raise CommandError(Exit.NO, str(error)) from None
        except RefusedError as error:
            raise store_error(error) from None
        except (MessagingError, ObjectsError) as error:
            raise CommandError(Exit.NOT_RUNNING, f"Kafka or the object store: {error}") from None
    _show(restored, as_json=as_json)


async def restore(lost: Lost, *, on_block: Callable[[int], None] = lambda _: None) -> Restored:
    """Make the topics, compare what they have, append what they lack, and state it.

    Nothing is appended, and no setting changed, unless all that is there is as sealed. Whatever ends it, the
    broker stamps the topics again; the next call goes on, and knows by a mark whether it has to be stated.

    Raises:
        ArchiveError, LedgerError: the ledger is not as signed: `salus ledger fsck` says more.
        OtherRecordError: a topic holds something else.
        MessagingError, ObjectsError: a part is away.
    """
    checkpoint = await _checkpoint(lost)
    logged = await logged_headers(LogReader(lost.stores.log), checkpoint, lost.trust)
    topics = sorted({topic for topic, _ in lost.partitions})
    await _make_topics(lost)
    unstated = await _is_unstated(lost.bootstrap, topics)
    _, had = await _extent(lost)
    for left in reversed(range(FILLS_MAX)):
        try:
            reached, restored = await _fill(lost, logged, topics, on_block)
            break
        except (TimestampReplacedError, DeliveryError):
            # An answer was lost, or is of a batch that was sent twice: what is there is compared again.
            if not left:
                raise
    appended = {at: end - had[at] for at, end in reached.items() if end > had[at]}
    following = dict.fromkeys(lost.partitions, 0) | dict(sorted(reached.items()))
    recorded = False
    if appended or unstated:
        # First, since who folds these topics does not take their records before network.json says so.
        lost.network.add_restored(
            {at: ranges for at, ranges in restored.items() if unstated or at in appended}
        )
        recorded = await _record(lost, checkpoint, following)
    await set_topic_setting(lost.bootstrap, [MARKED], STAMPS, BY_BROKER)
    return Restored(checkpoint.size, following, appended, recorded)


async def _extent(lost: Lost) -> tuple[dict[Partition, int], dict[Partition, int]]:
    async with Reader(lost.bootstrap, starts=dict.fromkeys(lost.partitions, 0)) as reader:
        return await reader.beginning_offsets(), await reader.end_offsets()


async def _fill(
    lost: Lost, logged: set[bytes], topics: list[str], on_block: Callable[[int], None]
) -> tuple[dict[Partition, int], RestoredRanges]:
    """Compare what the topics have and append what they lack.

    Return the offset behind it for each partition, and where its records are dated as the ledger says.
    """
    begins, ends = await _extent(lost)
    dated: RestoredRanges = {}
    if begins != ends:
        async with Comparison(lost.bootstrap, begins=begins, ends=ends) as comparison:
            reached = await _replay_to(comparison.take, lost, logged, on_block)
        dated = comparison.dated
        if not comparison.is_short:
            return reached, dated
    async with _stamped_by_sender(lost.bootstrap, topics), Refill(lost.bootstrap, ends=ends) as refill:
        reached = await _replay_to(refill.take, lost, logged, on_block)
        await refill.finish()
    filled = {at: (ends[at], end) for at, end in reached.items() if ends[at] < end}
    return reached, {
        at: [*dated.get(at, ()), *([filled[at]] if at in filled else ())] for at in {*dated, *filled}
    }


async def _replay_to(
    take: Callable[[SealedBlock], Awaitable[None]],
    lost: Lost,
    logged: set[bytes],
    on_block: Callable[[int], None],
) -> dict[Partition, int]:
    """Hand over every block; return the offset behind the last record of each partition."""
    reached: dict[Partition, int] = {}
    done = 0
    async with aclosing(replay(lost.stores.ledger, lost.trust, logged)) as blocks:
        async for block in blocks:
            await take(block)
            reached |= {(r.topic, r.partition): r.next for r in block.header.ranges if r.first < r.next}
            done += 1
            on_block(done)
    return reached


async def _is_unstated(bootstrap: Bootstrap, topics: list[str]) -> bool:
    """Tell whether an earlier call appended and did not state it; undo what it left if it was killed."""
    stamps = await topic_settings(bootstrap, [MARKED, *topics], STAMPS)
    left = [topic for topic in topics if stamps[topic] == BY_SENDER]
    await set_topic_setting(bootstrap, left, STAMPS, BY_BROKER)
    return BY_SENDER in stamps.values()


@asynccontextmanager
async def _stamped_by_sender(bootstrap: Bootstrap, topics: list[str]) -> AsyncIterator[None]:
    """Let records keep the time at which they were judged; without this the broker's would be today's.

    However it ends the broker stamps again: by whose time keys are judged must not be the sender's choice.
    """
    try:
        await set_topic_setting(bootstrap, [MARKED, *topics], STAMPS, BY_SENDER)
        yield
    finally:
        await to_the_end(set_topic_setting(bootstrap, topics, STAMPS, BY_BROKER))


async def _checkpoint(lost: Lost) -> Checkpoint:
    note = await LogReader(lost.stores.log).checkpoint()
    if note is None:
        raise CommandError(Exit.NO, "the log has no checkpoint: there is nothing to restore from")
    return require_final(note, lost.trust)


async def _make_topics(lost: Lost) -> None:
    counts = dict.fromkeys(output_topics(), 1)
    for topic, number in lost.partitions:
        counts[topic] = max(counts.get(topic, 0), number + 1)
    await ensure_topics(
        lost.bootstrap,
        [Topic(name, count, TOPIC_SETTINGS, lost.replication) for name, count in counts.items()],
    )


async def _record(lost: Lost, checkpoint: Checkpoint, following: Mapping[Partition, int]) -> bool:
    """State the restoration; False if the network has no topic for that."""
    if type_of(TopicsRestored).topic not in {topic for topic, _ in lost.partitions}:
        return False
    data = TopicsRestored(
        log_size=checkpoint.size,
        log_root=checkpoint.root.hex(),
        partitions=tuple(RestoredPartition(*at, offset) for at, offset in following.items()),
    )
    async with Publisher(lost.bootstrap, lost.operator) as publisher:
        for _ in range(STATEMENTS_MAX):
            sent = await publisher.publish(data, subject=checkpoint.origin)
            if await _is_dated_by_broker(lost.bootstrap, await sent.position()):
                return True
    raise MessagingError(f"{type_of(TopicsRestored).topic} still takes its senders' time")


async def _is_dated_by_broker(bootstrap: Bootstrap, at: Position) -> bool:
    """Tell whether the broker dated the record there: a setting takes a moment to be in force everywhere."""
    async with Reader(bootstrap, starts={(at.topic, at.partition): at.offset}) as reader:
        while not (found := await reader.poll(max_records=1, timeout_ms=POLL_MS)):
            pass
    return found[0].flaw is None


async def _restore_local(platform: Platform) -> Restored:
    run = StateFolder(platform.state.folder).run()
    if run is not None and any(
        is_alive(p) for p in (*run.processes, *(s.process for s in run.services.values()))
    ):
        raise CommandError(Exit.USAGE, "stop the platform first: `salus down`")
    async with platform:
        await platform.start_parts()
        restored = await restore(lost_platform(platform))
    for service in (one.name for one in services() if one.role is Role.CONTRACT):
        # What was folded and never sealed is in no topic any more, so the state is folded anew.
        for file in (platform.state.data / service).glob("state.db*"):
            file.unlink()
    return restored


def lost_platform(platform: Platform) -> Lost:
    """Return what a platform whose parts run would be restored from."""
    folder, s3 = platform.network, platform.s3
    trust = Trust.from_network(read_text_file(folder.file))
    shard_topics = [shard["topics"] for shard in folder.read()["shards"]]
    operator = folder.signer(OPERATOR)
    return Lost(platform.kafka_bootstrap, address_of(s3).open(), trust, shard_topics, operator, folder)


def _elsewhere(network: Path, operator_key: Path | None, replication: int) -> Lost:
    if operator_key is None or not os.environ.get(KAFKA_VARIABLE):
        raise CommandError(
            Exit.USAGE, f"--network needs --operator-key, and {KAFKA_VARIABLE} in the environment"
        )
    trust, address = whom_and_where(network)
    shard_topics = [shard["topics"] for shard in read_json(read_text_file(network))["shards"]]
    operator = LocalSigner(given_key(operator_key))
    folder = NetworkFolder(network.parent, file_name=network.name)
    return Lost(given_kafka(), address.open(), trust, shard_topics, operator, folder, replication)


def _show(restored: Restored, *, as_json: bool) -> None:
    rows = [
        {
            "topic": topic,
            "partition": number,
            "next": offset,
            "appended": restored.appended.get((topic, number), 0),
        }
        for (topic, number), offset in restored.next.items()
    ]
    if as_json:
        emit({"log_size": restored.log_size, "recorded": restored.recorded, "partitions": rows})
        return
    for row in rows:
        out.print(
            f"{row['topic']} {row['partition']}: {row['appended']} appended, goes on at {row['next']}",
            highlight=False,
        )
    said = {True: "stated as an event", False: "not stated"}[restored.recorded]
    out.print(
        f"under the checkpoint of {restored.log_size} blocks; {said}. network.json says which records were "
        "appended again: give it to every service, then start them.",
        highlight=False,
    )
