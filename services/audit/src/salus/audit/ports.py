"""What audit needs from the world: blocks to read, a place for the trail, topics to publish to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from salus.audit.domain.directory import Directory, KnownParty
from salus.audit.domain.entry import TrailEntry
from salus.audit.domain.search import Found, Question, Visibility
from salus.ledger.block import Header


class OutOfReachError(Exception):
    """The archive, the database or Kafka does not answer now; the same call may succeed later."""


class UnreadableBodyError(Exception):
    """A body is missing or no Parquet file of a block's columns, though a header names it."""


class Ledger(Protocol):
    """The blocks in the object store; what it returns is not verified."""

    async def header(self, shard: int, height: int) -> bytes | None:
        """Return a header note, or None if the block does not exist (yet); raises OutOfReachError."""

    async def body(self, shard: int, header: Header) -> bytes:
        """Return the body's bytes; raises OutOfReachError or UnreadableBodyError."""

    def rows(self, body: bytes) -> Sequence[Sequence[Any]]:
        """Return the rows of a body in leaf order; raises UnreadableBodyError."""


@dataclass(frozen=True, slots=True)
class Tip:
    """How far a shard is indexed: the next height and the note of the last header, None before the first."""

    height: int
    note: bytes | None


class Trail(Protocol):
    """Where entries are kept. `seq`, an entry's position, starts at 1, only grows and has no gaps."""

    async def tip(self, shard: int) -> Tip:
        """Return how far a shard is indexed."""

    async def directory(self, patients: Collection[str]) -> Directory:
        """Return who is who and these patients' consents, as of the last indexed block."""

    async def append(
        self, entries: Sequence[TrailEntry], directory: Directory, *, shard: int, tip: Tip, before: Tip
    ) -> bool:
        """Append a block's entries, who is who and the new tip in one transaction.

        Returns False, and changes nothing, if the shard no longer is at `before`: another was first.
        """

    async def search(self, question: Question, visible: Visibility, *, limit: int) -> list[Found]:
        """Return the newest matching entries first; with `after`, the oldest first."""

    async def entry(self, source: str, event: str) -> Found | None:
        """Return the entry of the accepted event with this source and id."""

    async def leaf(self, uid: str) -> Found | None:
        """Return the entry of the leaf with this hash."""

    async def party(self, did: str) -> KnownParty | None:
        """Return a party as the trail knows it."""

    async def pseudonyms(self, did: str) -> frozenset[str]:
        """Return the pseudonyms of the patient that a party is."""

    async def steward(self, patient: str) -> str | None:
        """Return the member that registered a pseudonym."""

    async def end(self) -> int:
        """Return the position of the newest entry, 0 if there is none."""

    async def published(self, output: str) -> int:
        """Return the position up to which an output was published."""

    async def set_published(self, output: str, seq: int) -> None:
        """Remember that an output was published up to a position."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is published about one entry; `uid` is the same whenever it is published again."""

    topic: str
    key: str
    value: bytes
    uid: str
    content_type: str


class Outputs(Protocol):
    """The topics."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Return when all were acknowledged, in order; raises OutOfReachError if that is not known."""
