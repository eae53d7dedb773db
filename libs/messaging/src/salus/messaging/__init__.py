"""Kafka: the only place that imports aiokafka.

Readers are given explicit positions and never join a consumer group: what has been done with a record is
known by whoever did it, so offsets kept by the broker would be a second truth.
"""

from salus.messaging.acls import (
    ANY_HOST,
    CLUSTER_NAME,
    Acl,
    Operation,
    Pattern,
    Permission,
    ResourceType,
    acls_in_force,
    add_acls,
    remove_acls,
)
from salus.messaging.admin import (
    BROKERS_REPLICATION,
    TOPIC_SETTINGS,
    Topic,
    describe,
    ensure_topics,
    partitions_of,
    ping,
    require_topics,
    set_topic_setting,
    topic_settings,
)
from salus.messaging.brokers import Account, Bootstrap, Brokers, Mechanism, Protocol
from salus.messaging.errors import (
    AccountFileError,
    BrokerAwayError,
    CorruptBatchError,
    DeliveryError,
    MessagingError,
    MissingTopicsError,
    NotAuthorizedError,
    NotSentError,
    OutOfRangeError,
    PartitionMismatchError,
    PermanentError,
    RecordRefusedError,
    RefusedByBrokerError,
    TimestampReplacedError,
)
from salus.messaging.producer import LINGER_MS, Producer
from salus.messaging.reader import ColumnReader, PartitionReader, Reader
from salus.messaging.record import MESSAGE_BYTES_MAX, NOTHING_RESTORED, Position, Record, RestoredRanges
from salus.messaging.recovery import RecoveringProducer

__all__ = [
    "ANY_HOST",
    "BROKERS_REPLICATION",
    "CLUSTER_NAME",
    "LINGER_MS",
    "MESSAGE_BYTES_MAX",
    "NOTHING_RESTORED",
    "TOPIC_SETTINGS",
    "Account",
    "AccountFileError",
    "Acl",
    "Bootstrap",
    "BrokerAwayError",
    "Brokers",
    "ColumnReader",
    "CorruptBatchError",
    "DeliveryError",
    "Mechanism",
    "MessagingError",
    "MissingTopicsError",
    "NotAuthorizedError",
    "NotSentError",
    "Operation",
    "OutOfRangeError",
    "PartitionMismatchError",
    "PartitionReader",
    "Pattern",
    "PermanentError",
    "Permission",
    "Position",
    "Producer",
    "Protocol",
    "Reader",
    "Record",
    "RecordRefusedError",
    "RecoveringProducer",
    "RefusedByBrokerError",
    "ResourceType",
    "RestoredRanges",
    "TimestampReplacedError",
    "Topic",
    "acls_in_force",
    "add_acls",
    "describe",
    "ensure_topics",
    "partitions_of",
    "ping",
    "remove_acls",
    "require_topics",
    "set_topic_setting",
    "topic_settings",
]
