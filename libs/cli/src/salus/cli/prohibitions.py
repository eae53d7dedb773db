"""`salus prohibition`: what a patient forbids, whatever consents and policies say."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import msgspec
import typer
from msgspec import structs
from rich.table import Table

from salus.cli.callers import As, KeyFile, KeyId, call, complete_party, did_of, signer_of
from salus.cli.choices import Choices
from salus.cli.consents import ACTIONS, PURPOSES, PatientArgument, Role
from salus.cli.console import Json, emit, err, out
from salus.cli.display import shown_moment
from salus.cli.outputs import printing
from salus.cli.service_answers import AnswerError, checked_answer, read_answer
from salus.cli.state import running_platform
from salus.events.recipients import Recipient


class _Prohibition(msgspec.Struct, frozen=True):
    prohibition: str
    party: str | None
    actions: tuple[str, ...]
    purposes: tuple[str, ...]
    valid_until: datetime | None
    lifted: bool
    role: str | None = None


class _Prohibitions(msgspec.Struct, frozen=True):
    prohibitions: tuple[_Prohibition, ...]


app = typer.Typer(no_args_is_help=True, help="What a patient forbids, whatever consents and policies say.")


def _set(words: Iterable[str] | None) -> tuple[str, ...]:
    return tuple(sorted(set(words or ())))


def _any_of(choices: Choices, default: str) -> str:
    return f"{', '.join(choices.values)}; {default}."


@app.command()
def add(
    patient: PatientArgument,
    party: Annotated[
        str | None,
        typer.Argument(
            help="Who may not: a name given to `party register`, or a DID; everybody, if none is given.",
            autocompletion=complete_party,
        ),
    ] = None,
    action: Annotated[
        list[str] | None,
        typer.Option(help=_any_of(ACTIONS, "both by default"), **ACTIONS.typed("ACTION")),
    ] = None,
    purpose: Annotated[
        list[str] | None,
        typer.Option(
            help=f"HL7 purpose: {_any_of(PURPOSES, 'any by default')} ETREAT forbids emergency access.",
            **PURPOSES.typed("PURPOSE"),
        ),
    ] = None,
    role: Role = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="For how long, in days; until it is lifted by default.")
    ] = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Forbid an access to a patient's data; as the patient or as her steward."""
    if role is not None and party is None:
        raise typer.BadParameter("a role is held at a member: name it as PARTY", param_hint="--role")
    platform = running_platform()
    body: dict[str, Any] = {"patient": patient, "actions": action or [], "purposes": purpose or []}
    if party is not None:
        body["party"] = did_of(platform, party)
    if role is not None:
        body["role"] = role
    until = None
    if days is not None:
        until = datetime.now(UTC) + timedelta(days=days)
        body["valid_until"] = until.isoformat()
    signer = signer_of(platform, as_name, key, key_id)
    answer = asyncio.run(call(platform, "consent", "POST", "/prohibitions", signer=signer, body=body))
    stated = checked_answer("consent", answer.content, _Prohibition)
    told = read_answer("consent", answer.content, _Prohibition)
    wanted = _Prohibition(
        told.prohibition, body.get("party"), _set(action), _set(purpose), until, lifted=False, role=role
    )
    if structs.replace(told, actions=_set(told.actions), purposes=_set(told.purposes)) != wanted:
        raise AnswerError("consent", "it is about another prohibition")
    with printing(f"prohibition {stated['prohibition']} holds"):
        if as_json:
            emit(stated)
        else:
            out.print(stated["prohibition"], highlight=False, soft_wrap=True)


@app.command()
def lift(
    prohibition: Annotated[str, typer.Argument(help="The prohibition's id.")],
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Let a prohibition forbid nothing any more; as the patient, or as her steward about others."""
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    path = f"/prohibitions/{prohibition}/lift"
    answer = asyncio.run(call(platform, "consent", "POST", path, signer=signer))
    lifted = checked_answer("consent", answer.content, _Prohibition)
    if (lifted["prohibition"], lifted["lifted"]) != (prohibition, True):
        raise AnswerError("consent", "it is about another prohibition, or that is not lifted")
    if as_json:
        emit(lifted)
    else:
        out.print(f"{prohibition} is lifted", highlight=False, soft_wrap=True)


@app.command("list")
def list_prohibitions(
    patient: PatientArgument,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """List what a patient forbids; as the patient, her steward or its privacy officer."""
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    path = f"/patients/{patient}/prohibitions"
    answer = asyncio.run(call(platform, "consent", "GET", path, signer=signer))
    if as_json:
        emit(checked_answer("consent", answer.content, _Prohibitions))
        return
    found = read_answer("consent", answer.content, _Prohibitions).prohibitions
    if not found:
        err.print("this patient forbids nothing")
        return
    table = Table(
        "prohibition", "party", "actions", "purposes", "until", "lifted", box=None, header_style="bold"
    )
    for one in found:
        whom = "everybody" if one.party is None else str(Recipient(one.party, one.role))
        about = (whom, ", ".join(one.actions) or "all", ", ".join(one.purposes) or "all")
        until = "" if one.valid_until is None else shown_moment(one.valid_until)
        table.add_row(one.prohibition, *about, until, "yes" if one.lifted else "")
    out.print(table)
