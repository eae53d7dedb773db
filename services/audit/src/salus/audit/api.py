"""The trail over HTTP: search it, open one entry, follow it live, account for disclosures."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, fields, replace
from time import monotonic
from typing import Annotated, get_args

import structlog
from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from salus.audit.domain.entry import Outcome, TrailEntry
from salus.audit.domain.network import Surroundings
from salus.audit.domain.search import (
    PAGE_ENTRIES_MAX,
    CursorError,
    Found,
    Question,
    Visibility,
    cursor_after,
    position_of,
    visibility_of,
)
from salus.audit.handlers import Bell
from salus.audit.ports import OutOfReachError, Trail
from salus.audit.views import Disclosures, EntryView, Page, disclosure_of, view_of
from salus.events.bearer import LIFETIME_S_MAX
from salus.events.keyring import KeyRing
from salus.events.parties import Party
from salus.runtime.fields import PLAIN
from salus.runtime.moments import Moment
from salus.runtime.openapi import TEXT, content
from salus.runtime.path_dids import segment_of
from salus.runtime.places import Places
from salus.runtime.problems import ProblemError, documented, problem_response, route_of

HEARTBEAT_S = 15.0
STREAM_ENTRIES_AT_ONCE = 200
# A stream looks this often whether the service is stopping.
STREAM_WAIT_S = 1.0
# Who may see what is asked when a stream begins. A key may be revoked and a role withdrawn, so a stream ends
# when the longest bearer would, and its reader comes back with `Last-Event-ID` and a new one.
STREAM_S_MAX = float(LIFETIME_S_MAX)

# Searches at once: fewer than the requests' pool has connections, so that looking one entry up finds one.
SEARCHES_MAX = 6
SEARCHES_OF_ONE_MAX = 2
SEARCH_WAIT_S_MAX = 10.0
STREAMS_MAX = 200
STREAMS_OF_ONE_MAX = 10
# Each is looked for in every entry that the other filters leave.
WORDS_MAX = 8

FILTERS = frozenset(field.name for field in fields(Question))

Authenticate = Callable[[Request], Awaitable[Party]]
Limit = Annotated[int, Query(ge=1, le=PAGE_ENTRIES_MAX, description="Entries per page.")]
OUTCOMES = f"^({'|'.join(get_args(Outcome))})$"
Word = Annotated[str | None, Query(max_length=512, pattern=PLAIN)]
Name = Annotated[str, Path(max_length=256, pattern=PLAIN)]

_log = structlog.get_logger()


async def asked(  # noqa: PLR0913  # the filters are the API
    *,
    who: Word = None,
    patient: Word = None,
    action: Annotated[str | None, Query(pattern="^[CRUDE]$", description="C, R, U, D or E.")] = None,
    type: Word = None,  # noqa: A002  # the filter's name
    object: Word = None,  # noqa: A002  # the filter's name
    outcome: Annotated[str | None, Query(pattern=OUTCOMES)] = None,
    in_doubt: Annotated[
        str | None,
        Query(max_length=256, pattern=PLAIN, description="A key: what it signed while in other hands."),
    ] = None,
    since: Annotated[Moment | None, Query(description="Sealed from this time on.")] = None,
    until: Annotated[Moment | None, Query(description="Sealed before this time.")] = None,
    stated_since: Annotated[Moment | None, Query(description="Said to be from this time on.")] = None,
    stated_until: Annotated[Moment | None, Query(description="Said to be before this time.")] = None,
    q: Annotated[
        str | None,
        Query(max_length=256, pattern=PLAIN, description=f"Up to {WORDS_MAX} words that must all occur."),
    ] = None,
) -> Question:
    """Return the question that the query parameters ask. `who` is a person, service or member."""
    if q is not None and len(q.split()) > WORDS_MAX:
        raise ProblemError(422, "too-many-words", f"q: at most {WORDS_MAX} words are looked for")
    return Question(
        who=who,
        patient=patient,
        action=action,
        type=type,
        object=object,
        outcome=outcome,
        in_doubt=in_doubt,
        since=since,
        until=until,
        stated_since=stated_since,
        stated_until=stated_until,
        q=q,
    )


Asked = Annotated[Question, Depends(asked)]


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads, and what she may see."""

    did: str
    visible: Visibility
    member: str | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """What the routes need to read the trail; `ring` returns the key ring, which says what is in doubt."""

    trail: Trail
    around: Surroundings
    grown: Bell
    authenticate: Authenticate
    ring: Callable[[], KeyRing]
    searches: Places = field(
        default_factory=lambda: Places(
            most=SEARCHES_MAX, of_one_max=SEARCHES_OF_ONE_MAX, wait_s_max=SEARCH_WAIT_S_MAX
        )
    )
    streams: Places = field(
        default_factory=lambda: Places(most=STREAMS_MAX, of_one_max=STREAMS_OF_ONE_MAX, wait_s_max=1)
    )

    async def reader(self, request: Request) -> Reader:
        """Return the caller and what she may see; the reading itself is logged. Raises ProblemError 401."""
        party = await self.authenticate(request)
        pseudonyms = await self.trail.pseudonyms(party.did)
        # Neither what was looked for nor the path, which names an object; of the filters, those that exist.
        filters = sorted(FILTERS.intersection(request.query_params))
        _log.info("trail read", reader=party.did, path=route_of(request), filters=filters)
        visible = visibility_of(
            did=party.did, kind=party.kind, roles=party.roles, member=party.member, pseudonyms=pseudonyms
        )
        return Reader(party.did, visible, party.member)

    async def search(self, question: Question, reader: Reader, *, limit: int) -> Sequence[Found]:
        """Return what a reader may see of what is asked; raises ProblemError 503 if too much is asked."""
        if question.in_doubt is not None:
            known = self.ring().asking_key(question.in_doubt)
            question = replace(question, doubted_since=None if known is None else known.doubted_since)
        async with self.searches.taken(reader):
            return await self.trail.search(question, reader.visible, limit=limit)

    def view(self, entry: TrailEntry) -> EntryView:
        """Return the view of an entry that may be shown."""
        in_doubt = self.ring().doubted(entry.keys, at=entry.place.appended_at)
        return view_of(entry, self.around, in_doubt=in_doubt)

    async def shown(self, found: Found | None, reader: Reader) -> EntryView:
        """Return the view of an entry; raises ProblemError 404."""
        visible = reader.visible
        # What a caller may not see does not exist for her: a 403 would tell that it does.
        patient = found.entry.facts.patient if found is not None else None
        steward = await self.trail.steward(patient) if visible.stewards and patient else None
        if found is None or not visible.shows(found.entry, steward=steward):
            raise ProblemError(404, "no-such-entry", "the trail has no such entry that you may see")
        return self.view(found.entry)


