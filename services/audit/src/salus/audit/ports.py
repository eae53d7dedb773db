"""What audit needs from the world: blocks to read, a place for the trail, topics to publish to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from salus.audit.domain.comparison import Columns, TableRow
from salus.audit.domain.directory import Directory, Needs
from salus.audit.domain.entry import RightsVerdict, TrailEntry
from salus.audit.domain.identity_history import IdentityHistory
from salus.audit.domain.probing import Period, Refusal
from salus.audit.domain.search import Found, Question, Visibility
from salus.ledger.block import Header
from salus.runtime.supervisor import LastingError


class OutOfReachError(Exception):
    """The archive, the database or Kafka does not answer now; the same call may succeed later."""


class UnwritableError(OutOfReachError, LastingError):
    """The trail's database writes nothing until somebody acts, as on a full disk; then the same succeeds."""


class BehindError(OutOfReachError):
    """A block waits for what another shard seals: the same call may succeed once that is on the ledger."""

    def __init__(self, *, shard: int, height: int, why: str) -> None:
        super().__init__(f"shard {shard} block {height} waits: {why}")
        self.shard = shard
        self.height = height


class DamagedTrailError(Exception):
    """A stored row of the trail was changed by another hand, so nothing with it in is answered."""

    def __init__(self, place: str, columns: Sequence[str]) -> None:
        super().__init__(f"{place} of the trail is not as it was written: {', '.join(columns)}")
        self.place = place
        self.columns = tuple(columns)


class DamagedHeaderError(DamagedTrailError):
    """The trail says that a block is indexed, and its header is not in the archive as it was sealed."""

    def __init__(self, *, shard: int, height: int, why: str) -> None:
        super().__init__(f"shard {shard} block {height}", ["header"])
        self.args = (f"shard {shard} block {height} is in the trail, but its header in the archive {why}",)


class UnappendableError(DamagedTrailError):
    """A block cannot be appended, though nobody else appended anything: rows stand in its place."""

    def __init__(self, *, shard: int, height: int) -> None:
        super().__init__(f"shard {shard} block {height}", ["place"])
        why = "how far the shard is, or a row in its place, was changed by another hand"
        does = "run `salus audit reconcile --repair`"
        self.args = (f"shard {shard} block {height} cannot be appended: {why}; {does}",)


class VoidBlocksError(DamagedTrailError):
    """The chain of a shard ended, and the trail has what lies behind its end."""

    def __init__(self, *, shard: int, end: int, tip: int) -> None:
        super().__init__(f"shard {shard} block {end}", ["place"])
        why = (
            f"the chain of shard {shard} ended before block {end}, and the trail has it up to block {tip - 1}"
        )
        self.args = (f"{why}: run `salus audit reconcile --repair`",)


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


@dataclass(frozen=True, slots=True)
class Published:
    """Up to which height a shard is published, and audit's signature that says so."""

    height: int
    proof: bytes


@dataclass(frozen=True, slots=True)
class IdentityPlace:
    """How far the identity topic was read: the last block that seals it, by shard and header note."""

    shard: int
    note: bytes


class IdentityStore(Protocol):
    """Where the identity events are kept that were read from the ledger."""

    async def identity_place(self) -> IdentityPlace | None:
        """Return how far the topic was read."""

    async def identity_events(self, end: int) -> dict[int, bytes]:
        """Return the values below an offset, in the order of their offsets."""

    async def note_identity(
        self, events: Mapping[int, bytes], place: IdentityPlace, *, before: IdentityPlace | None
    ) -> bool:
        """Keep events and how far they go, in one transaction.

        Returns False, and changes nothing, if it is not read up to `before` any more: another was first.
        """

    async def drop_identity(self) -> None:
        """Forget all of it: it is read from the ledger again."""


@dataclass(frozen=True, slots=True)
class RightsMark:
    """What judging rights again says of an entry, and audit's signature once that was published.

    `withdrawn`: it was with a right after all, which may be still to be published.
    """

    verdict: RightsVerdict | Literal["withdrawn"]
    why: str
    proof: bytes | None = None


