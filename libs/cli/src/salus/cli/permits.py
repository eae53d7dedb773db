"""`salus permit`: research on a data set, from its proposal to its last use."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar, get_args
from urllib.parse import urlencode

import msgspec
import typer
from msgspec import structs
from rich.table import Table

from salus.cli.callers import As, KeyFile, KeyId, call, complete_party, did_of, signer_of
from salus.cli.choices import Choices
from salus.cli.consents import denial, read_pseudonym
from salus.cli.console import Json, emit, err, out
from salus.cli.display import shown, shown_moment
from salus.cli.outputs import printing
from salus.cli.service_answers import AnswerError, checked_answer, converted
from salus.cli.state import running_platform
from salus.devkit.platform import Platform
from salus.events.contexts.consent_permits import (
    PERMIT_ID_PATTERN,
    USES_MAX,
    PermitGround,
    ResearchPurpose,
    Terms,
)
from salus.events.did import LocalSigner

PAGE = 50
_T = TypeVar("_T", bound=msgspec.Struct)


class _Permit(msgspec.Struct, frozen=True):
    permit: str
    owner: str
    data_set: str
    proposer: str
    recipient: str
    purpose: str
    valid_from: datetime
    valid_until: datetime
    uses_max: int
    used: int
    standing: str
    terms: str
    approver: str | None
    ground: str | None

    @property
    def said(self) -> Terms:
        """What the permit says."""
        return Terms(**{name: getattr(self, name) for name in Terms.__struct_fields__})


class _Page(msgspec.Struct, frozen=True):
    permits: tuple[_Permit, ...]
    next: str | None


class _Use(msgspec.Struct, frozen=True):
    permit: str
    allowed: bool
    reasons: tuple[str, ...]
    explanation: tuple[str, ...]
    number: int | None
    left: int | None


def read_permit(text: str) -> str:
    """Return a permit's id, which becomes part of a path; raises BadParameter if it has not that form."""
    if re.match(PERMIT_ID_PATTERN, text) is None:
        raise typer.BadParameter(
            f"{shown(text)} is no permit, which is permit-… as `salus permit list` prints it"
        )
    return text


app = typer.Typer(no_args_is_help=True, help="Research on a data set: permits, and each use of them.")
PURPOSES = Choices(get_args(ResearchPurpose))
GROUNDS = Choices(get_args(PermitGround))
STATUSES = Choices(("proposed", "granted", "withdrawn"))
PermitArgument = Annotated[str, typer.Argument(help="The permit's id.", metavar="PERMIT", parser=read_permit)]


