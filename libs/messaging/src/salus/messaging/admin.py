"""Topics: that they exist with the right settings, and what Kafka has of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaError,
    KafkaTimeoutError,
    LeaderNotAvailableError,
    TopicAlreadyExistsError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest

from salus.messaging.brokers import Bootstrap, options, silence_of
from salus.messaging.connecting import start, to_the_end
from salus.messaging.errors import BrokerAwayError, MessagingError, MissingTopicsError, RefusedByBrokerError
from salus.messaging.record import MESSAGE_BYTES_MAX

REQUEST_TIMEOUT_MS = 10_000
# What Salus asks of every topic that is sealed or folded.
TOPIC_SETTINGS: Mapping[str, str] = {
    "max.message.bytes": str(MESSAGE_BYTES_MAX),
    # The broker then measures what a compressed batch expands to, and refuses one that is a bomb.
    "compression.type": "uncompressed",
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    # Keys are judged by when the broker took a record, not by what its sender claims.
    "message.timestamp.type": "LogAppendTime",
}
# As many replicas of a topic as the broker gives by default.
BROKERS_REPLICATION = -1
# A broker learns of a new topic after the controller has made it, mostly within milliseconds.
_LEARNS_WITHIN_S = 30
_ASKED_AGAIN_S = 0.05
_NOT_YET = (UnknownTopicOrPartitionError.errno, LeaderNotAvailableError.errno)
# The source of a setting that was made for this topic (Kafka's DescribeConfigs).
_SET_FOR_TOPIC = 1


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it should be."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    replication_factor: int = 1


@asynccontextmanager
async def administration(bootstrap: Bootstrap) -> AsyncIterator[AIOKafkaAdminClient]:
    """Open the library's client for administration.

    Raises:
        BrokerAwayError: no broker answers, at the start or at what the client is asked for.
        RefusedByBrokerError: one answers, and refuses.
    """
    client = AIOKafkaAdminClient(**options(bootstrap), request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await start(client.start, client.close)
    except KafkaError as error:
        raise BrokerAwayError(silence_of(bootstrap)) from error
    try:
        yield client
    except KafkaError as error:
        raise _translated(error) from error
    finally:
        await to_the_end(client.close())


async def ensure_topics(bootstrap: Bootstrap, topics: Iterable[Topic]) -> None:
    """Create the topics that do not exist yet; existing ones are left as they are.

    When it returns, every broker that answers knows all of them and who leads their partitions.

    Raises:
        BrokerAwayError: one does not learn of them.
        MessagingError: the broker refused one, named in the message.
    """
    async with administration(bootstrap) as client:
        response = await client.create_topics([_new_topic(topic) for topic in topics])
        for name, code, *_ in response.topic_errors:
            error = for_code(code)
            if code != 0 and error is not TopicAlreadyExistsError:
                raise MessagingError(f"topic {name}: {error.__name__}")
        await _until_known(client, [name for name, *_ in response.topic_errors])


async def _until_known(client: AIOKafkaAdminClient, topics: list[str]) -> None:
    """Wait until the brokers have learnt of the topics; raises BrokerAwayError."""
    unknown = topics
    try:
        async with asyncio.timeout(_LEARNS_WITHIN_S):
            while unknown := await _unknown(client, topics):  # noqa: ASYNC110  # Kafka tells nobody
                await asyncio.sleep(_ASKED_AGAIN_S)
    except TimeoutError:
        raise BrokerAwayError(
            f"topic {unknown[0]}: a broker does not know of it {_LEARNS_WITHIN_S} s after it was made"
        ) from None


async def _unknown(client: AIOKafkaAdminClient, topics: list[str]) -> list[str]:
    """Return those of the topics that a broker does not know, or not who leads one of their partitions."""
    unknown: set[str] = set()
    for broker in (await client.describe_cluster())["brokers"]:
        try:
            answer = await client._send_request(  # noqa: SLF001  # the library's method chooses the broker itself
                MetadataRequest(topics, allow_auto_topic_creation=False), broker["node_id"]
            )
        except KafkaError:
            # It is away; from when it comes back on it learns of them before it answers.
            continue
        unknown |= {
            topic["topic"]
            for topic in answer.to_object()["topics"]
            if topic["error_code"] in _NOT_YET
            or any(partition["error_code"] in _NOT_YET for partition in topic["partitions"])
        }
    return sorted(unknown)


def _new_topic(topic: Topic) -> NewTopic:
    new = NewTopic(
        name=topic.name,
        num_partitions=topic.partitions,
        replication_factor=1,
        topic_configs=dict(topic.config),
    )
    # The class's constructor knows of no broker that chooses, as Kafka's do since 2.4.
    new.replication_factor = topic.replication_factor
    return new


async def partitions_of(bootstrap: Bootstrap, topics: Iterable[str]) -> dict[str, list[int]]:
    """Return the partition numbers of each topic that exists.

    Raises:
        BrokerAwayError: no broker answers.
        RefusedByBrokerError: the account may not know of one.
    """
    async with administration(bootstrap) as client:
        described = await client.describe_topics(list(topics))
    return {
        topic["topic"]: sorted(partition["partition"] for partition in topic["partitions"])
        for topic in _there(described)
    }


async def describe(bootstrap: Bootstrap, topics: Iterable[str]) -> dict[str, Topic]:
    """Return those of the topics that exist, as they are, with every setting in force.

    Raises:
        BrokerAwayError: no broker answers.
        RefusedByBrokerError: we may not ask.
    """
    async with administration(bootstrap) as client:
        found = await client.describe_topics(list(topics))
        there = {topic["topic"]: len(topic["partitions"]) for topic in _there(found)}
        settings = await _described(client, there)
    return {
        name: Topic(name, partitions, {n: value for n, value, _ in settings[name]})
        for name, partitions in there.items()
    }


async def require_topics(bootstrap: Bootstrap, topics: Iterable[str]) -> None:
    """Raise MissingTopicsError unless all of these topics exist, and BrokerAwayError if no broker answers."""
    wanted = frozenset(topics)
    if absent := wanted - (await partitions_of(bootstrap, wanted)).keys():
        raise MissingTopicsError(sorted(absent))


async def topic_settings(bootstrap: Bootstrap, topics: Iterable[str], name: str) -> dict[str, str]:
    """Return the value in force of one setting, by topic.

    Raises:
        MessagingError: a topic does not exist, or the broker refuses.
    """
    async with administration(bootstrap) as client:
        described = await _described(client, topics)
    return {
        topic: next(value for n, value, _ in entries if n == name) for topic, entries in described.items()
    }


async def set_topic_setting(bootstrap: Bootstrap, topics: Iterable[str], name: str, value: str) -> None:
    """Make one setting for each topic; the others that were made for it stay.

    Raises:
        MessagingError: a topic does not exist, or the broker refuses.
    """
    async with administration(bootstrap) as client:
        # The request replaces all that was set for a topic, so all of it is sent again.
        changed = [
            ConfigResource(
                ConfigResourceType.TOPIC,
                topic,
                {n: v for n, v, source in entries if source == _SET_FOR_TOPIC} | {name: value},
            )
            for topic, entries in (await _described(client, topics)).items()
        ]
        for response in await client.alter_configs(changed) if changed else ():
            for code, _, _, topic in response.resources:
                _require_done(topic, code)


async def _described(
    client: AIOKafkaAdminClient, topics: Iterable[str]
) -> dict[str, list[tuple[str, str, int]]]:
    wanted = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    found: dict[str, list[tuple[str, str, int]]] = {}
    for response in await client.describe_configs(wanted) if wanted else ():
        for code, _, _, topic, entries in response.resources:
            _require_done(topic, code)
            found[topic] = [(entry[0], entry[1], entry[3]) for entry in entries]
    return found


def _there(described: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return what exists of the topics that were asked for; raises RefusedByBrokerError."""
    for topic in described:
        if topic["error_code"] == TopicAuthorizationFailedError.errno:
            raise RefusedByBrokerError(f"topic {topic['topic']}: {TopicAuthorizationFailedError.__name__}")
    return [topic for topic in described if not topic["error_code"]]


def _require_done(topic: str, code: int) -> None:
    if code != 0:
        error = for_code(code)
        raise _kind_of(error)(f"topic {topic}: {error.__name__}")


def _translated(error: KafkaError) -> MessagingError:
    return _kind_of(error)(type(error).__name__)


def _kind_of(error: KafkaError | type[KafkaError]) -> type[MessagingError]:
    is_away = getattr(error, "retriable", False) or isinstance(error, KafkaTimeoutError)
    return BrokerAwayError if is_away else RefusedByBrokerError


async def ping(bootstrap: Bootstrap) -> None:
    """Raise BrokerAwayError unless a broker answers."""
    async with administration(bootstrap):
        pass
