"""The log over plain HTTP (C2SP tlog-tiles), receipts, and how anchoring is doing."""

from __future__ import annotations

import asyncio
import gzip
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from salus.anchoring.cose import CoseIssuer
from salus.anchoring.metrics import Metrics
from salus.anchoring.runner import Runner
from salus.archive.errors import ArchiveError, MissingError, NoSuchRecordError
from salus.archive.log import LogReader, parse_tile_path
from salus.archive.receipts import Anchored, ReceiptMaker, RecordPosition
from salus.ledger.errors import ReceiptError
from salus.ledger.tiles import ENTRIES
from salus.objects import ObjectsError, RefusedError
from salus.runtime.fields import PLAIN
from salus.runtime.negotiation import accepts_coding
from salus.runtime.openapi import BINARY, content
from salus.runtime.problems import ProblemError, documented

WAIT_S_MAX = 30.0
TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
COSE = 'application/cose; cose-type="cose-sign1"'
# Anyone may check the log, so any web page may read it.
_OPEN = {"Access-Control-Allow-Origin": "*"}
_FOR_EVER = {**_OPEN, "Cache-Control": "public, max-age=31536000, immutable"}
FOR_NOW = {**_OPEN, "Cache-Control": "no-cache"}


class Status(BaseModel):
    """How anchoring is doing; `size` and `root` are the published checkpoint's."""

    origin: str
    size: int
    root: str
    head_size: int
    unfinal: str | None
    witnesses: dict[str, str]
    next_heights: dict[str, int]
    lag_blocks: int
    caught_up: bool
    stalled: dict[str, str]
    trouble: str | None
    damaged: int = Field(description="Objects of the archive that scrubbing found damaged or missing.")
    now: datetime


def log_routes(runner: Runner, log: LogReader) -> APIRouter:
    """Return the routes that serve the log."""
    router = APIRouter(prefix="/log", tags=["log"])

    @router.get(
        "/checkpoint",
        summary="The latest checkpoint, a C2SP signed note.",
        response_class=PlainTextResponse,
        responses=documented(503),
    )
    async def get_checkpoint() -> Response:
        if runner.published is None:
            raise ProblemError(503, "not-started", "the log has not been loaded yet")
        return Response(runner.published.head.checkpoint, media_type=TEXT, headers=FOR_NOW)

    @router.get(
        "/tile/{path:path}",
        summary="A tile or an entry bundle (C2SP tlog-tiles).",
        response_class=Response,
        responses={**content(BYTES, BINARY), **documented(404, 503)},
    )
    async def get_tile(path: str, accept_encoding: Annotated[str, Header()] = "") -> Response:
        ref = parse_tile_path(f"tile/{path}")
        if ref is None:
            raise ProblemError(404, "no-such-tile", "not the path of a tile")
        try:
            data = await log.tile(ref)
        except MissingError:
            raise ProblemError(404, "no-such-tile", "the log has no such tile") from None
        except ObjectsError as error:
            raise _away(error) from error
        headers = dict(_FOR_EVER)
        if ref.level == ENTRIES:
            # On the plain form too, or a cache would hand one form to everybody.
            headers["Vary"] = "Accept-Encoding"
            if accepts_coding(accept_encoding, "gzip"):
                data = gzip.compress(data, compresslevel=1, mtime=0)
                headers["Content-Encoding"] = "gzip"
        return Response(data, media_type=BYTES, headers=headers)

    return router


def receipt_routes(runner: Runner, maker: ReceiptMaker, metrics: Metrics, issuer: CoseIssuer) -> APIRouter:
    """Return the route that makes receipts."""
    router = APIRouter(tags=["receipts"])

    @router.get(
        "/receipts",
        summary="The receipt of one record; waits until there is one.",
        response_class=PlainTextResponse,
        responses={**content("application/cose", BINARY), **documented(404, 409, 503)},
    )
    async def get_receipt(
        topic: Annotated[str, Query(max_length=249, pattern=PLAIN)],
        partition: Annotated[int, Query(ge=0, lt=2**31)],
        offset: Annotated[int, Query(ge=0, lt=2**63)],
        wait_s: Annotated[float, Query(ge=0, le=WAIT_S_MAX)] = 0,
        form: Annotated[
            Literal["text", "cose"],
            Query(alias="format", description="`cose`: a COSE Receipt (RFC 9942) that says the same."),
        ] = "text",
    ) -> Response:
        try:
            record = RecordPosition(topic, partition, offset)
            entry = await _entry_of(runner, record, wait_s)
            with metrics.receipt_seconds.time():
                data = await _receipt(runner, maker, record, entry)
                if form == "cose":
                    data = _cose(issuer, data)
        except ProblemError as problem:
            metrics.receipts.labels(problem.code).inc()
            raise
        metrics.receipts.labels("made").inc()
        # Not for ever: a later checkpoint may carry more cosignatures.
        return Response(data, media_type=COSE if form == "cose" else TEXT, headers=FOR_NOW)

    return router


def status_routes(runner: Runner) -> APIRouter:
    """Return the route that says how anchoring is doing."""
    router = APIRouter(tags=["operations"])

    @router.get("/status", summary="Log size, next heights, lag.", responses=documented(503))
    async def get_status() -> Status:
        standing, latest = runner.published, runner.anchor.latest
        if standing is None or latest is None:
            why = runner.trouble or runner.unfinal or "the log has not been loaded yet"
            raise ProblemError(503, "not-started", why)
        return Status(
            origin=standing.checkpoint.origin,
            size=standing.head.size,
            root=standing.head.root,
            head_size=latest.head.size,
            unfinal=runner.unfinal,
            witnesses=runner.cosigning.answers if runner.cosigning else {},
            next_heights={shard: chain.next for shard, chain in latest.head.chains.items()},
            lag_blocks=runner.lag_blocks,
            caught_up=runner.caught_up,
            stalled={str(shard): why for shard, why in runner.anchor.stalled.items()},
            trouble=runner.trouble,
            damaged=runner.damaged,
            now=datetime.now(UTC),
        )

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
        raise _away(error) from error


def _cose(issuer: CoseIssuer, receipt: bytes) -> bytes:
    try:
        return issuer.receipt(receipt)
    except ReceiptError as error:
        raise ProblemError(409, error.code, error.detail) from None


def _away(error: ObjectsError) -> ProblemError:
    if isinstance(error, RefusedError):
        return ProblemError(500, "object-store-refused", "the object store refuses us: an operator must look")
    return ProblemError(
        503, "object-store-away", f"the object store does not serve us: {type(error).__name__}"
    )
