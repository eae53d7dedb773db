"""Compares all the time what Kafka has of the topics with what the ledger relies on.

A partition that no shard seals takes records that are acknowledged and never become leaves, and a setting
that somebody changed can make records unreadable, lost or backdated. Neither shows anywhere by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import structlog
from prometheus_client import Gauge

from salus.messaging import TOPIC_SETTINGS, Bootstrap, MessagingError, PermanentError, Topic, describe
from salus.runtime.supervisor import failed, succeeded

EVERY_S = 5.0
# A member's topic may forget what is sealed, but not before an outage of the sequencer is over.
RETENTION_MS_MIN = 7 * 24 * 3600 * 1000

DIFFERENCES = Gauge(
    "salus_topic_differences",
    "What Kafka has of a topic is not what the ledger relies on: partitions, or 1 for a setting.",
    ["topic", "what"],
)

Partition = tuple[str, int]
_log = structlog.get_logger()


class TopicDifferenceError(Exception):
    """Kafka has something else than the ledger relies on; the sentence names all of it."""


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    """One thing of a topic that is not as it should be; `what` is `unassigned`, `missing` or a setting."""

    topic: str
    what: str
    partition: int | None
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def differences(
    assigned: Collection[Partition], found: Mapping[str, Topic], *, folded: Collection[str] = ()
) -> list[Difference]:
    """Return how topics differ from what all shards together seal and from the settings that Salus asks for.

    `folded` are the topics that services read from their beginning: those must keep everything.
    """
    topics = sorted({topic for topic, _ in assigned})
    known = dict.fromkeys(assigned)
    said: list[Difference] = []
    for topic in topics:
        there = found.get(topic, Topic(topic, 0))
        numbers = {*range(there.partitions), *(number for name, number in known if name == topic)}
        for number in sorted(numbers):
            if (topic, number) not in known:
                sentence = f"no shard seals {topic} {number}: what is published there is on no ledger"
                said.append(Difference(topic, "unassigned", number, sentence))
            elif number >= there.partitions:
                said.append(Difference(topic, "missing", number, f"Kafka has no {topic} {number}"))
        if topic in found:
            said += _settings(there, keeps_all=topic in folded)
    return said


def _settings(topic: Topic, *, keeps_all: bool) -> Iterator[Difference]:
    for name, wanted in TOPIC_SETTINGS.items():
        value = topic.config.get(name)
        enough = name == "retention.ms" and not keeps_all and _is_long(value)
        if value != wanted and not enough:
            sentence = f"{topic.name} has {name}={value}, and should have {wanted}"
            yield Difference(topic.name, name, None, sentence)


def _is_long(retention_ms: str | None) -> bool:
    return retention_ms is not None and retention_ms.isdigit() and int(retention_ms) >= RETENTION_MS_MIN


class TopicCheck:
    """Looks at the topics every few seconds; `differences` is what it found last.

    `assigned` returns every partition that some shard seals; none while that is not known yet.
    """

    def __init__(
        self,
        bootstrap: Bootstrap,
        assigned: Callable[[], Collection[Partition]],
        *,
        folded: Collection[str] = (),
    ) -> None:
        self._bootstrap = bootstrap
        self._assigned = assigned
        self._folded = folded
        self._refused: PermanentError | None = None
        self.differences: tuple[Difference, ...] = ()

    async def run(self) -> None:
        """Look until cancelled; a broker that is away is asked again later."""
        while True:
            try:
                await self.look()
            except MessagingError as error:
                failed(error)
            else:
                succeeded()
            await asyncio.sleep(EVERY_S)

    async def look(self) -> None:
        """Compare once; what is new goes to the log, all of it to the metric.

        Raises:
            MessagingError: the broker is away, or does not let us ask.
        """
        assigned = self._assigned()
        try:
            found = await describe(self._bootstrap, sorted({topic for topic, _ in assigned}))
        except PermanentError as error:
            self._refused = error
            raise
        self._refused = None
        self._tell(tuple(differences(assigned, found, folded=self._folded)))

    async def check(self) -> None:
        """Raise unless what was found last is as it should be.

        Raises:
            TopicDifferenceError: it is not, or we may not ask.
        """
        if self._refused is not None:
            raise TopicDifferenceError(f"Kafka does not let us compare the topics: {self._refused}")
        if self.differences:
            raise TopicDifferenceError("; ".join(map(str, self.differences)))

    def _tell(self, found: tuple[Difference, ...]) -> None:
        for difference in sorted({*found} - {*self.differences}):
            _log.error(
                "a topic is not as it should be",
                topic=difference.topic,
                partition=difference.partition,
                what=difference.what,
                reason=difference.sentence,
            )
        for difference in sorted({*self.differences} - {*found}):
            _log.info("a topic is as it should be again", topic=difference.topic, what=difference.what)
        DIFFERENCES.clear()
        for difference in found:
            DIFFERENCES.labels(difference.topic, difference.what).inc()
        self.differences = found
