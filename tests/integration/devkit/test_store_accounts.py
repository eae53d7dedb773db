"""What each account may do in a real MinIO, and what it may not.

Cases deploy.md, and security.md, low: one credential for all.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from salus.devkit.addresses import Addresses
from salus.devkit.network import create_buckets
from salus.devkit.store_accounts import StoreSecrets, access, bucket_names
from salus.objects import Accounts, Admin, RefusedError, S3Objects, open_store, probe, refuse_stray

# Written by hand, apart from the table that is tested: everything else must be refused.
MAY: dict[str, dict[str, set[str]]] = {
    "sequencer": {"ledger": {"list", "read", "add"}},
    # The buckets that may be written have no versions: there to destroy is to remove.
    "anchoring": {"ledger": {"list", "read"}, "log": {"list", "read", "add", "remove", "destroy"}},
    "storage": {
        "objects": {"list", "read", "add", "remove", "destroy"},
        "keys": {"list", "read", "add", "remove", "destroy"},
    },
    "audit": {"ledger": {"list", "read"}},
    "reader": {"ledger": {"list", "read"}, "log": {"list", "read"}},
}
OPERATIONS = ("list", "read", "add", "remove", "destroy")


class Store:
    """Buckets of their own on the shared MinIO, seen by its root or by an account."""

    def __init__(self, parts: Addresses, folder: Path) -> None:
        self.s3 = parts.s3
        self.secrets = StoreSecrets(folder)
        self.names: dict[str, str] = {bucket: f"{bucket}-{uuid4().hex[:8]}" for bucket in bucket_names()}

    def facts(self, account: str | None) -> dict[str, Any]:
        seen = self.s3 if account is None else self.secrets.s3(account, self.s3)
        return {
            "endpoint": seen.endpoint,
            "access_key": seen.access_key,
            "secret_key": seen.secret_key,
            "region": seen.region,
        }

    def bucket(self, bucket: str, account: str | None) -> S3Objects:
        return open_store(**self.facts(account), bucket=self.names[bucket], deadline_s=10)

    async def install(self) -> None:
        await self.secrets.install(Accounts(**self.facts(None)), self.names)


@pytest.fixture
async def store(parts: Addresses, tmp_path: Path) -> Store:
    made = Store(parts, tmp_path)
    made.secrets.create()
    await create_buckets(Admin(**made.facts(None)), made.names)
    await made.install()
    return made


async def allowed(work: Callable[[], Awaitable[object]]) -> bool:
    try:
        await work()
    except RefusedError:
        return False
    return True


async def done_by(store: Store, account: str, bucket: str) -> set[str]:
    root, seen = store.bucket(bucket, None), store.bucket(bucket, account)
    for name in ("read", "remove", "destroy"):
        await root.put(f"blocks/{account}-{name}", b"a block")

    async def listed() -> None:
        async for _ in seen.list("blocks", on_stray=refuse_stray):
            return

    operations: dict[str, Callable[[], Awaitable[object]]] = {
        "list": listed,
        "read": lambda: seen.get(f"blocks/{account}-read", bytes_max=1 << 30),
        "add": lambda: seen.create(f"blocks/{account}-add", b"another block"),
        "remove": lambda: seen.delete(f"blocks/{account}-remove"),
        "destroy": lambda: seen.destroy(f"blocks/{account}-destroy"),
    }
    assert tuple(operations) == OPERATIONS
    return {name for name, work in operations.items() if await allowed(work)}


@pytest.mark.parametrize("account", MAY)
async def test_an_account_may_do_what_its_service_does_and_nothing_else(store: Store, account: str) -> None:
    found = {bucket: await done_by(store, account, bucket) for bucket in bucket_names()}

    assert found == {bucket: MAY[account].get(bucket, set()) for bucket in bucket_names()}


async def test_every_account_is_tried() -> None:
    assert set(MAY) == set(access())


@pytest.mark.parametrize(
    ("account", "bucket"),
    [("sequencer", "ledger"), ("anchoring", "log"), ("storage", "objects"), ("storage", "keys")],
)
async def test_a_service_can_probe_its_bucket_at_start(store: Store, account: str, bucket: str) -> None:
    seen = store.bucket(bucket, account)
    await seen.require_bucket()
    await probe(seen)

    assert [entry async for entry in store.bucket(bucket, None).list("_salus", on_stray=refuse_stray)] == []


@pytest.mark.parametrize("account", MAY)
async def test_no_account_makes_buckets_or_accounts(store: Store, account: str) -> None:
    facts = store.facts(account)

    with pytest.raises(RefusedError):
        await Admin(**facts).ensure_bucket(f"mine-{uuid4().hex[:8]}")
    with pytest.raises(RefusedError):
        await Accounts(**facts).ensure(f"salus-{account}", "another-secret", {"Version": "2012-10-17"})


async def test_a_secret_that_changed_replaces_the_old_one(store: Store, tmp_path: Path) -> None:
    old = store.bucket("ledger", "audit")
    (tmp_path / "audit" / "secret-key").write_text("a-secret-of-another-day")
    await store.install()
    await store.install()

    await store.bucket("ledger", "audit").require_bucket()
    with pytest.raises(RefusedError):
        await old.require_bucket()
