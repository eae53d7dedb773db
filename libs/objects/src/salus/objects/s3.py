"""An S3 bucket over obstore: conditional writes, streams, and retries that know what a lost answer means."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from http import HTTPStatus
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import obstore
from obstore import exceptions as said
from obstore.store import S3Store

from salus.objects.admin import Admin
from salus.objects.answers import NO_BUCKET, code_in, error_of, status_in
from salus.objects.errors import (
    AlreadyExistsError,
    ChangedError,
    MissingBucketError,
    NotFoundError,
    RefusedError,
    StoreAwayError,
    TooLargeError,
)
from salus.objects.listing import Listing
from salus.objects.probe import PROBE_PREFIX
from salus.objects.retry import ATTEMPTS_MAX, BACKOFF_FIRST_S, BACKOFF_MAX_S, backoff_s
from salus.objects.store import (
    STREAM_CHUNK_BYTES,
    Entry,
    ObjectStore,
    OnStray,
    Stray,
    folder_of,
    is_key,
    require_key,
)

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult, PutMode

DEADLINE_S = 20.0
"""How long one operation may try before it raises StoreAwayError."""

PART_BYTES = 8 * 1024 * 1024
PARTS_IN_FLIGHT_MAX = 2


@dataclass(frozen=True)
class S3Objects(ObjectStore):
    """One bucket of an S3 store; made by `open_store`.

    `_steady` retries by itself and serves what may be repeated blindly. `_once` sends each request once, for
    conditional writes, where a repetition must first ask what became of the one before; whoever only reads
    never makes it.
    """

    bucket: str
    deadline_s: float
    _steady: S3Store
    _connect: Callable[[int], S3Store]
    _admin: Admin
    _listing: Listing

    @cached_property
    def _once(self) -> S3Store:
        return self._connect(1)

    async def get(self, key: str, *, bytes_max: int) -> bytes:
        """Return the object's bytes."""
        return (await self.get_with_etag(key, bytes_max=bytes_max))[0]

    async def get_with_etag(self, key: str, *, bytes_max: int) -> tuple[bytes, str]:
        """Return the object's bytes and its ETag."""
        with _translated(key):
            answer = await obstore.get_async(self._steady, require_key(key))
            # The size is what the answer says it will bring; HTTP ends it there.
            if answer.meta["size"] > bytes_max:
                raise TooLargeError(key, answer.meta["size"], bytes_max=bytes_max)
            etag = answer.meta["e_tag"] or ""
            return bytes(await answer.bytes_async()), etag

    async def stream(self, key: str, *, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Yield the object's bytes in pieces."""
        if end is not None and start >= end:
            return
        with _translated(key):
            answer = await self._answer(require_key(key), start, end)
            if answer is None:
                return
            async for chunk in answer.stream(min_chunk_size=STREAM_CHUNK_BYTES):
                if chunk:
                    yield bytes(chunk)

    async def _answer(self, key: str, start: int, end: int | None) -> GetResult | None:
        """Begin to read; None if the object ends before `start`."""
        if start == 0 and end is None:
            return await obstore.get_async(self._steady, key)
        wanted: GetOptions = {"range": {"offset": start} if end is None else (start, end)}
        try:
            return await obstore.get_async(self._steady, key, options=wanted)
        except said.BaseError as error:
            if status_in(str(error)) == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return None
            raise

    async def head(self, key: str) -> Entry:
        """Return the object's size and ETag."""
        with _translated(key):
            meta = await obstore.head_async(self._steady, require_key(key))
        return Entry(key=key, size=meta["size"], etag=meta["e_tag"] or "")

    async def put(self, key: str, data: bytes) -> str:
        """Write the object, over what was there."""
        with _translated(key, writing=True):
            result = await obstore.put_async(
                self._steady,
                require_key(key),
                data,
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_IN_FLIGHT_MAX,
            )
        return result["e_tag"] or ""

    async def put_stream(self, key: str, chunks: AsyncIterable[bytes]) -> str:
        """Write the object from pieces, in parts of PART_BYTES."""
        source = _Remembering(chunks)
        try:
            with _translated(key, writing=True):
                result = await obstore.put_async(
                    self._steady,
                    require_key(key),
                    source.pieces(),
                    use_multipart=True,
                    chunk_size=PART_BYTES,
                    max_concurrency=PARTS_IN_FLIGHT_MAX,
                )
        except Exception:
            # What the caller's own iterator raised is the caller's to see, not our translation of it.
            if source.error is not None:
                raise source.error from None
            raise
        return result["e_tag"] or ""

    async def create(self, key: str, data: bytes) -> str:
        """Write the object unless the key is taken by other bytes."""
        etag = await self._write_if(key, data, mode="create")
        if etag is None:
            raise AlreadyExistsError(key)
        return etag

    async def replace(self, key: str, data: bytes, etag: str) -> str:
        """Write the object if it still has this ETag."""
        written = await self._write_if(key, data, mode={"e_tag": etag})
        if written is None:
            raise ChangedError(key)
        return written

    async def time(self) -> datetime | None:
        """Return the `Date` of an answer; a refusal has one as well."""
        return await self._listing.time()

    async def list(
        self, prefix: str = "", start_after: str = "", *, on_stray: OnStray
    ) -> AsyncIterator[Entry]:
        """Yield the objects below a folder, page by page."""
        async for page in self._listing.pages(folder_of(prefix), start_after):
            for entry in page:
                if is_key(entry.key):
                    yield entry
                else:
                    on_stray(Stray(entry.key, entry.size))

    async def delete(self, key: str) -> None:
        """Remove the object."""
        try:
            with _translated(key):
                await obstore.delete_async(self._steady, require_key(key))
        except NotFoundError:
            return

    async def destroy(self, key: str) -> None:
        """Remove every version of the object."""
        await self._admin.destroy(self.bucket, require_key(key))

    async def presigned(self, key: str, method: Literal["GET", "PUT"], *, lifetime_s: float) -> str:
        """Return a URL by which anybody reads or writes the object for so long, without these credentials."""
        with _translated(key):
            return await obstore.sign_async(
                self._steady, method, require_key(key), expires_in=timedelta(seconds=lifetime_s)
            )

    async def require_bucket(self) -> None:
        """Return if the bucket exists and we may look into it; cheap, for whoever asks every few seconds.

        Raises:
            MissingBucketError: it does not exist.
            RefusedError: these credentials are wrong, or may not see it.
            StoreAwayError: the store does not answer.
        """
        try:
            async for _ in self.list(PROBE_PREFIX, on_stray=lambda _: None):
                return
        except RefusedError as error:
            if error.reason == NO_BUCKET:
                raise MissingBucketError(self.bucket) from None
            raise RefusedError(f"bucket {self.bucket}", error.reason) from error

    async def _write_if(self, key: str, data: bytes, *, mode: PutMode) -> str | None:
        """Write under a condition and return the ETag, or None if the condition failed.

        A crash or a lost answer leaves either the old state or the whole new object.
        """
        require_key(key)
        give_up_at = time.monotonic() + self.deadline_s
        for attempt in range(ATTEMPTS_MAX):
            try:
                with _translated(key, writing=True, conditional=True):
                    result = await obstore.put_async(self._once, key, data, mode=mode, use_multipart=False)
                return result["e_tag"] or ""
            except (AlreadyExistsError, ChangedError):
                found = await self._find(key, data)
                if found is not None:
                    return found or None
                if mode != "create":
                    return None
                # Taken a moment ago and free now: a rival's write did not last. Ours may.
            except StoreAwayError:
                if attempt + 1 == ATTEMPTS_MAX or time.monotonic() >= give_up_at:
                    raise
            await asyncio.sleep(backoff_s(attempt))
        raise StoreAwayError(key, "the key was taken and free again too many times")

    async def _find(self, key: str, data: bytes) -> str | None:
        """Return the object's ETag if it has exactly these bytes, "" if others; None if there is none."""
        try:
            found, etag = await self.get_with_etag(key, bytes_max=len(data))
        except NotFoundError:
            return None
        except TooLargeError:
            return ""
        return etag if found == data else ""


def arrives_whole(endpoint: str) -> bool:
    """Tell whether what is sent there arrives as it is or not at all: over TLS, or within this machine.

    Anywhere else each payload is signed too, so that neither the wire nor anyone on it changes it unseen.
    """
    url = urlsplit(endpoint)
    host = url.hostname or ""
    try:
        return url.scheme == "https" or ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def open_store(  # noqa: PLR0913  # the five facts of an S3 bucket, and patience
    *,
    endpoint: str,
    access_key: str,
    secret_key: str,
    region: str,
    bucket: str,
    deadline_s: float = DEADLINE_S,
) -> S3Objects:
    """Return the bucket. Nothing is sent yet and nothing needs closing.

    `endpoint` is a URL such as http://127.0.0.1:9000. `deadline_s` limits each operation, in seconds.
    """

    def connect(attempts_max: int) -> S3Store:
        return S3Store(
            bucket,
            endpoint=endpoint,
            access_key_id=access_key,
            secret_access_key=secret_key,
            region=region,
            virtual_hosted_style_request=False,
            # SHA-256 of every payload costs both sides more than sending it.
            unsigned_payload=arrives_whole(endpoint),
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=min(5.0, deadline_s)),
                "timeout": timedelta(minutes=10),
                "read_timeout": timedelta(seconds=deadline_s),
            },
            retry_config={
                "max_retries": attempts_max - 1,
                "retry_timeout": timedelta(seconds=deadline_s),
                "backoff": {
                    "init_backoff": timedelta(seconds=BACKOFF_FIRST_S),
                    "max_backoff": timedelta(seconds=BACKOFF_MAX_S),
                    "base": 2,
                },
            },
        )

    admin = Admin(endpoint=endpoint, access_key=access_key, secret_key=secret_key, region=region)
    return S3Objects(
        bucket=bucket,
        deadline_s=deadline_s,
        _steady=connect(ATTEMPTS_MAX),
        _connect=connect,
        _admin=admin,
        _listing=Listing(endpoint, access_key, secret_key, region, bucket, deadline_s),
    )


