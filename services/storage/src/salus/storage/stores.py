"""Opens the buckets of objects and keys, and the KMS whose root keys wrap the keys."""

from __future__ import annotations

import structlog

from salus.crypto.errors import KmsExistsError
from salus.crypto.kms import FileKms
from salus.objects import ObjectStore, S3Objects, open_store, probe
from salus.storage.adapters.vault import holds_keys
from salus.storage.settings import Settings

_log = structlog.get_logger()


async def open_kms(settings: Settings, keys: ObjectStore) -> FileKms:
    """Open the KMS file, or make it while there is no key yet that another one could have wrapped."""
    passphrase = settings.kms_passphrase.get_secret_value() if settings.kms_passphrase else None
    if settings.kms_path.exists() or await holds_keys(keys):
        return await FileKms.open(settings.kms_path, passphrase)
    try:
        kms = await FileKms.create(settings.kms_path, passphrase)
    except KmsExistsError:
        # Another replica was quicker.
        return await FileKms.open(settings.kms_path, passphrase)
    _log.info("made a new KMS file", path=str(settings.kms_path))
    return kms


async def open_buckets(settings: Settings) -> tuple[S3Objects, S3Objects]:
    """Return the buckets of objects and of keys; raises ObjectsError unless both are there and fit."""
    objects = await _bucket(settings, settings.objects_bucket)
    return objects, await _bucket(settings, settings.keys_bucket)


async def _bucket(settings: Settings, name: str) -> S3Objects:
    store = open_store(
        endpoint=settings.s3_endpoint,
        access_key=settings.s3_access_key,
        secret_key=settings.s3_secret_key.get_secret_value(),
        region=settings.s3_region,
        bucket=name,
    )
    await store.require_bucket()
    await probe(store)
    return store
