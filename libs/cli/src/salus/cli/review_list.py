"""`salus consent reviews`: what waits for a privacy officer, whose, since when and by when."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlencode

import msgspec
import typer
from rich.table import Table

from salus.cli.callers import As, KeyFile, KeyId, call, signer_of
from salus.cli.console import Json, emit, err, out
from salus.cli.display import plain, shown, shown_moment
from salus.cli.service_answers import checked_answer, converted
from salus.cli.state import running_platform

PAGE = 50


class _Awaited(msgspec.Struct, frozen=True):
    kind: str
    decision: str
    patient: str
    principal: str
    action: str
    purpose: str
    reason: str | None
    since: datetime | None
    review_due: datetime
    overdue: bool


class _Page(msgspec.Struct, frozen=True):
    reviews: tuple[_Awaited, ...]
    next: str | None


def reviews(
    overdue: Annotated[bool, typer.Option("--overdue", help="Only those that are overdue.")] = False,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="What the page before named as the next one.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="So many at most.")] = PAGE,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """List what waits for a privacy officer, the first one due first.

    As a member, or one of its officers: she reviews an emergency with `salus consent review`, and decides a
    case with `salus consent case`.
    """
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    query = {"overdue": str(overdue).lower(), "limit": str(limit)} | ({"after": after} if after else {})
    path = f"/reviews?{urlencode(query)}"
    answer = asyncio.run(call(platform, "consent", "GET", path, signer=signer))
    told = checked_answer("consent", answer.content, _Page)
    if as_json:
        emit(told)
        return
    page = converted("consent", told, _Page)
    if not page.reviews:
        err.print("nothing waits for a privacy officer here" if not overdue else "nothing is overdue")
    else:
        out.print(_table(page.reviews))
    if page.next is not None:
        err.print(f"there are more: --after {shown(page.next)}", soft_wrap=True)


def _table(found: tuple[_Awaited, ...]) -> Table:
    table = Table("what", "id", "by", "patient", "wants", "since", "due", box=None, header_style="bold")
    now = datetime.now(UTC)
    for one in found:
        due = shown_moment(one.review_due)
        is_late = one.overdue or one.review_due <= now
        table.add_row(
            shown(one.kind),
            shown(one.decision),
            shown(one.principal),
            shown(one.patient),
            shown(one.reason or f"{one.action} for {one.purpose}"),
            shown_moment(one.since) if one.since else "",
            plain(f"{due}, overdue", "red") if is_late else due,
        )
    return table
