"""`salus audit reconcile`: compare the trail with the ledger now, and put it right if asked to."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, aclosing
from typing import Annotated, Any

import httpx
import msgspec
import typer
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from salus.cli.callers import As, KeyFile, KeyId, require_stream, signer_of, signing
from salus.cli.console import Json, emit, out, progress_bar
from salus.cli.display import plain
from salus.cli.event_stream import StreamError, events_of
from salus.cli.exits import CommandError, Exit
from salus.cli.interrupts import run_until_signal
from salus.cli.service_answers import checked_answer
from salus.cli.state import require_service, running_platform
from salus.client.bounded_http import bounded_client


class _Progress(msgspec.Struct, frozen=True):
    blocks: int
    blocks_in_all: int


class _Told(msgspec.Struct, frozen=True):
    progress: _Progress | None = None
    differences: int = 0
    result: str | None = None
    sentence: str | None = None


# Between two blocks compared.
SILENCE_S_MAX = 300.0

OnProgress = Callable[[int, int], None]
"""Hears how many blocks are compared, of how many."""


def reconcile(
    repair: Annotated[
        bool, typer.Option("--repair", help="Put what differs right, from the ledger.")
    ] = False,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Compare every entry of the trail, and who is who in it, with the ledger, and name what differs.

    Ends with 0 if all is equal or was repaired, with 1 if something differs or the ledger does not verify.
    """
    platform = running_platform()
    url = require_service(platform, "audit")
    auth = signing(signer_of(platform, as_name, key, key_id), "audit", platform.network)
    with ExitStack() as stack:
        told = run_until_signal(_compare(url, auth, _bar(stack), repair=repair))
    show(told, as_json=as_json)


def show(told: list[dict[str, Any]], *, as_json: bool) -> None:
    """Show what a comparison told, and raise CommandError unless the trail is equal now."""
    end = told[-1] if told else {}
    if as_json:
        differences = [event["difference"] for event in told if "difference" in event]
        emit({**end, "differences": differences})
    else:
        for event in told:
            if "sentence" in event:
                out.print(plain(str(event["sentence"]), "red"), soft_wrap=True)
        if end.get("result") in _SENTENCES:
            out.print(plain(_SENTENCES[end["result"]].format(end["differences"])), soft_wrap=True)
    _require(end)


_SENTENCES = {
    "equal": "the trail equals the ledger",
    "differs": "{} rows differ: `salus audit reconcile --repair` puts them right",
    "repaired": "{} rows differed and were put right from the ledger",
}


def _require(end: dict[str, Any]) -> None:
    """Raise CommandError unless the trail is equal now."""
    match end:
        case {"result": "equal" | "repaired"}:
            return
        case {"result": "differs"}:
            raise CommandError(Exit.NO, "the trail differs from the ledger")
        case {"error": "ledger-block-refused", "detail": detail}:
            raise CommandError(Exit.NO, f"the ledger does not verify, run `salus ledger fsck`: {detail}")
        case {"error": str(), "detail": detail}:
            raise CommandError(Exit.NOT_RUNNING, str(detail))
        case _:
            raise CommandError(Exit.NOT_RUNNING, "audit ended before the comparison did")


def _bar(stack: ExitStack) -> OnProgress:
    columns = (TextColumn("comparing blocks", markup=False), BarColumn(), TimeElapsedColumn())
    bar = stack.enter_context(progress_bar(*columns))
    task = bar.add_task("blocks", total=None)
    # Of nothing yet: the pass waits for another one, or reads what it begins with.
    return lambda done, in_all: bar.update(task, completed=done, total=in_all or None)


async def _compare(
    url: str, auth: httpx.Auth, on_progress: OnProgress, *, repair: bool
) -> list[dict[str, Any]]:
    timeout = httpx.Timeout(10.0, read=SILENCE_S_MAX)
    async with bounded_client(None, trust_env=False, base_url=url, timeout=timeout, auth=auth) as http:
        return await compared(http, on_progress, repair=repair)


async def compared(http: httpx.AsyncClient, on_progress: OnProgress, *, repair: bool) -> list[dict[str, Any]]:
    """Ask audit to compare; return what it told but for the progress.

    Raises:
        CommandError: audit does not answer, refuses, or its answer cannot be read.
    """
    found: list[dict[str, Any]] = []
    query = {"repair": str(repair).lower()}
    try:
        async with http.stream("POST", "/trail/reconcile", params=query) as answer:
            await require_stream("audit", answer)
            async with aclosing(events_of(answer.aiter_bytes())) as events:
                async for event in events:
                    told = checked_answer("audit", (event.data or "{}").encode(), _Told)
                    if told.get("progress") is not None:
                        on_progress(told["progress"]["blocks"], told["progress"]["blocks_in_all"])
                    elif told:
                        found.append(told)
    except StreamError as error:
        raise CommandError(Exit.NOT_RUNNING, f"audit's answer cannot be read: {error}") from error
    except httpx.TransportError as error:
        raise CommandError(Exit.NOT_RUNNING, f"audit does not answer: {type(error).__name__}") from error
    return found