def routes(reading: Reading) -> APIRouter:
    """Return the routes."""
    router = APIRouter(tags=["trail"])
    _add_search(router, reading)
    _add_stream(router, reading)
    _add_reports(router, reading)
    _add_entries(router, reading)  # last: its path takes any source and id
    return router


def _add_search(router: APIRouter, reading: Reading) -> None:
    @router.get(
        "/trail", summary="Search the trail, newest first", responses=documented(400, 401, 403, 422, 429, 503)
    )
    async def search_trail(request: Request, question: Asked, limit: Limit = 50, cursor: Word = None) -> Page:
        reader = await reading.reader(request)
        question = replace(question, before=_position(cursor))
        found = await reading.search(question, reader, limit=limit + 1)
        page = found[:limit]
        more = len(found) > limit
        entries = [reading.view(each.entry) for each in page]
        return Page(entries=entries, next=cursor_after(page[-1]) if more else None)


def _add_entries(router: APIRouter, reading: Reading) -> None:
    @router.get(
        "/trail/leaf/{uid}",
        summary="One entry by leaf hash",
        responses=documented(401, 403, 404, 422, 429, 503),
    )
    async def get_trail_leaf(request: Request, uid: Name) -> EntryView:
        reader = await reading.reader(request)
        return await reading.shown(await reading.trail.leaf(uid), reader)

    @router.get(
        "/trail/{source}/{event:path}",
        summary="One entry by its event's source and id",
        responses=documented(401, 403, 404, 422, 429, 503),
    )
    async def get_trail_entry(request: Request, source: Name, event: Name) -> EntryView:
        # A DID with a percent sign is looked for as it was written.
        source = segment_of(request, 2)
        reader = await reading.reader(request)
        return await reading.shown(await reading.trail.entry(source, event), reader)


def _add_reports(router: APIRouter, reading: Reading) -> None:
    @router.get(
        "/reports/disclosures",
        summary="Accounting of disclosures of a patient's objects (45 CFR 164.528), oldest first",
        responses=documented(400, 401, 403, 422, 429, 503),
    )
    async def list_disclosures(  # noqa: PLR0913  # the report's parameters
        request: Request,
        *,
        patient: Annotated[str, Query(max_length=64, pattern=PLAIN)],
        since: Annotated[Moment | None, Query(description="Sealed from this time on.")] = None,
        until: Annotated[Moment | None, Query(description="Sealed before this time.")] = None,
        limit: Limit = PAGE_ENTRIES_MAX,
        cursor: Word = None,
    ) -> Disclosures:
        reader = await reading.reader(request)
        question = Question(
            patient=patient,
            action="R",
            outcome="success",
            is_done=True,
            since=since,
            until=until,
            after=_position(cursor) or 0,
        )
        found = await reading.search(question, reader, limit=limit + 1)
        page = found[:limit]
        lines = [disclosure_of(each.entry, reading.around) for each in page]
        following = cursor_after(page[-1]) if len(found) > limit else None
        return Disclosures(patient=patient, disclosures=lines, next=following)


