"""What can go wrong with an object store, one class per case that callers treat differently."""

from __future__ import annotations


class ObjectsError(Exception):
    """Base of every error of an object store."""


class NotFoundError(ObjectsError):
    """No object has this key."""

    def __init__(self, key: str) -> None:
        super().__init__(f"there is no object {key}")
        self.key = key


class TooLargeError(ObjectsError):
    """The object has more bytes than one of its kind may have; what was asked for is not there."""

    def __init__(self, key: str, size: int, *, bytes_max: int) -> None:
        super().__init__(f"object {key} has {size} bytes, where at most {bytes_max} may be")
        self.key = key
        self.size = size
        self.bytes_max = bytes_max


class AlreadyExistsError(ObjectsError):
    """Another object, of other bytes, has this key; it was left as it is."""

    def __init__(self, key: str) -> None:
        super().__init__(f"object {key} exists already, with other content")
        self.key = key


class ChangedError(ObjectsError):
    """The object is no longer the one that was read; nothing was written. Read again and decide anew."""

    def __init__(self, key: str) -> None:
        super().__init__(f"object {key} was changed by someone else")
        self.key = key


class RefusedError(ObjectsError):
    """The store refuses us for good: wrong credentials, no permission, no such bucket, an object under lock.

    No waiting mends it; an operator must. A write did not happen.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(
            f"the object store refuses {key or 'the bucket'}: {reason}; waiting does not mend this"
        )
        self.key = key
        self.reason = reason


class StoreAwayError(ObjectsError):
    """The store did not answer within the deadline, or is busy: it is passing.

    A write may or may not have happened. Every write of this package may simply be repeated with the same
    bytes: that settles it.
    """

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"the object store does not answer for {key or 'the bucket'}: {reason}")
        self.key = key
        self.reason = reason


class UnfitStoreError(ObjectsError):
    """The store lacks conditional writes, so nothing here can be kept safe on it."""

    def __init__(self, missing: str) -> None:
        super().__init__(f"this object store is unfit: {missing}")
        self.missing = missing


class StrayObjectError(ObjectsError):
    """An object lies where only objects of this network may lie, and its key is none of this package."""

    def __init__(self, shown: str) -> None:
        super().__init__(f"a stray object: {shown}")
        self.shown = shown


class MissingBucketError(ObjectsError):
    """The bucket does not exist; the network's bootstrap makes it."""

    def __init__(self, bucket: str) -> None:
        super().__init__(f"there is no bucket {bucket}: run `salus network bootstrap`")
        self.bucket = bucket