class RightsStore(Protocol):
    """What rights are judged again by, as it was appended with the entries, and what came of it."""

    async def places(self) -> list[str]:
        """Return the partitions that runs are kept of."""

    async def runs(self, place: str, *, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Return the next runs of a partition, in their order, each with its key's second part."""

    async def marks(self) -> dict[str, RightsMark]:
        """Return all marks, by uid."""

    async def set_marks(self, marks: Mapping[str, RightsMark], *, without: Collection[str] = ()) -> None:
        """Put marks, and take others away, in one transaction."""


class Trail(Protocol):
    """Where entries are kept. `seq`, an entry's position, starts at 1, only grows and has no gaps."""

    @property
    def stored(self) -> StoredTrail:
        """The rows that it is kept in."""

    @property
    def identity(self) -> IdentityStore:
        """What was read of the identity topic."""

    @property
    def rights(self) -> RightsStore:
        """What rights are judged again by."""

    async def tip(self, shard: int) -> Tip:
        """Return how far a shard is indexed."""

    async def directory(self, needs: Needs, identity: IdentityHistory) -> Directory:
        """Return what is needed, as of the last indexed block, with who is who by `identity`."""

    async def append(
        self, entries: Sequence[TrailEntry], directory: Directory, *, shard: int, tip: Tip, before: Tip
    ) -> bool:
        """Append a block's entries, what stands beside them and the new tip in one transaction.

        Returns False, and changes nothing, if the shard no longer is at `before`: another was first.
        """

    async def search(self, question: Question, visible: Visibility, *, limit: int) -> list[Found]:
        """Return the newest matching entries first; with `after`, the oldest first."""

    async def entry(self, source: str, event: str) -> Found | None:
        """Return the entry of the accepted event with this source and id."""

    async def leaf(self, uid: str) -> Found | None:
        """Return the entry of the leaf with this hash."""

    async def at(self, shard: int, height: int, index: int) -> Found | None:
        """Return the entry of a row of a block."""

    async def place_of(self, uids: Collection[str]) -> tuple[int, int] | None:
        """Return shard and height of an entry with one of these leaf hashes, if there is any."""

    async def damaged(self) -> tuple[int, Found | None]:
        """Return how many entries have `damage`, and the first of them."""

    async def pseudonyms(self, did: str) -> frozenset[str]:
        """Return the pseudonyms of the patient that a party is."""

    async def steward(self, patient: str) -> str | None:
        """Return the member that registered a pseudonym."""

    async def end(self) -> int:
        """Return the position of the newest entry, 0 if there is none."""

    async def block(self, shard: int, height: int, *, limit: int) -> list[Found]:
        """Return the entries that claim to be of a block, by index; raises DamagedTrailError."""

    async def refusals(self, periods: Collection[Period]) -> list[Refusal]:
        """Return what was refused in these periods, and in those before them, by when the broker appended it.

        Of each period the first and the last ones, as many as its rule names, in no order. Of records with
        one source and id only the first counts: copies do not take the place of others.
        """

    async def published(self, shard: int) -> Published | None:
        """Return up to where a shard is said to be published."""

    async def set_published(self, shard: int, published: Published, *, before: Published | None) -> bool:
        """Remember up to where a shard is published.

        Returns False, and changes nothing, if `before` is not what is said of it any more.
        """


class DerivedTables(Protocol):
    """What stands beside the entries, as a comparison derives it block by block, and what stood there before.

    It holds any number of rows; in memory are only some of them.
    """

    async def directory(self, needs: Needs, identity: IdentityHistory) -> Directory:
        """Return what is needed, as of the last block that was kept, with who is who by `identity`."""

    async def keep(self, directory: Directory) -> None:
        """Keep what a block changed."""

    async def keep_identity(self, digests: Mapping[int, bytes]) -> None:
        """Keep the SHA-256 of identity events, by offset."""

    def differing(self) -> AsyncIterator[Sequence[TableRow]]:
        """Yield the rows that are not as they were seen, some at a time, by table and key."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How far the trail was at one moment, and what stood beside it then: `rows` rows, in `tables`.

    `identity` is how far the identity topic was read.
    """

    tips: Mapping[int, Tip]
    end: int
    tables: DerivedTables
    rows: int
    identity: IdentityPlace | None = None


class StoredTrail(Protocol):
    """The trail's rows as they are stored, believed of nothing: for comparing them with the ledger."""

    def columns_of(self, entries: Sequence[TrailEntry]) -> list[Columns]:
        """Return the rows that entries make, without a position."""

    @property
    def repairs(self) -> int:
        """How often this process put right what rights are judged by."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]:
        """Yield how far the trail is, and what stands beside it, as of one transaction."""

    async def strays(
        self, ends: Mapping[int, int], *, until: int, after: tuple[int, int] | None, limit: int
    ) -> list[tuple[int, int]]:
        """Return shard and height of the next blocks with rows, up to a position, that no end is above."""

    async def block(self, shard: int, height: int, *, limit: int) -> list[Columns]:
        """Return the rows that claim to be of a block, by index."""

    async def put_block(self, shard: int, height: int, entries: Sequence[TrailEntry]) -> None:
        """Put these in the place of whatever claims to be of a block."""

    async def put_rows(self, rows: Sequence[TableRow]) -> None:
        """Put rows right that are still as they were in the snapshot; what was indexed since stays."""

    async def drop_identity(self) -> None:
        """Forget what is kept of the identity topic."""

    async def put_tip(self, shard: int, tip: Tip, seen: Tip) -> None:
        """Put a shard's tip right, if it is still as it was seen."""

    async def outcome(self) -> bytes | None:
        """Return what was noted of the comparison."""

    async def set_outcome(self, outcome: bytes) -> None:
        """Note what the comparison found, for the next start."""


@dataclass(frozen=True, slots=True)
class Message:
    """What is published about one entry; `uid` is the same whenever it is published again."""

    topic: str
    key: str
    value: bytes
    uid: str
    content_type: str


class Outputs(Protocol):
    """The topics, and audit's signature, which what is published has."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Return when all were acknowledged, in order; raises OutOfReachError if that is not known."""

    def sign(self, statement: bytes) -> bytes:
        """Return audit's signature of a statement of its own."""

    def is_own(self, statement: bytes, signature: bytes) -> bool:
        """Tell whether audit signed the statement."""
