"""Receipts over HTTP: of one record by its position or by its source and id, or of many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Annotated, Any, Literal, Self

import msgspec
from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, model_validator

from salus.anchoring.api import FOR_NOW, TEXT, WAIT_S_MAX, away
from salus.anchoring.cose import CoseIssuer
from salus.anchoring.event_index import EventIndexError
from salus.anchoring.event_lookup import EventLookup
from salus.anchoring.metrics import Metrics
from salus.anchoring.runner import Runner
from salus.archive.errors import ArchiveError, NoSuchRecordError
from salus.archive.receipts import Anchored, ReceiptMaker, RecordPosition
from salus.client import EventName
from salus.ledger.errors import ReceiptError
from salus.objects import ObjectsError
from salus.runtime.fields import PLAIN
from salus.runtime.openapi import BINARY, content
from salus.runtime.openapi import TEXT as TEXT_SCHEMA
from salus.runtime.problems import ProblemError, documented

COSE = 'application/cose; cose-type="cose-sign1"'
NDJSON = "application/x-ndjson"
# The event's own time, of a receipt that was asked for by source and id: whoever repeats an event at another
# time can make the accepted bytes again and compare their digest.
EVENT_TIME_HEADER = "salus-event-time"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RECEIPTS_AT_ONCE_MAX = 1000
# Anybody may ask, and each name that a record does not have is an error that is made: three values of each
# record, and what commas stand in sources and ids.
VALUES_MAX = {"/receipts": 4 * RECEIPTS_AT_ONCE_MAX}
# Of so many blocks; the rest is answered with `too-many-blocks`, to be asked for again. Anybody may ask, and
# each block is read and decoded as a whole.
BULK_BLOCKS_MAX = 100
# So many of the maker's BLOCKS_AT_ONCE_MAX: whoever asks for one receipt finds a place.
BULK_AT_ONCE_MAX = 2
# What is not made by then is answered with `too-slow`, to be asked for again.
BULK_S_MAX = 60.0

Topic = Annotated[str, Field(max_length=249, pattern=PLAIN)]
Partition = Annotated[int, Field(ge=0, lt=2**31)]
Offset = Annotated[int, Field(ge=0, lt=2**63)]
Source = Annotated[str, Field(min_length=1, max_length=512, pattern=PLAIN)]
EventId = Annotated[str, Field(min_length=1, max_length=256, pattern=PLAIN)]


class Wanted(BaseModel):
    """A record, named by its position on its topic, or by the source and id of the accepted event."""

    model_config = ConfigDict(extra="forbid")

    topic: Topic | None = None
    partition: Partition | None = None
    offset: Offset | None = None
    source: Source | None = None
    id: EventId | None = None

    @model_validator(mode="after")
    def _is_one_name(self) -> Self:
        position = [self.topic is not None, self.partition is not None, self.offset is not None]
        name = [self.source is not None, self.id is not None]
        if not (all(position) and not any(name)) and not (all(name) and not any(position)):
            raise ValueError("name a record by topic, partition and offset, or by source and id")
        return self

    def what(self) -> RecordPosition | EventName:
        """Return which of the two it is."""
        if self.topic is not None and self.partition is not None and self.offset is not None:
            return RecordPosition(self.topic, self.partition, self.offset)
        return EventName(self.source or "", self.id or "")


class ManyWanted(BaseModel):
    """Up to 1000 records whose receipts are wanted."""

    model_config = ConfigDict(extra="forbid")

    records: list[Wanted] = Field(min_length=1, max_length=RECEIPTS_AT_ONCE_MAX)
    wait_s: float = Field(default=0, ge=0, le=WAIT_S_MAX, description="For all of them together.")


@dataclass(frozen=True, slots=True)
class MadeReceipt:
    """A receipt, the position of its record, and the event's own time if it was found by source and id."""

    record: RecordPosition
    data: bytes
    time: datetime | None = None


class Turns:
    """The turns in which a request's blocks are read; without `places` each is its own at once."""

    def __init__(self, places: asyncio.Semaphore | None = None) -> None:
        self._places = places
        self._entries: set[int] = set()

    @asynccontextmanager
    async def of(self, entry: int) -> AsyncIterator[None]:
        """Wait for a turn to read the block of a log entry; raises ProblemError for one block too many."""
        if self._places is None:
            yield
            return
        if entry not in self._entries and len(self._entries) >= BULK_BLOCKS_MAX:
            detail = f"one request reads {BULK_BLOCKS_MAX} blocks at most; ask again for this one"
            raise ProblemError(503, "too-many-blocks", detail)
        self._entries.add(entry)
        async with self._places:
            yield


