"""Accounts of a MinIO server: each has a secret and a policy that names the buckets it may use, and how."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import urllib3
from minio.credentials.providers import StaticProvider
from minio.error import MinioAdminException
from minio.minioadmin import MinioAdmin

from salus.objects.admin import RETRIES_MAX, TIMEOUT_S
from salus.objects.answers import contained, error_of

_CODE = re.compile(r'"Code":\s*"([A-Za-z0-9._-]{1,64})"')


@dataclass(frozen=True)
class Accounts:
    """The accounts of one MinIO, made by its root; other stores have their own ways, such as IAM."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str

    async def ensure(self, name: str, secret: str, policy: Mapping[str, Any]) -> None:
        """Make the account, or give the one that exists this secret and this policy alone.

        Harmless to repeat. A crash midway leaves an account that may do nothing yet.

        Raises:
            RefusedError: the server knows no such request, or we are not its root.
            StoreAwayError: it does not answer.
        """

        def work() -> None:
            admin = self._admin()
            admin.policy_add(name, policy=dict(policy))
            admin.user_add(name, secret)
            admin.policy_set(name, user=name)

        with contained(f"account {name}"):
            try:
                await asyncio.to_thread(work)
            except MinioAdminException as error:
                raise error_of(f"account {name}", status=_status(error), code=_code(error)) from error

    def _admin(self) -> MinioAdmin:
        url = urlsplit(self.endpoint)
        return MinioAdmin(
            endpoint=url.netloc,
            credentials=StaticProvider(self.access_key, self.secret_key),
            region=self.region,
            secure=url.scheme == "https",
            http_client=urllib3.PoolManager(
                timeout=TIMEOUT_S, retries=urllib3.Retry(total=RETRIES_MAX, backoff_factor=0.2)
            ),
        )


def _status(error: MinioAdminException) -> int:
    return int(error._code)  # noqa: SLF001  # the client has no other way to ask


def _code(error: MinioAdminException) -> str:
    """Return the server's error code; of a page that is not MinIO's, none."""
    found = _CODE.search(error._body)  # noqa: SLF001  # as above
    return found[1] if found else ""
