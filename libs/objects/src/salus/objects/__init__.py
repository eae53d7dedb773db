"""S3 object stores: create-once writes, compare-and-swap, streams."""

from salus.objects.admin import Admin
from salus.objects.errors import (
    AlreadyExistsError,
    ChangedError,
    NotFoundError,
    ObjectsError,
    RefusedError,
    StoreAwayError,
    UnfitStoreError,
)
from salus.objects.probe import probe
from salus.objects.s3 import S3Objects, open_store
from salus.objects.store import Entry, ObjectStore

__all__ = [
    "Admin",
    "AlreadyExistsError",
    "ChangedError",
    "Entry",
    "NotFoundError",
    "ObjectStore",
    "ObjectsError",
    "RefusedError",
    "S3Objects",
    "StoreAwayError",
    "UnfitStoreError",
    "open_store",
    "probe",
]
