"""Opens the buckets of objects and keys, and the KMS whose root keys wrap the keys."""

from __future__ import annotations

import time

import structlog

from salus.crypto.errors import KmsExistsError
from salus.crypto.file_kms import FileKms
from salus.crypto.key_cache import KeyCache
from salus.crypto.key_uri import TokenPlace
from salus.crypto.kms import Kms
from salus.crypto.kms_succession import KmsSuccession
from salus.objects import ObjectStore, S3Objects, open_store, probe
from salus.storage.adapters.metered_kms import MeteredKms
from salus.storage.adapters.transit_kms import TransitKms
from salus.storage.adapters.vault import holds_keys
from salus.storage.kms_places import KmsFile, KmsPlace, TransitPlace
from salus.storage.settings import Settings

_log = structlog.get_logger()


async def open_kms(settings: Settings, keys: ObjectStore) -> MeteredKms:
    """Open the KMS; a KMS file is made while there is no key yet that another one could have wrapped.

    Raises:
        KmsAwayError, KmsUnusableError: a KMS file is not there though there are keys, or does not open. Of
            another KMS nothing is asked yet: `check` does.
    """
    place = settings.kms_place()
    kms: Kms = await (_file(place, keys) if isinstance(place, KmsFile) else _opened(place, settings))
    if (previous := settings.previous_kms_place()) is not None:
        kms = KmsSuccession(kms, await _opened(previous, settings))
    cache = KeyCache(settings.kms_cache_s, clock=time.monotonic)
    return MeteredKms(kms, cache, settings.kms_deadline_s)


async def _opened(place: KmsPlace, settings: Settings) -> Kms:
    match place:
        case KmsFile():
            return await FileKms.open(place.path, place.secret())
        case TokenPlace():
            from salus.crypto.token_kms import TokenKms  # noqa: PLC0415  # only who has an HSM needs the library

            return TokenKms(place)
        case TransitPlace():
            return TransitKms(place, settings.kms_deadline_s)


async def _file(place: KmsFile, keys: ObjectStore) -> Kms:
    if place.path.exists() or await holds_keys(keys):
        return await FileKms.open(place.path, place.secret())
    try:
        kms = await FileKms.create(place.path, place.secret())
    except KmsExistsError:
        # Another replica was quicker.
        return await FileKms.open(place.path, place.secret())
    _log.info("made a new KMS file", path=str(place.path))
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
