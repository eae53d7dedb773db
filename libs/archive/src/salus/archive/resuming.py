"""What an interrupted fsck need not read again, and exactly when.

A run that goes on does everything anew but one thing: checkpoint, tiles, entries, listing and every header
are read and verified, order, succession and coverage are checked. Only the bodies of a stretch are not read
again if the interrupted run found all of them whole, the stretch's headers are the same bytes, and the store
lists its objects with the same keys, sizes and ETags; in a deep run, if also the identity events that could
be read are the same. A deep run reads bodies with records of consent and storage all the same, for what
rights rest on, and judges no signature of them again. So the answer is: each body was as signed at some
moment since the interrupted run began. What changes under an ETag that stays is found by the next whole run.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Protocol

import msgspec

from salus.archive.check_blocks import Checked, Span
from salus.archive.check_log import LogState
from salus.archive.log import CHECKPOINT_KEY
from salus.archive.report import Finding
from salus.archive.trust import Trust
from salus.ledger.tiles import CompactRange

FORMAT = "salus-fsck/2"
# What was seen longer ago says too little about now.
AGE_MAX = timedelta(days=7)


class Memory(Protocol):
    """What was checked before. `mark` is a digest of how the store lists a stretch's objects."""

    def begin(self, log: LogState) -> list[Finding]:
        """Take note of the log, once it was checked; return where it contradicts what is remembered."""

    def recall(self, span: Span, mark: bytes) -> bytes | None:
        """Return the digest of the headers with which the stretch's bodies were whole.

        None: they must be read; b"": they need not be, whatever the headers are.
        """

    def remember(self, mark: bytes, checked: Checked) -> None:
        """Take note of what a stretch came to."""


Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
"""A SHA-256 in hexadecimal."""


class Begun(msgspec.Struct, frozen=True):
    """First line of the file: what is checked, since when, and under which checkpoint."""

    format: str
    subject: str
    began: Annotated[datetime, msgspec.Meta(tz=True)]
    size: Annotated[int, msgspec.Meta(ge=0)]
    root: Digest


class Whole(msgspec.Struct, frozen=True):
    """Every further line: a stretch without findings.

    Another run at the same time may begin the file anew under us: `began` says whose line it is.
    """

    began: Annotated[datetime, msgspec.Meta(tz=True)]
    span: Span
    mark: Digest
    headers: Digest


class FileMemory:
    """Remembers in a file that only its user may write; whoever may write it could as well replace fsck.

    `since` is when the run began whose results were taken over, None if there is none. `unreadable` says why
    a file that is there was not gone by.
    """

    def __init__(self, path: Path, *, subject: str, resume: bool, now: datetime) -> None:
        self._path = path
        self._subject = subject
        self._now = now
        self._known: dict[Span, Whole] = {}
        self._begun: Begun | None = None
        self.unreadable: str | None = None
        if resume:
            self._read()

    @property
    def since(self) -> datetime | None:
        """When the run began that goes on."""
        return self._begun.began if self._begun else None

    def begin(self, log: LogState) -> list[Finding]:
        """Compare the log with the checkpoint of the interrupted run; forget that run if they differ."""
        findings = []
        if self._begun is not None and not _extends(log, self._begun):
            detail = f"it does not extend the checkpoint of size {self._begun.size} of the interrupted run"
            findings.append(
                Finding(
                    severity="error", code="log-rewritten", bucket="log", key=CHECKPOINT_KEY, detail=detail
                )
            )
            self._begun = None
            self._known.clear()
        if self._begun is None and log.checkpoint is not None:
            root = log.checkpoint.root.hex()
            self._write(Begun(FORMAT, self._subject, self._now, log.checkpoint.size, root), truncate=True)
        return findings

    def recall(self, span: Span, mark: bytes) -> bytes | None:
        """Return the digest of the headers if the store lists the stretch as it did."""
        known = self._known.get(span)
        return bytes.fromhex(known.headers) if known and known.mark == mark.hex() else None

    def remember(self, mark: bytes, checked: Checked) -> None:
        """Append a line for a stretch without findings; what a crash cuts off is not remembered."""
        whole = Whole(self.since or self._now, checked.span, mark.hex(), checked.headers.hex())
        if not checked.findings and self._known.get(whole.span) != whole:
            self._known[whole.span] = whole
            self._write(whole)

    def finish(self) -> None:
        """Forget everything: the run came to its end."""
        self._path.unlink(missing_ok=True)

    def _read(self) -> None:
        try:
            first, *others = self._path.read_bytes().split(b"\n")
            begun = msgspec.json.decode(first, type=Begun)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is cut off or none of ours"
            self.unreadable = f"the state file {self._path} of the interrupted run cannot be read: {why}"
            return
        if (begun.format, begun.subject) != (FORMAT, self._subject) or self._now - begun.began > AGE_MAX:
            return
        self._begun = begun
        for line in others:
            try:
                whole = msgspec.json.decode(line, type=Whole)
            except msgspec.DecodeError:
                # The line at which a crash cut the file off.
                continue
            if whole.began == begun.began:
                self._known[whole.span] = whole

    def _write(self, line: msgspec.Struct, *, truncate: bool = False) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if truncate else os.O_APPEND)
        with os.fdopen(os.open(self._path, flags, 0o600), "wb") as file:
            # Begins on a line of its own, also after one that a crash cut off.
            file.write((b"" if truncate else b"\n") + msgspec.json.encode(line))


def subject_of(trust: Trust, *places: str, deep: bool) -> str:
    """Return what one run is about: whose keys, which store, how thoroughly."""
    return sha256(repr((trust, places, deep)).encode()).hexdigest()


def file_of(subject: str) -> Path:
    """Return where the user's state of this subject is (XDG Base Directory: state home)."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "salus" / "fsck" / f"{subject[:32]}.jsonl"


def now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


def _extends(log: LogState, begun: Begun) -> bool:
    """Tell whether the entries up to the old size lead to the old root; unknown ones are findings already."""
    before = [leaf for leaf in log.hashes[: begun.size] if leaf is not None]
    if log.size >= begun.size and len(before) < begun.size:
        return True
    tree = CompactRange()
    tree.extend(before)
    return log.size >= begun.size and (begun.size == 0 or tree.root().hex() == begun.root)
