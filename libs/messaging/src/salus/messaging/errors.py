"""What can go wrong between us and Kafka."""


class MessagingError(Exception):
    """Base of all errors of this package."""


class BrokerAwayError(MessagingError):
    """No broker answers; the same call may succeed later."""


class OutOfRangeError(MessagingError):
    """The broker does not have the position to be read: retention passed it, or the topic is shorter."""


class DeliveryError(MessagingError):
    """A record was not acknowledged: it may or may not be in the topic."""
