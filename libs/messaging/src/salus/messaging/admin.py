"""Topics: that they exist with the right settings, and how many partitions they have."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from salus.messaging.connecting import start, to_the_end
from salus.messaging.errors import BrokerAwayError, MessagingError

REQUEST_TIMEOUT_MS = 10_000


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic as it should be."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    replication_factor: int = 1


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
    try:
        await start(client.start, client.close)
    except KafkaError as error:
        raise BrokerAwayError(f"no broker answers at {bootstrap}") from error
    try:
        yield client
    finally:
        await to_the_end(client.close())


async def ensure_topics(bootstrap: str, topics: Iterable[Topic]) -> None:
    """Create the topics that do not exist yet; existing ones are left as they are.

    Raises:
        MessagingError: the broker refused one, named in the message.
    """
    new = [
        NewTopic(
            name=topic.name,
            num_partitions=topic.partitions,
            replication_factor=topic.replication_factor,
            topic_configs=dict(topic.config),
        )
        for topic in topics
    ]
    async with _admin(bootstrap) as client:
        response = await client.create_topics(new)
    for name, code, *_ in response.topic_errors:
        error = for_code(code)
        if code != 0 and error is not TopicAlreadyExistsError:
            raise MessagingError(f"topic {name}: {error.__name__}")


async def partitions_of(bootstrap: str, topics: Iterable[str]) -> dict[str, list[int]]:
    """Return the partition numbers of each topic that exists."""
    async with _admin(bootstrap) as client:
        described = await client.describe_topics(list(topics))
    return {
        topic["topic"]: sorted(partition["partition"] for partition in topic["partitions"])
        for topic in described
        if not topic["error_code"]
    }


async def ping(bootstrap: str) -> None:
    """Raise BrokerAwayError unless a broker answers."""
    async with _admin(bootstrap):
        pass