AT_ONCE = Turns()
"""For whoever asks for one receipt."""


@dataclass(frozen=True)
class ReceiptService:
    """Makes receipts of what a request names; raises ProblemError."""

    runner: Runner
    maker: ReceiptMaker
    lookup: EventLookup
    metrics: Metrics
    issuer: CoseIssuer
    places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(BULK_AT_ONCE_MAX))

    async def receipt(
        self, wanted: RecordPosition | EventName, wait_s: float, turns: Turns = AT_ONCE
    ) -> MadeReceipt:
        """Return the receipt of what is wanted, waiting up to `wait_s` seconds for it."""
        time: datetime | None = None
        try:
            if isinstance(wanted, EventName):
                record, entry, time = await self._accepted(wanted, wait_s, turns)
            else:
                record, entry = wanted, await _entry_of(self.runner, wanted, wait_s)
            async with turns.of(entry):
                with self.metrics.receipt_seconds.time():
                    data = await _receipt(self.runner, self.maker, record, entry)
        except ProblemError as problem:
            self.metrics.receipts.labels(problem.code).inc()
            raise
        self.metrics.receipts.labels("made").inc()
        return MadeReceipt(record, data, time)

    async def _accepted(
        self, name: EventName, wait_s: float, turns: Turns
    ) -> tuple[RecordPosition, int, datetime]:
        try:
            found = await self.lookup.find(name, wait_s)
        except EventIndexError:
            detail = "the index of events cannot be read and is made anew; ask again, or by position"
            raise ProblemError(404, "not-indexed", detail, indexed=self.lookup.size) from None
        if found is not None:
            shard, height = self.runner.anchor.index.block_at(found.entry)
            try:
                async with turns.of(found.entry):
                    block = await self.maker.block(Anchored(shard, height, found.entry))
                return block.record(found.row), found.entry, _EPOCH + timedelta(microseconds=found.time)
            except ArchiveError as error:
                raise ProblemError(500, error.code, str(error), shard=shard, height=height) from error
            except ObjectsError as error:
                raise away(error) from error
        if behind := self.lookup.behind:
            detail = f"the index of events is {behind} blocks behind the log; ask again"
            raise ProblemError(404, "not-indexed-yet", detail, indexed=self.lookup.size)
        if gaps := self.lookup.gaps:
            detail = f"{gaps} blocks could not be read, and the event may be in one of them; ask again"
            raise ProblemError(404, "not-indexed", detail, indexed=self.lookup.size)
        detail = "no accepted event of this source and id is in the log (yet)"
        raise ProblemError(404, "unknown-event", detail, indexed=self.lookup.size)

    async def many(self, wanted: ManyWanted) -> AsyncIterator[bytes]:
        """Yield one line of JSON for each record, in their order."""
        began, turns = monotonic(), Turns(self.places)
        for one in wanted.records:
            spent_s = monotonic() - began
            told: dict[str, Any] = one.model_dump(exclude_none=True)
            try:
                told |= await self._line(one, wanted.wait_s - spent_s, turns, late=spent_s > BULK_S_MAX)
            except ProblemError as problem:
                told |= {"status": problem.status, "code": problem.code, "detail": problem.detail}
            yield msgspec.json.encode(told) + b"\n"

    async def _line(self, wanted: Wanted, wait_s: float, turns: Turns, *, late: bool) -> dict[str, Any]:
        if late:
            raise ProblemError(503, "too-slow", "not made in time; ask again for this one")
        made = await self.receipt(wanted.what(), max(0.0, wait_s), turns)
        time = {"time": made.time.isoformat()} if made.time else {}
        return {**asdict(made.record), **time, "receipt": made.data.decode()}