class _Remembering:
    """Passes pieces on and remembers the error that ended them."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks = chunks
        self.error: BaseException | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._chunks:
                if chunk:
                    yield chunk
        except BaseException as error:
            self.error = error
            raise


@contextmanager
def _translated(key: str, *, writing: bool = False, conditional: bool = False) -> Iterator[None]:
    """Turn obstore's errors into ours; the store's own words stay in the cause."""
    try:
        yield
    except said.AlreadyExistsError as error:
        # Of a write without a condition 409 says that another request is under way (OperationAborted).
        raise (AlreadyExistsError(key) if conditional else StoreAwayError(key, "conflict")) from error
    except said.PreconditionError as error:
        raise ChangedError(key) from error
    except (FileNotFoundError, said.NotFoundError) as error:
        # The answer to a HEAD has no body, so a missing bucket looks there as a missing object does.
        if code_in(str(error)) == "NoSuchBucket":
            raise error_of(key, status=404, code="NoSuchBucket") from error
        if not writing:
            raise NotFoundError(key) from error
        # An unconditional write meets 404 when the upload was completed, and the answer to that was lost.
        raise (ChangedError(key) if conditional else StoreAwayError(key, "unknown upload")) from error
    except (said.PermissionDeniedError, said.UnauthenticatedError) as error:
        code = code_in(str(error)) or "AccessDenied"
        raise error_of(key, status=403, code=code) from error
    except said.InvalidPathError as error:
        raise RefusedError(key, "not a key that can be sent") from error
    except said.BaseError as error:
        text = str(error)
        status, code = status_in(text), code_in(text)
        if status is not None or code:
            raise error_of(key, status=status, code=code) from error
        raise StoreAwayError(key, type(error).__name__) from error
