"""A fresh bucket on the real MinIO for each test."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from uuid import uuid4

import pytest
from minio.error import S3Error

from salus.devkit.addresses import Addresses
from salus.objects import Admin, S3Objects, open_store

OpenBucket = Callable[[str], S3Objects]


@pytest.fixture
def admin(parts: Addresses) -> Admin:
    s3 = parts.s3
    return Admin(endpoint=s3.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, region=s3.region)


@pytest.fixture
def open_bucket(parts: Addresses) -> OpenBucket:
    def opened(name: str) -> S3Objects:
        s3 = parts.s3
        return open_store(
            endpoint=s3.endpoint,
            access_key=s3.access_key,
            secret_key=s3.secret_key,
            region=s3.region,
            bucket=name,
            deadline_s=10,
        )

    return opened


@pytest.fixture
def plant(store: S3Objects, admin: Admin) -> Callable[[str], Awaitable[None]]:
    """Put an object of any key there, by a client that has no opinion of keys."""

    async def planted(key: str) -> None:
        try:
            await asyncio.to_thread(
                admin._client().put_object, store.bucket, key, io.BytesIO(b"stray"), length=5
            )
        except (S3Error, ValueError) as error:
            pytest.skip(f"MinIO or its client takes no such key: {error}")

    return planted


@pytest.fixture
async def store(admin: Admin, open_bucket: OpenBucket) -> S3Objects:
    name = f"test-{uuid4().hex[:12]}"
    await admin.ensure_bucket(name)
    return open_bucket(name)
