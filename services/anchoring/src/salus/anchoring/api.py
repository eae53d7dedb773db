"""The log over plain HTTP (C2SP tlog-tiles), and how anchoring is doing."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Header, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from salus.anchoring.runner import Runner
from salus.archive.errors import DamagedError, MissingError
from salus.archive.log import LogReader, parse_tile_path
from salus.archive.verified_tiles import VerifiedTiles, is_covered
from salus.ledger.tiles import ENTRIES, TileRef
from salus.objects import ObjectsError, RefusedError
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


@dataclass(frozen=True, slots=True)
class _Tiles:
    """The log's tiles, with the headers that say how long they may be kept."""

    runner: Runner
    log: LogReader
    verified: VerifiedTiles

    async def read(self, ref: TileRef) -> tuple[bytes, dict[str, str]]:
        """Return a tile, to be kept for ever if it was verified; raises ProblemError."""
        try:
            published = self.runner.published
            if published is not None and is_covered(ref, published.head.size):
                return await self.verified.tile(ref, published.checkpoint), dict(_FOR_EVER)
            # Another process may have published more than we know of. Who asks for it verifies it by that.
            self.log.forget([ref])
            data = await self.log.tile(ref)
            self.log.forget([ref])
        except MissingError:
            raise ProblemError(404, "no-such-tile", "the log has no such tile") from None
        except DamagedError as error:
            raise ProblemError(500, error.code, str(error)) from error
        except ObjectsError as error:
            raise away(error) from error
        return data, dict(FOR_NOW)


def log_routes(runner: Runner, log: LogReader) -> APIRouter:
    """Return the routes that serve the log."""
    router = APIRouter(prefix="/log", tags=["log"])
    tiles = _Tiles(runner, log, VerifiedTiles(log))

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
        responses={**content(BYTES, BINARY), **documented(404, 500, 503)},
    )
    async def get_tile(path: str, accept_encoding: Annotated[str, Header()] = "") -> Response:
        ref = parse_tile_path(f"tile/{path}")
        if ref is None:
            raise ProblemError(404, "no-such-tile", "not the path of a tile")
        data, headers = await tiles.read(ref)
        if ref.level == ENTRIES:
            # On the plain form too, or a cache would hand one form to everybody.
            headers["Vary"] = "Accept-Encoding"
            if accepts_coding(accept_encoding, "gzip"):
                data = gzip.compress(data, compresslevel=1, mtime=0)
                headers["Content-Encoding"] = "gzip"
        return Response(data, media_type=BYTES, headers=headers)

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


def away(error: ObjectsError) -> ProblemError:
    """Return what is answered while the object store does not give what is needed."""
    if isinstance(error, RefusedError):
        return ProblemError(500, "object-store-refused", "the object store refuses us: an operator must look")
    return ProblemError(
        503, "object-store-away", f"the object store does not serve us: {type(error).__name__}"
    )