def _add_stream(router: APIRouter, reading: Reading) -> None:
    @router.get(
        "/trail/stream",
        summary="Follow the trail live (server-sent events)",
        description="Each event has a position as `id` and an entry as `data`. Send the last `id` as "
        "`Last-Event-ID` to go on without a gap; without it the stream begins with the next entry. A stream "
        f"ends after {STREAM_S_MAX:.0f} s: come back with a new bearer.",
        responses={**documented(400, 401, 403, 422, 429, 503), **content("text/event-stream", TEXT)},
        response_class=StreamingResponse,
    )
    async def follow_trail(
        request: Request,
        question: Asked,
        last_event_id: Annotated[str | None, Header(pattern=PLAIN)] = None,
    ) -> StreamingResponse:
        reader = await reading.reader(request)
        start = await reading.trail.end() if last_event_id is None else _sequence(last_event_id)
        stopping = _after(STREAM_S_MAX, getattr(request.app.state, "stopping", _never))
        events = follow(reading, question, reader, start=start, stopping=stopping)
        return _Stream(events, place=reading.streams.taken(reader))


class _Stream(StreamingResponse):
    """Server-sent events, for as long as a place is held for them; without one, the answer is 503 `busy`."""

    def __init__(self, events: AsyncGenerator[str], *, place: AbstractAsyncContextManager[None]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(events, media_type="text/event-stream", headers=headers)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them."""
        async with self._place:
            await super().__call__(scope, receive, send)


async def follow(
    reading: Reading,
    question: Question,
    reader: Reader,
    *,
    start: int,
    stopping: Callable[[], bool],
) -> AsyncGenerator[str]:
    """Yield server-sent events from a position on, and a comment whenever nothing happens for long.

    It ends when the database is away or busy: who comes back with the last id has no gap.
    """
    # The first id lets one who is cut off before the first entry come back without a gap.
    yield f"id: {start}\n: the trail\n\n"
    quiet_s = 0.0
    while not stopping():
        asked_now = replace(question, after=start)
        try:
            # Read before looking for matches: what comes later than `end` is looked at in the next round.
            end = await reading.trail.end()
            found = await reading.search(asked_now, reader, limit=STREAM_ENTRIES_AT_ONCE)
        except (OutOfReachError, ProblemError) as error:
            _log.warning("a stream ends", error=str(error))
            return
        for each in found:
            data = reading.view(each.entry).model_dump_json()
            yield f"id: {each.seq}\nevent: entry\ndata: {data}\n\n"
        if found:
            start, quiet_s = found[-1].seq, 0.0
            continue
        start = max(start, end)
        await reading.grown.wait(STREAM_WAIT_S)
        quiet_s += STREAM_WAIT_S
        if quiet_s >= HEARTBEAT_S:
            quiet_s = 0.0
            yield f"id: {start}\n: nothing new\n\n"


async def damaged(_: Request, error: Exception) -> JSONResponse:
    """Answer that the trail was changed by another hand; the log and /readyz say where."""
    _log.error("trail damaged", error=str(error))
    sentence = "the trail was changed and is not answered from; an operator runs `salus audit reconcile`"
    return problem_response(503, "trail-damaged", sentence)


async def out_of_reach(_: Request, error: Exception) -> JSONResponse:
    """Answer that the database is away; nothing was changed by reading."""
    _log.warning("trail out of reach", error=str(error))
    return problem_response(503, "unavailable", "the trail's database is away or slow; ask again")


def _never() -> bool:
    return False


def _after(seconds: float, stopping: Callable[[], bool]) -> Callable[[], bool]:
    end = monotonic() + seconds
    return lambda: stopping() or monotonic() >= end


def _position(cursor: str | None) -> int | None:
    try:
        return None if cursor is None else position_of(cursor)
    except CursorError as error:
        raise ProblemError(400, "invalid-cursor", str(error)) from None


def _sequence(last_event_id: str) -> int:
    if not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > 18:
        raise ProblemError(400, "invalid-last-event-id", "Last-Event-ID is not a position of this stream")
    return int(last_event_id)
