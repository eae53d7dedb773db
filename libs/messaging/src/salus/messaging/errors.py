"""What can go wrong between us and Kafka."""


class MessagingError(Exception):
    """Base of all errors of this package."""


class BrokerAwayError(MessagingError):
    """No broker answers; the same call may succeed later."""


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
