"""Lists a bucket with whatever keys it has.

An S3 key is any UTF-8 up to 1024 bytes. obstore refuses a whole page for one key with a line break, and
lists `a/` as `a`, so this module asks by itself. minio signs the request. XML cannot carry every character,
so keys come with `encoding-type=url`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cached_property
from hashlib import sha256
from http import HTTPStatus
from urllib.parse import SplitResult, quote, unquote_plus, urlsplit
from xml.etree import ElementTree as ET

import urllib3
from minio.credentials.credentials import Credentials
from minio.signer import sign_v4_s3

from salus.objects.answers import code_in, contained, error_of
from salus.objects.errors import StoreAwayError
from salus.objects.retry import ATTEMPTS_MAX, backoff_s
from salus.objects.store import Entry

PAGE_KEYS_MAX = 1000
PAGE_BYTES_MAX = 16 * 1024 * 1024
_EMPTY_SHA256 = sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class _Page:
    entries: list[Entry]
    token: str | None


@dataclass(frozen=True)
class Listing:
    """Lists one bucket; each request runs in a thread, and is repeated for `deadline_s` seconds at most."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str
    bucket: str
    deadline_s: float

    async def pages(self, folder: str, start_after: str) -> AsyncIterator[list[Entry]]:
        """Yield the objects whose keys begin with `folder`, page by page; keys are as the store has them.

        Raises:
            RefusedError, StoreAwayError: the listing ends here; what was yielded is right.
        """
        query = {
            "list-type": "2",
            "encoding-type": "url",
            "max-keys": str(PAGE_KEYS_MAX),
            "prefix": folder,
        }
        if start_after:
            query["start-after"] = start_after
        token: str | None = None
        while True:
            page = await self._page(folder, query | ({"continuation-token": token} if token else {}))
            yield page.entries
            token = page.token
            if token is None:
                return

    async def time(self) -> datetime | None:
        """Return the `Date` of an answer to a request without a signature, whatever the answer is.

        Raises:
            StoreAwayError: there is none.
        """
        with contained(""):
            answer = await asyncio.to_thread(
                self._pool.request, "HEAD", f"{self.endpoint.rstrip('/')}/{self.bucket}"
            )
        try:
            return parsedate_to_datetime(answer.headers.get("Date", "")).astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    async def _page(self, folder: str, query: Mapping[str, str]) -> _Page:
        give_up_at = time.monotonic() + self.deadline_s
        for attempt in range(ATTEMPTS_MAX):
            try:
                with contained(folder):
                    return await asyncio.to_thread(self._ask, folder, query)
            except StoreAwayError:
                if attempt + 1 == ATTEMPTS_MAX or time.monotonic() >= give_up_at:
                    raise
            await asyncio.sleep(backoff_s(attempt))
        raise AssertionError("the last attempt returns or raises")

    def _ask(self, folder: str, query: Mapping[str, str]) -> _Page:
        text = "&".join(f"{name}={quote(query[name], safe='')}" for name in sorted(query))
        url = urlsplit(f"{self.endpoint.rstrip('/')}/{self.bucket}?{text}")
        answer = self._pool.request("GET", url.geturl(), headers=self._signed(url), preload_content=False)
        data = answer.read(PAGE_BYTES_MAX)
        if answer.read(1):
            answer.close()
            raise StoreAwayError(folder, f"a page of more than {PAGE_BYTES_MAX} bytes")
        answer.release_conn()
        if answer.status != HTTPStatus.OK:
            code = code_in(data.decode(errors="replace"))
            raise error_of(folder, status=answer.status, code=code)
        return _read(folder, data)

    def _signed(self, url: SplitResult) -> dict[str, str]:
        now = datetime.now(UTC)
        headers = {
            "Host": url.netloc,
            "x-amz-content-sha256": _EMPTY_SHA256,
            "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
        }
        signed = sign_v4_s3(
            method="GET",
            url=url,
            region=self.region,
            headers=dict(headers),
            credentials=Credentials(self.access_key, self.secret_key),
            content_sha256=_EMPTY_SHA256,
            date=now,
        )
        return headers | {"Authorization": str(signed["Authorization"])}

    @cached_property
    def _pool(self) -> urllib3.PoolManager:
        timeout = urllib3.Timeout(connect=min(5.0, self.deadline_s), read=self.deadline_s)
        return urllib3.PoolManager(timeout=timeout, retries=False)


def _read(folder: str, data: bytes) -> _Page:
    """Read a ListBucketResult; raises StoreAwayError if it is something else, as a proxy may answer."""
    try:
        fields, objects = _members(ET.fromstring(data))  # noqa: S314  # expat limits what entities expand to
        encoded = fields.get("EncodingType") == "url"
        entries = [
            Entry(
                key=unquote_plus(of["Key"], errors="surrogateescape") if encoded else of["Key"],
                size=int(of["Size"]),
                etag=of.get("ETag", ""),
            )
            for of in objects
        ]
        more = fields["IsTruncated"] == "true"
        return _Page(entries, fields["NextContinuationToken"] if more else None)
    except (ET.ParseError, LookupError, ValueError) as error:
        raise StoreAwayError(folder, f"its listing cannot be read: {type(error).__name__}") from error


def _members(root: ET.Element) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Return the fields of a listing and those of each object in it, by names without their namespace."""
    fields: dict[str, str] = {}
    objects = []
    for child in root:
        name = child.tag.rpartition("}")[2]
        if name == "Contents":
            objects.append({of.tag.rpartition("}")[2]: of.text or "" for of in child})
        else:
            fields[name] = child.text or ""
    return fields, objects
