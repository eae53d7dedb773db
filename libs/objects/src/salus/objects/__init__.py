"""S3 object stores: create-once writes, compare-and-swap, streams."""

from salus.objects.accounts import Accounts
from salus.objects.admin import Admin
from salus.objects.errors import (
    AlreadyExistsError,
    ChangedError,
    MissingBucketError,
    NotFoundError,
    ObjectsError,
    RefusedError,
    StoreAwayError,
    StrayObjectError,
    TooLargeError,
    UnfitStoreError,
)
from salus.objects.probe import PROBE_PREFIX, probe
from salus.objects.s3 import S3Objects, open_store
from salus.objects.store import Entry, ObjectStore, OnStray, Stray, refuse_stray

__all__ = [
    "PROBE_PREFIX",
    "Accounts",
    "Admin",
    "AlreadyExistsError",
    "ChangedError",
    "Entry",
    "MissingBucketError",
    "NotFoundError",
    "ObjectStore",
    "ObjectsError",
    "OnStray",
    "RefusedError",
    "S3Objects",
    "StoreAwayError",
    "Stray",
    "StrayObjectError",
    "TooLargeError",
    "UnfitStoreError",
    "open_store",
    "probe",
    "refuse_stray",
]
