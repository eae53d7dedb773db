"""`salus party sessions` and `end-sessions`: who is logged in as a person, and ending all of that at once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from salus.cli.callers import json_body
from salus.cli.console import emit, out
from salus.cli.display import styled
from salus.cli.exits import CommandError, Exit
from salus.cli.party_changes import Party, Reason, moment_of
from salus.cli.party_commands import PartyCommand, identity_request, target_of
from salus.cli.service_answers import read_answer
from salus.client.auth import RequestLine
from salus.ledger.times import read_time

# While they are ended, whoever has the password, or the provider's key, may open another.
LOOKS_MAX = 5

_SEES = "when sessions came into other hands (RFC 3339)"


class SessionFacts(msgspec.Struct, frozen=True):
    """A session, as identity tells it."""

    key_id: str
    provider: str
    opened: str
    authenticated: str
    acr: str | None = None
    ended: str | None = None
    in_doubt_since: str | None = None


class _Sessions(msgspec.Struct, frozen=True):
    did: str
    sessions: tuple[SessionFacts, ...]
    more: bool


@identity_request
def sessions(
    command: PartyCommand,
    did: Party,
    since: Annotated[
        datetime | None,
        typer.Option(
            metavar="MOMENT", parser=moment_of, help="Also those that were open then, or later (RFC 3339)."
        ),
    ] = None,
) -> None:
    """List the sessions of a person that are open: for herself, for her member, for operators."""
    told = asyncio.run(_every(command, command.network.did_of(did), since))
    if command.as_json:
        emit(msgspec.to_builtins(told))
        return
    table = Table("opened", "provider", "logged in", "level", "ended", "in doubt", box=None)
    table.add_column("key", no_wrap=True)
    for one in told:
        moments = (one.ended or "open", one.in_doubt_since or "-")
        table.add_row(one.opened, one.provider, one.authenticated, one.acr or "-", *moments, one.key_id)
    out.print(table)


@identity_request
def end_sessions(
    command: PartyCommand,
    did: Party,
    reason: Reason = "unspecified",
    since: Annotated[
        datetime | None,
        typer.Option(
            metavar="MOMENT",
            parser=moment_of,
            help=f"With compromised: {_SEES}. What they signed since then is in doubt.",
        ),
    ] = None,
) -> None:
    """End all sessions of a person at once; herself, her member or an operator does this.

    Each is one event. With --since those that are over are put in doubt as well. If her password or the
    provider's key is stolen, see to that first: else the thief opens others.
    """
    ended = asyncio.run(end_all(command, command.network.did_of(did), reason=reason, since=since))
    if command.as_json:
        emit({"ended": ended})
    else:
        out.print(styled("{} sessions are over", len(ended)), highlight=False, soft_wrap=True)


async def end_all(command: PartyCommand, did: str, *, reason: str, since: datetime | None) -> list[str]:
    """End the sessions of a person, those as well that are opened meanwhile, and return their keys' ids.

    The session in which this is asked comes last, once no other is left: what it signs then is refused.
    Who is killed in between has ended some, and ends the rest by the same command.

    Raises:
        CommandError: identity refused or gave no answer, or there are more after LOOKS_MAX looks.
    """
    ended: list[str] = []
    for _ in range(LOOKS_MAX):
        told = await _every(command, did, since)
        left = [one for one in told if not _is_done(one, since) and one.key_id not in ended]
        others = [one for one in left if one.key_id != command.signer.verification_method]
        for one in others or left:
            body: dict[str, Any] = {"key_id": one.key_id, "reason": reason}
            if since is not None:
                body["since"] = since.isoformat()
            line = RequestLine("POST", target_of("parties", did, "keys", "revoke"), json_body(body))
            await command.network.command(line, signer=command.signer)
            ended.append(one.key_id)
        if not others:
            return ended
    raise CommandError(Exit.NO, "sessions are opened as fast as they are ended: withdraw the provider")


async def _every(command: PartyCommand, did: str, since: datetime | None) -> list[SessionFacts]:
    """Return the sessions of a person, the newest first; raises CommandError."""
    path, found = target_of("parties", did, "sessions"), dict[str, SessionFacts]()
    asked = () if since is None else (("since", since.astimezone(UTC).isoformat()),)
    query = asked
    while True:
        answer = await command.network.ask(path, query=query, signer=command.signer)
        told = read_answer("identity", answer, _Sessions)
        fresh = {one.key_id: one for one in told.sessions if one.key_id not in found}
        found |= fresh
        if not told.more:
            return [*found.values()]
        if not fresh:
            raise CommandError(Exit.NO, "identity does not list the older sessions: it is of another version")
        query = (*asked, ("before", told.sessions[-1].key_id))


def _is_done(session: SessionFacts, since: datetime | None) -> bool:
    """Tell whether a session is in doubt since then already, and so is over; one that is open never is."""
    doubted = session.in_doubt_since
    return since is not None and doubted is not None and read_time(doubted) <= since
