"""Refuse, at start, a store on which nothing could be kept safe."""

from __future__ import annotations

import secrets

from salus.objects.errors import AlreadyExistsError, ChangedError, RefusedError, UnfitStoreError
from salus.objects.store import ObjectStore

PROBE_PREFIX = "_salus/probe"


async def probe(store: ObjectStore) -> None:
    """Return if the store honours create-once and compare-and-swap; the probe object is removed again.

    Raises:
        UnfitStoreError: it overwrites where it must refuse.
        RefusedError: it refuses us altogether.
        StoreAwayError: it does not answer.
    """
    key = f"{PROBE_PREFIX}/{secrets.token_hex(8)}"
    try:
        etag = await store.create(key, b"first")
        await _require_create_once(store, key)
        await store.replace(key, b"third", etag)
        await _require_compare_and_swap(store, key, etag)
    finally:
        await _remove(store, key)


async def _remove(store: ObjectStore, key: str) -> None:
    try:
        await store.destroy(key)
    except RefusedError:
        # Under a default retention the versions stay until it ends; they are a few bytes.
        await store.delete(key)


async def _require_create_once(store: ObjectStore, key: str) -> None:
    try:
        await store.create(key, b"second")
    except AlreadyExistsError:
        return
    raise UnfitStoreError("it ignores If-None-Match: *")


async def _require_compare_and_swap(store: ObjectStore, key: str, old_etag: str) -> None:
    try:
        await store.replace(key, b"fourth", old_etag)
    except ChangedError:
        return
    raise UnfitStoreError("it ignores If-Match")
