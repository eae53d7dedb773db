"""Buckets: making them with versioning and object lock, and destroying every version of an object."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.commonconfig import ENABLED
from minio.error import MinioException, S3Error
from minio.versioningconfig import VersioningConfig

from salus.objects.answers import contained, error_of, status_in
from salus.objects.errors import StoreAwayError, UnfitStoreError

TIMEOUT_S = 5.0
RETRIES_MAX = 2
_T = TypeVar("_T")
_OURS_ALREADY = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})


@dataclass(frozen=True)
class Admin:
    """The administration of one S3 store, over minio's client; each call runs in a thread."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str

    async def ensure_bucket(self, name: str, *, object_lock: bool = False, versioning: bool = False) -> None:
        """Make the bucket unless it exists. Harmless to repeat, and from several processes at once.

        Object lock (write once) can only be chosen when a bucket is made, and implies versioning.

        Raises:
            UnfitStoreError: the bucket exists without the lock or the versioning that was asked for.
        """
        await self._run(name, lambda client: _ensure(client, name, lock=object_lock, versioning=versioning))

    async def destroy(self, bucket: str, key: str) -> None:
        """Remove every version and delete marker of an object.

        A crash midway leaves some versions; repeating it removes the rest.

        Raises:
            RefusedError: a version is under object lock, or we lack the permission.
        """
        await self._run(key, lambda client: _destroy(client, bucket, key))

    async def _run(self, key: str, call: Callable[[Minio], _T]) -> _T:
        def work() -> _T:
            with contained(key), _translated(key):
                return call(self._client())

        return await asyncio.to_thread(work)

    def _client(self) -> Minio:
        url = urlsplit(self.endpoint)
        return Minio(
            endpoint=url.netloc,
            access_key=self.access_key,
            secret_key=self.secret_key,
            region=self.region,
            secure=url.scheme == "https",
            http_client=urllib3.PoolManager(
                timeout=TIMEOUT_S, retries=urllib3.Retry(total=RETRIES_MAX, backoff_factor=0.2)
            ),
        )


@contextmanager
def _translated(key: str) -> Iterator[None]:
    try:
        yield
    except S3Error as error:
        raise error_of(key, status=error.response.status, code=str(error.code)) from error
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        # A proxy's answer is no S3Error, but has a status all the same.
        if (answered := status_in(str(error))) is not None:
            raise error_of(key, status=answered, code="") from error
        raise StoreAwayError(key, type(error).__name__) from error


def _ensure(client: Minio, name: str, *, lock: bool, versioning: bool) -> None:
    if not client.bucket_exists(bucket_name=name):
        try:
            client.make_bucket(bucket_name=name, object_lock=lock)
        except S3Error as error:
            # Another process was quicker.
            if error.code not in _OURS_ALREADY:
                raise
    if lock:
        _require_lock(client, name)
    elif versioning and client.get_bucket_versioning(bucket_name=name).status != ENABLED:
        client.set_bucket_versioning(bucket_name=name, config=VersioningConfig(ENABLED))


def _require_lock(client: Minio, name: str) -> None:
    try:
        client.get_object_lock_config(bucket_name=name)
    except S3Error as error:
        if error.code != "ObjectLockConfigurationNotFoundError":
            raise
        raise UnfitStoreError(f"bucket {name} exists without object lock") from error


def _destroy(client: Minio, bucket: str, key: str) -> None:
    versions = client.list_objects(bucket_name=bucket, prefix=key, recursive=True, include_version=True)
    for version in list(versions):
        # The prefix of a listing also matches longer names.
        if version.object_name == key:
            client.remove_object(bucket_name=bucket, object_name=key, version_id=version.version_id)
