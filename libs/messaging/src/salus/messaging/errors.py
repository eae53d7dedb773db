"""What can go wrong between us and Kafka."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


class MessagingError(Exception):
    """Base of all errors of this package."""


class BrokerAwayError(MessagingError):
    """No broker answers; the same call may succeed later."""


class PermanentError(MessagingError):
    """Kafka answers, and no waiting mends what is wrong: somebody has to change something there."""


class RefusedByBrokerError(PermanentError):
    """The broker refuses what it was asked for."""


class TimestampReplacedError(RefusedByBrokerError):
    """A record was appended, and the broker says that it has the broker's time, not the sender's.

    It says so as well of a batch that was sent again and is there already, whichever time that has: who needs
    to know reads the record.
    """

    def __init__(self, topic: str) -> None:
        super().__init__(f"{topic} takes the broker's time, not the sender's")
        self.topic = topic


class AccountFileError(PermanentError):
    """A file of the account at Kafka cannot be used: password, certificate or authorities."""

    def __init__(self, what: str, file: Path | None) -> None:
        super().__init__(f"Kafka's {what} cannot be used: {file or 'those of the system'}")
        self.file = file


class CorruptBatchError(PermanentError):
    """A record batch is not what its checksum says, so nothing of its partition can be read from there on."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        super().__init__(
            f"{topic} {partition}: the record batch at offset {offset} is damaged; nothing after it is read"
        )
        self.topic = topic
        self.partition = partition
        self.offset = offset


class MissingRecordsError(PermanentError):
    """A partition has no records at offsets that it gave: Kafka's compaction, or somebody, removed them."""

    def __init__(self, topic: str, partition: int, first: int, end: int) -> None:
        super().__init__(
            f"{topic} {partition}: of the records from offset {first} to {end - 1} some are gone, "
            "and what came later is there"
        )
        self.topic = topic
        self.partition = partition
        self.first = first
        self.end = end


class PartitionMismatchError(PermanentError):
    """A topic has other partitions than those that are read."""

    def __init__(self, *, unread: Sequence[tuple[str, int]], missing: Sequence[tuple[str, int]] = ()) -> None:
        said = [f"nobody reads {topic} {partition}" for topic, partition in unread]
        said += [f"Kafka has no {topic} {partition}" for topic, partition in missing]
        super().__init__("; ".join(said))
        self.unread = unread
        self.missing = missing


class OutOfRangeError(MessagingError):
    """The broker does not have the position to be read: retention passed it, or the topic is shorter."""


class DeliveryError(MessagingError):
    """A record was not acknowledged: it may or may not be in the topic."""


class NotSentError(DeliveryError):
    """A record was never given to a broker: it is not in the topic and will not get there."""


class RecordRefusedError(DeliveryError):
    """The broker refuses the record for what it is: it is not in the topic, and no repetition helps."""


class NotAuthorizedError(DeliveryError):
    """The broker does not let us write to the topic (any more); only an earlier attempt may be in it."""


class MissingTopicsError(MessagingError):
    """Topics do not exist; the network's bootstrap makes them."""

    def __init__(self, topics: list[str]) -> None:
        super().__init__(f"there is no topic {', '.join(topics)}: run `salus network bootstrap`")
        self.topics = topics