@app.command()
def propose(
    data_set: Annotated[str, typer.Argument(metavar="DATA-SET", help="The name that its owner gave it.")],
    owner: Annotated[
        str,
        typer.Argument(
            help="Whose it is: a name given to `party register`, or a DID.", autocompletion=complete_party
        ),
    ],
    recipient: Annotated[
        str,
        typer.Argument(
            help="Who may use it, a researcher of the member: a name given to `party register`, or a DID.",
            autocompletion=complete_party,
        ),
    ],
    days: Annotated[int, typer.Option(min=1, help="For how long, in days from now.")],
    uses: Annotated[int, typer.Option(min=1, max=USES_MAX, help="How often at most.")],
    purpose: Annotated[
        str, typer.Option(help=f"HL7 purpose: {', '.join(PURPOSES.values)}.", **PURPOSES.typed("PURPOSE"))
    ] = "HRESCH",
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Propose that a researcher may use a data set; as the researcher's member, by its own key."""
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    until = datetime.now(UTC) + timedelta(days=days)
    body: dict[str, Any] = {
        "owner": did_of(platform, owner),
        "data_set": data_set,
        "recipient": did_of(platform, recipient),
        "purpose": purpose,
        "valid_until": until.isoformat(),
        "uses_max": uses,
    }
    stated, told = _asked(platform, "POST", "/permits", _Permit, signer=signer, body=body)
    wanted = structs.replace(
        told.said,
        **{name: body[name] for name in ("owner", "data_set", "recipient", "purpose", "uses_max")},
        valid_until=until,
    )
    if told.said != wanted:
        raise AnswerError("consent", "it is about another permit")
    with printing(f"permit {stated['permit']} is proposed"):
        if as_json:
            emit(stated)
        else:
            out.print(stated["permit"], highlight=False, soft_wrap=True)


@app.command()
def approve(
    permit: PermitArgument,
    terms: Annotated[str, typer.Argument(help="The digest of its terms, as `salus permit show` prints it.")],
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Grant a permit with the terms that were shown; as an ethics reviewer who acts for no member."""
    _command(permit, "approve", {"terms": terms}, as_name, key, key_id, as_json=as_json)


@app.command()
def withdraw(
    permit: PermitArgument,
    ground: Annotated[
        str, typer.Option(help=f"Why: {', '.join(GROUNDS.values)}.", **GROUNDS.typed("GROUND"))
    ],
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """End a permit or a proposal at once; as its member, an ethics reviewer, the owner or an operator."""
    _command(permit, "withdraw", {"ground": ground}, as_name, key, key_id, as_json=as_json)


@app.command("list")
def list_permits(
    status: Annotated[
        str | None,
        typer.Option(help=f"Only those that are {', '.join(STATUSES.values)}.", **STATUSES.typed("STATUS")),
    ] = None,
    after: Annotated[
        str | None, typer.Option(metavar="CURSOR", help="What the page before named as the next one.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="So many at most.")] = PAGE,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """List permits that are one's business, the first to end first; reviewers and operators see all."""
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    query = (
        {"limit": str(limit)} | ({"status": status} if status else {}) | ({"after": after} if after else {})
    )
    told, page = _asked(platform, "GET", f"/permits?{urlencode(query)}", _Page, signer=signer)
    if as_json:
        emit(told)
        return
    if not page.permits:
        err.print(f"{signer.did} is told of no such permit (--as)", soft_wrap=True)
    else:
        table = Table(
            "permit",
            "data set",
            "owner",
            "recipient",
            "used",
            "until",
            "standing",
            box=None,
            header_style="bold",
        )
        for one in page.permits:
            used = f"{one.used}/{one.uses_max}"
            parties = one.data_set, one.owner, one.recipient
            table.add_row(one.permit, *parties, used, shown_moment(one.valid_until), one.standing)
        out.print(table)
    if page.next is not None:
        err.print(f"there are more: --after {shown(page.next)}", soft_wrap=True)


@app.command()
def show(
    permit: PermitArgument,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Show what a permit says, and the digest of it that an approval names, which is computed here."""
    platform = running_platform()
    told, found = _read(platform, permit, signer_of(platform, as_name, key, key_id))
    if as_json:
        emit(told)
        return
    table = Table("", "", box=None, show_header=False)
    for name, value in (
        ("data set", f"{found.data_set} of {found.owner}"),
        ("recipient", f"{found.recipient} of {found.proposer}"),
        ("purpose", found.purpose),
        ("from", shown_moment(found.valid_from)),
        ("until", shown_moment(found.valid_until)),
        ("used", f"{found.used} of {found.uses_max}"),
        ("standing", found.standing + (f" ({found.ground})" if found.ground else "")),
        ("approved by", found.approver or ""),
        ("terms", found.said.digest),
    ):
        table.add_row(name, value)
    out.print(table)


@app.command()
def use(
    permit: PermitArgument,
    patient: Annotated[
        str | None,
        typer.Option(
            help="The patient whom the use is about, if it is about one: her pseudonym.",
            metavar="PSEUDONYM",
            parser=read_pseudonym,
        ),
    ] = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Ask for one use, as the recipient; exits with 1 if it is denied. The answer is an event either way."""
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    said = _read(platform, permit, signer)[1].said
    body = {"owner": said.owner, "data_set": said.data_set, "purpose": said.purpose}
    body |= {"patient": patient} if patient else {}
    told, found = _asked(platform, "POST", f"/permits/{permit}/uses", _Use, signer=signer, body=body)
    if found.permit != permit:
        raise AnswerError("consent", "it is about another permit")
    if found.allowed:
        number, left = found.number, found.left
        with printing(f"use {number} of permit {permit} is counted"):
            if as_json:
                emit(told)
            else:
                sentence = f"allowed for {said.purpose}: use {number}, {left} left"
                out.print(sentence, highlight=False, soft_wrap=True)
        return
    if as_json:
        emit(told)
    raise denial(found.reasons, found.explanation)


def _asked(
    platform: Platform,
    method: str,
    path: str,
    kind: type[_T],
    *,
    signer: LocalSigner,
    body: dict[str, Any] | None = None,
) -> tuple[dict[str, Any], _T]:
    """Return what consent answers, as it was told and as it is read; raises AnswerError."""
    answer = asyncio.run(call(platform, "consent", method, path, signer=signer, body=body))
    told = checked_answer("consent", answer.content, kind)
    return told, converted("consent", told, kind)


def _read(platform: Platform, permit: str, signer: LocalSigner) -> tuple[dict[str, Any], _Permit]:
    """Return a permit as it is now, whose terms have the digest that the service names."""
    told, found = _asked(platform, "GET", f"/permits/{permit}", _Permit, signer=signer)
    if (found.permit, found.terms) != (permit, found.said.digest):
        raise AnswerError("consent", "it is about another permit, or its digest is not of its terms")
    return told, found


def _command(  # what is asked, what follows, and by whom
    permit: str,
    verb: str,
    body: dict[str, str],
    as_name: str,
    key: Any,
    key_id: str | None,
    *,
    as_json: bool,
) -> None:
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    told, found = _asked(platform, "POST", f"/permits/{permit}/{verb}", _Permit, signer=signer, body=body)
    if found.permit != permit or found.said.digest != body.get("terms", found.said.digest):
        raise AnswerError("consent", "it is about another permit or other terms")
    # Of what was approved another one may have made an end a moment later; it is no proposal any more.
    if found.standing == "proposed" or (verb == "withdraw" and found.standing != "withdrawn"):
        raise AnswerError("consent", f"the permit is {found.standing}, as if nothing had been asked for")
    if as_json:
        emit(told)
    else:
        out.print(f"{permit} is {found.standing}", highlight=False, soft_wrap=True)
