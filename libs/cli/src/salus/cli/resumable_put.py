"""Stores a file by an upload that resumes, also after this process ended: where it is stands in a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec

from salus.cli.callers import ANSWER_BYTES_MAX, CALL_S_MAX, RefusedError, advised, refusal, signing
from salus.cli.exits import CommandError, Exit
from salus.cli.state import require_service
from salus.cli.transfer_bar import transfer_bar
from salus.client.bounded_http import bounded_client
from salus.client.uploads import (
    NewObject,
    ResumableUpload,
    UploadAwayError,
    UploadRefusedError,
    require_place,
)
from salus.crypto.private_files import write_private
from salus.devkit.platform import Platform
from salus.events.accountability import TRANSFER_S_MAX
from salus.events.did import LocalSigner

CHUNK_BYTES = 256 * 1024
GONE = frozenset({httpx.codes.NOT_FOUND, httpx.codes.GONE})


class Begun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An upload that was begun, and which file it is of."""

    url: str
    patient: str
    object: str
    size: int
    changed_ns: int


@dataclass(frozen=True)
class FileSource:
    """The bytes of a file, which must not change while it is sent."""

    path: Path
    size: int
    changed_ns: int

    @classmethod
    def of(cls, path: Path) -> FileSource:
        """Return a file as it is now."""
        facts = path.stat()
        return cls(path, facts.st_size, facts.st_mtime_ns)

    async def pieces(self, start: int) -> AsyncIterator[bytes]:
        """Yield its bytes from a place on; raises CommandError before the last ones if it changed."""
        with self.path.open("rb") as file:
            read = file.seek(start)
            while piece := file.read(CHUNK_BYTES):
                read += len(piece)
                # With the last bytes it is stored.
                if read >= self.size:
                    self._require_same()
                yield piece
        self._require_same()

    def _require_same(self) -> None:
        if FileSource.of(self.path) != self:
            raise CommandError(Exit.NO, "the file changed while it was sent; it is not stored")


def read_begun(resume: Path | None, source: FileSource, *, patient: str) -> Begun | None:
    """Return the upload that stands in a file, if any; raises CommandError if it is of other content."""
    if resume is None or not resume.exists():
        return None
    try:
        begun = msgspec.json.decode(resume.read_bytes(), type=Begun)
        # To another address the whole file would go.
        require_place(begun.url)
    except (OSError, ValueError) as error:
        raise CommandError(Exit.USAGE, f"--resume: {resume} is no upload: remove it") from error
    if (begun.size, begun.changed_ns, begun.patient) != (source.size, source.changed_ns, patient):
        why = f"--resume: the upload in {resume} is of another file or patient, or the file changed since"
        raise CommandError(Exit.USAGE, f"{why}: remove {resume} to begin again")
    return begun


async def put_resumably(  # what is stored, as whom, and where it is kept how far it is
    platform: Platform,
    signer: LocalSigner,
    source: FileSource,
    new: NewObject,
    begun: Begun | None,
    resume: Path,
    *,
    decide: Callable[[], Awaitable[str]] | None,
) -> dict[str, Any]:
    """Store a file; what storage has of it already is not sent again.

    Raises:
        CommandError: storage refuses it, or is away for too long; then the same command goes on.
    """
    # The last answer comes once storage has read and sealed the whole object.
    url, auth = (
        require_service(platform, "storage"),
        signing(signer, "storage", platform.network, stream=True),
    )
    timeout = httpx.Timeout(CALL_S_MAX, write=None, read=TRANSFER_S_MAX)
    later = f"go on later with --resume {resume}"
    try:
        async with bounded_client(ANSWER_BYTES_MAX, trust_env=False, base_url=url, timeout=timeout) as http:
            with transfer_bar("storing", source.size) as advance:
                shown = 0

                def tell(durable: int) -> None:
                    nonlocal shown
                    advance(durable - shown)
                    shown = durable

                upload = ResumableUpload(http, begun.url if begun else "", auth, decide, tell)
                if begun is None or begun.object != new.object or await _is_gone(upload):
                    upload = await upload.begin(new, source.size)
                    made = Begun(upload.url, new.patient, new.object, source.size, source.changed_ns)
                    write_private(resume, msgspec.json.encode(made))
                answer = await upload.send(source)
    except UploadRefusedError as refused:
        raise _told(refused.answer) from None
    except (UploadAwayError, httpx.TransportError) as error:
        raise CommandError(Exit.NOT_RUNNING, f"storage does not answer: {error}; {later}") from error
    await asyncio.to_thread(resume.unlink, missing_ok=True)
    return {"object": new.object, "patient": new.patient, "receipt": answer.headers.get("salus-receipt", "")}


async def _is_gone(upload: ResumableUpload) -> bool:
    """Tell whether an upload's time is over, so that it begins again."""
    try:
        await upload.offset()
    except UploadRefusedError as refused:
        if refused.answer.status_code in GONE:
            return True
        raise
    return False


def _told(answer: httpx.Response) -> CommandError:
    error = refusal("storage", answer)
    return advised(error) if isinstance(error, RefusedError) else error
