"""Who may do what in the object store: one account for each service that uses it, and one that only reads.

Whoever takes over a service gets its account, and with it no more than the service's manifest says: audit
cannot write a block, and only storage sees the keys of patients.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from salus.crypto.private_files import write_private
from salus.crypto.text_files import read_text_file
from salus.devkit.addresses import S3
from salus.devkit.errors import DevkitError
from salus.runtime.manifests import Right, services

if TYPE_CHECKING:
    from salus.objects import Accounts

# Whose account belongs to no service: who verifies everything as an outsider does.
READER = "reader"
OF_READER: Mapping[str, Right] = {"ledger": Right.READ, "log": Right.READ}
# The probe of a store at start writes there and removes what it wrote (salus.objects.probe).
_PROBES = "_salus/probe/*"
_SECRET_BYTES = 30


_READING = ("s3:GetBucketLocation", "s3:ListBucket")
_UPLOADING = ("s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts")
_OF_BUCKET: Mapping[Right, tuple[str, ...]] = {
    Right.READ: _READING,
    Right.APPEND: (*_READING, "s3:ListBucketVersions"),
    Right.WRITE: _READING,
    Right.ERASE: (*_READING, "s3:ListBucketVersions"),
}
_OF_OBJECTS: Mapping[Right, tuple[str, ...]] = {
    Right.READ: ("s3:GetObject",),
    Right.APPEND: ("s3:GetObject", *_UPLOADING),
    Right.WRITE: ("s3:GetObject", *_UPLOADING, "s3:DeleteObject"),
    Right.ERASE: ("s3:GetObject", *_UPLOADING, "s3:DeleteObject", "s3:DeleteObjectVersion"),
}


def bucket_names() -> dict[str, str]:
    """Return every bucket, with what it is called unless an operator says otherwise."""
    return {bucket: f"salus-{bucket}" for manifest in services() for bucket in manifest.buckets}


def locked_buckets() -> frozenset[str]:
    """Return the buckets that are made with object lock: those that somebody may only append to."""
    return frozenset(
        bucket
        for manifest in services()
        for bucket, right in manifest.buckets.items()
        if right is Right.APPEND
    )


def access() -> dict[str, Mapping[str, Right]]:
    """Return every account, and what it may do in which bucket; what is not there, it may not do."""
    own = {manifest.name: manifest.buckets for manifest in services() if manifest.buckets}
    return {**own, READER: OF_READER}


def policy_of(account: str, buckets: Mapping[str, str]) -> dict[str, Any]:
    """Return the policy of an account in the language of AWS IAM, which MinIO speaks as well."""
    statements = []
    for bucket, right in access()[account].items():
        arn = f"arn:aws:s3:::{buckets[bucket]}"
        statements.append(_allow(_OF_BUCKET[right], arn))
        statements.append(_allow(_OF_OBJECTS[right], f"{arn}/*"))
        if right is Right.APPEND:
            statements.append(_allow(("s3:DeleteObject", "s3:DeleteObjectVersion"), f"{arn}/{_PROBES}"))
    return {"Version": "2012-10-17", "Statement": statements}


def _allow(actions: tuple[str, ...], resource: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions), "Resource": [resource]}


@dataclass(frozen=True, slots=True)
class StoreSecrets:
    """One folder for each account, with `access-key` and `secret-key`, as Kubernetes mounts a Secret."""

    folder: Path

    def create(self) -> None:
        """Make a random secret for each account that has none."""
        for account in access():
            secret = secrets.token_urlsafe(_SECRET_BYTES)
            for name, text in (("access-key", f"salus-{account}"), ("secret-key", secret)):
                with suppress(FileExistsError):
                    write_private(self.folder / account / name, text.encode(), fresh=True)

    def read(self, account: str) -> tuple[str, str]:
        """Return access key and secret key of an account.

        Raises:
            DevkitError: there is none.
        """
        place = self.folder / account
        try:
            access, secret = (
                read_text_file(place / name).decode().strip() for name in ("access-key", "secret-key")
            )
        except (OSError, UnicodeDecodeError) as error:
            raise DevkitError(f"there are no keys of the account {account} in {place}") from error
        return access, secret

    def s3(self, account: str, store: S3) -> S3:
        """Return the store as the account sees it."""
        access, secret = self.read(account)
        return S3(store.endpoint, access, secret, store.region)

    async def install(self, accounts: Accounts, buckets: Mapping[str, str]) -> None:
        """Make every account in a MinIO, with its secret and its policy; harmless to repeat.

        Raises:
            DevkitError: an account has no secret here.
            ObjectsError: MinIO refuses or does not answer.
        """
        for account in access():
            name, secret = self.read(account)
            await accounts.ensure(name, secret, policy_of(account, buckets))
