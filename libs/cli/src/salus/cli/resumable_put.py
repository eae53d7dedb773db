"""Stores a file by an upload that resumes, also after this process ended: where it is stands in a file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

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
    UploadLengthError,
    UploadRefusedError,
    code_of,
    require_place,
)
from salus.crypto.private_files import write_private
from salus.devkit.platform import Platform
from salus.events.accountability import TRANSFER_S_MAX
from salus.events.did import LocalSigner

CHUNK_BYTES = 256 * 1024
GONE = frozenset({httpx.codes.NOT_FOUND, httpx.codes.GONE})
# Codes of an upload that no going on completes any more.
SPOILT = frozenset({"upload-corrupt", "too-many-parts"})


class Begun(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An upload that was begun, as what, and which file it is of."""

    url: str
    patient: str
    object: str
    media_type: str
    size: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, url: str, new: NewObject, source: FileSource) -> Begun:
        """Return an upload of a file as it is."""
        facts = source.size, source.changed_ns, source.inode
        return cls(url, new.patient, new.object, new.media_type, *facts)


@dataclass(frozen=True)
class FileSource:
    """The bytes of a file, which must not change while it is sent.

    Files that were unpacked together may all have one size and one time, so it is told by its inode as well.
    """

    path: Path
    size: int
    changed_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> FileSource:
        """Return a file as it is now."""
        facts = path.stat()
        return cls(path, facts.st_size, facts.st_mtime_ns, facts.st_ino)

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
        # To another address the whole file would go, and to another upload as another object.
        require_place(begun.url)
        if parse_qs(urlsplit(begun.url).query) != {"patient": [begun.patient], "object": [begun.object]}:
            raise ValueError("it is of another object")  # noqa: TRY301  # one answer to all that is wrong
    except (OSError, ValueError) as error:
        raise CommandError(Exit.USAGE, f"--resume: {resume} is no upload: name another file") from error
    of = (begun.size, begun.changed_ns, begun.inode, begun.patient)
    if of != (source.size, source.changed_ns, source.inode, patient):
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
                if begun is None or begun != Begun.of(begun.url, new, source) or await _is_gone(upload):
                    upload = await upload.begin(new, source.size)
                    write_private(resume, msgspec.json.encode(Begun.of(upload.url, new, source)))
                answer = await upload.send(source)
    except UploadRefusedError as refused:
        raise _told(refused.answer, resume) from None
    except UploadLengthError as error:
        raise CommandError(Exit.USAGE, f"--resume: {error}: remove {resume} to begin again") from None
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


def _told(answer: httpx.Response, resume: Path) -> CommandError:
    error = refusal("storage", answer)
    if code_of(answer) in SPOILT:
        return CommandError(error.code, f"{error}; remove {resume} to begin again")
    return advised(error) if isinstance(error, RefusedError) else error