def receipt_routes(service: ReceiptService) -> APIRouter:
    """Return the routes that make receipts."""
    router = APIRouter(tags=["receipts"])

    @router.get(
        "/receipts",
        summary="The receipt of one record, by its position or by source and id; waits until there is one.",
        response_class=PlainTextResponse,
        responses={**content("application/cose", BINARY), **documented(404, 409, 500, 503)},
    )
    async def get_receipt(  # noqa: PLR0913  # the parameters of the query
        *,
        topic: Annotated[Topic | None, Query()] = None,
        partition: Annotated[Partition | None, Query()] = None,
        offset: Annotated[Offset | None, Query()] = None,
        source: Annotated[
            Source | None, Query(description="With `id`: the accepted event of this name.")
        ] = None,
        id: Annotated[EventId | None, Query()] = None,  # noqa: A002  # the CloudEvents attribute's name
        wait_s: Annotated[float, Query(ge=0, le=WAIT_S_MAX)] = 0,
        form: Annotated[
            Literal["text", "cose"],
            Query(alias="format", description="`cose`: a COSE Receipt (RFC 9942) that says the same."),
        ] = "text",
    ) -> Response:
        try:
            wanted = Wanted(topic=topic, partition=partition, offset=offset, source=source, id=id)
        except ValueError:
            detail = "name a record by topic, partition and offset, or by source and id"
            raise ProblemError(422, "invalid-request", detail) from None
        made = await service.receipt(wanted.what(), wait_s)
        data = _cose(service.issuer, made.data) if form == "cose" else made.data
        # Not for ever: a later checkpoint may carry more cosignatures.
        headers = FOR_NOW | ({EVENT_TIME_HEADER: made.time.isoformat()} if made.time else {})
        return Response(data, media_type=COSE if form == "cose" else TEXT, headers=headers)

    @router.post(
        "/receipts",
        summary="Receipts of up to 1000 records, one line of JSON for each in the order asked.",
        description="A line has the record's position and its `receipt`, or `status`, `code` and `detail` of "
        "what `GET` would have answered.",
        responses={**content(NDJSON, TEXT_SCHEMA), **documented(422)},
        response_class=StreamingResponse,
    )
    async def get_receipts(wanted: ManyWanted) -> StreamingResponse:
        return StreamingResponse(service.many(wanted), media_type=NDJSON, headers=FOR_NOW)

    return router


async def _entry_of(runner: Runner, record: RecordPosition, wait_s: float) -> int:
    """Return the log entry whose block covers the record, waiting for it up to `wait_s` seconds."""
    index = runner.anchor.index
    entry = runner.find(record)
    if entry is None and wait_s > 0:
        try:
            async with asyncio.timeout(wait_s):
                while entry is None:
                    await runner.wait_beyond(_size(runner))
                    entry = runner.find(record)
        except TimeoutError:
            pass
    if entry is not None:
        return entry
    if index.find(record.topic, record.partition, record.offset) is not None:
        detail = "its block is in the log, but no checkpoint that covers it is final yet"
        raise ProblemError(404, "not-anchored-yet", detail, final_size=_size(runner))
    if not index.knows(record.topic, record.partition):
        detail = "no shard has sealed anything of it; `salus shard list` names partitions that no shard seals"
        raise ProblemError(404, "unknown-partition", detail)
    following = index.next_offset(record.topic, record.partition)
    if record.offset < following:
        raise ProblemError(404, "before-the-ledger", "the record is older than the first block")
    detail = f"the log covers the partition up to, not including, offset {following}"
    raise ProblemError(404, "not-anchored-yet", detail, next_offset=following)


def _size(runner: Runner) -> int:
    return runner.published.head.size if runner.published else -1


async def _receipt(runner: Runner, maker: ReceiptMaker, record: RecordPosition, entry: int) -> bytes:
    standing = runner.published
    if standing is None or entry >= standing.head.size:
        raise ProblemError(503, "not-started", "the log has not been loaded yet")
    shard, height = runner.anchor.index.block_at(entry)
    try:
        return await maker.receipt(
            record,
            Anchored(shard, height, entry),
            checkpoint=standing.checkpoint,
            checkpoint_note=standing.head.checkpoint.encode(),
        )
    except NoSuchRecordError as error:
        raise ProblemError(404, error.code, "no record stands at this offset") from None
    except ArchiveError as error:
        raise ProblemError(500, error.code, str(error), shard=shard, height=height) from error
    except ObjectsError as error:
        raise away(error) from error


def _cose(issuer: CoseIssuer, receipt: bytes) -> bytes:
    try:
        return issuer.receipt(receipt)
    except ReceiptError as error:
        raise ProblemError(409, error.code, error.detail) from None
