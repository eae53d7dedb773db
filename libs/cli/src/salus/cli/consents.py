"""`salus consent`: grant, revoke, list, and ask whether an access is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, get_args, get_type_hints
from urllib.parse import quote

import msgspec
import typer
from rich.table import Table

from salus.cli import access_replay, review_list
from salus.cli.callers import As, KeyFile, KeyId, call, complete_party, did_of, require_no_content, signer_of
from salus.cli.choices import Choices
from salus.cli.console import Json, emit, err, out
from salus.cli.display import plain, shown, shown_moment
from salus.cli.exits import CommandError, Exit
from salus.cli.outputs import printing
from salus.cli.service_answers import AnswerError, checked_answer, read_answer
from salus.cli.state import running_platform
from salus.devkit.platform import Platform
from salus.events.contexts.consent import Action, EmergencyReason, GlassBreakReviewed, ReviewGround
from salus.events.contexts.consent_oversight import CaseDecided, CaseGround
from salus.events.did import LocalSigner
from salus.events.fields import Purpose as PurposeCode
from salus.events.pseudonyms import is_pseudonym
from salus.events.recipients import Recipient, RecipientRole


class _Granted(msgspec.Struct, frozen=True):
    consent: str


class _Revoked(msgspec.Struct, frozen=True):
    patient: str
    grantee: str


class _Linked(msgspec.Struct, frozen=True):
    patient: str
    did: str


class _Case(msgspec.Struct, frozen=True):
    case: str
    outcome: str | None


class _Consent(msgspec.Struct, frozen=True):
    consent: str
    grantee: str
    actions: tuple[str, ...]
    purposes: tuple[str, ...]
    valid_until: datetime
    revoked: bool
    role: str | None = None


class _Consents(msgspec.Struct, frozen=True):
    consents: tuple[_Consent, ...]


class Decision(msgspec.Struct, frozen=True):
    """What consent decided; `token` is there if it is allowed."""

    allowed: bool
    reasons: tuple[str, ...]
    token: str | None
    explanation: tuple[str, ...] = ()


def read_pseudonym(text: str) -> str:
    """Return a patient's pseudonym; raises BadParameter, which names the option, if it has not that form."""
    if not is_pseudonym(text):
        raise typer.BadParameter(
            f"{shown(text)} is no pseudonym, which is urn:uuid:… as `salus object subject` prints it"
        )
    return text


app = typer.Typer(no_args_is_help=True, help="What a patient allows, and what follows from it.")
app.command("replay")(access_replay.replay)
app.command("reviews")(review_list.reviews)
DAYS_DEFAULT = 30

PatientArgument = Annotated[
    str, typer.Argument(help="The patient's pseudonym.", metavar="PATIENT", parser=read_pseudonym)
]
PatientOption = Annotated[
    str, typer.Option(help="Whose it is: her pseudonym.", metavar="PSEUDONYM", parser=read_pseudonym)
]
ACTIONS = Choices(get_args(Action))
PURPOSES = Choices(get_args(PurposeCode))
ROLES = Choices(get_args(RecipientRole))
EMERGENCIES = Choices(get_args(EmergencyReason))
OUTCOMES = Choices(get_args(get_type_hints(GlassBreakReviewed)["outcome"]))
GROUNDS = Choices(get_args(ReviewGround))
CASE_OUTCOMES = Choices(get_args(get_type_hints(CaseDecided)["outcome"]))
CASE_GROUNDS = Choices(get_args(CaseGround))
Purpose = Annotated[
    str | None,
    typer.Option(
        help=f"HL7 purpose: {', '.join(PURPOSES.values)}. TREAT by default, ETREAT with --break-glass. "
        "A patient's own is PATRQT.",
        **PURPOSES.typed("PURPOSE"),
    ),
]
BreakGlass = Annotated[
    str | None,
    typer.Option(
        help="Emergency access, which is reviewed afterwards, with its reason: "
        f"{', '.join(EMERGENCIES.values)}.",
        **EMERGENCIES.typed("REASON"),
    ),
]
PartyArgument = Annotated[
    str,
    typer.Argument(help="A name given to `party register`, or a DID.", autocompletion=complete_party),
]
Role = Annotated[
    str | None,
    typer.Option(
        help=f"Only those who hold this role at that member when they ask: {', '.join(ROLES.values)}. "
        "The member says who does.",
        **ROLES.typed("ROLE"),
    ),
]
Purposes = Annotated[
    list[str] | None,
    typer.Option(
        "--purpose",
        help=f"HL7 purpose: {', '.join(PURPOSES.values)}. TREAT by default.",
        **PURPOSES.typed("PURPOSE"),
    ),
]


@app.command()
def grant(
    patient: PatientArgument,
    grantee: Annotated[
        str,
        typer.Argument(
            help="Who may: a name given to `party register`, or a DID.", autocompletion=complete_party
        ),
    ],
    action: Annotated[
        list[str] | None, typer.Option(help="read or write; read by default.", **ACTIONS.typed("ACTION"))
    ] = None,
    purpose: Purposes = None,
    role: Role = None,
    days: Annotated[int, typer.Option(min=1, help="For how long, in days.")] = DAYS_DEFAULT,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Let someone act on a patient's data; as the patient or as her steward.

    A grant that is repeated is one more consent, to be taken back by itself.
    """
    platform = running_platform()
    body = {
        "patient": patient,
        "grantee": did_of(platform, grantee),
        "actions": action or ["read"],
        "purposes": purpose or ["TREAT"],
        "valid_until": (datetime.now(UTC) + timedelta(days=days)).isoformat(),
    } | ({"role": role} if role else {})
    signer = signer_of(platform, as_name, key, key_id)
    answer = asyncio.run(call(platform, "consent", "POST", "/consents", signer=signer, body=body))
    granted = checked_answer("consent", answer.content, _Granted)
    with printing(f"consent {granted['consent']} is granted"):
        if as_json:
            emit(granted)
        else:
            out.print(granted["consent"], highlight=False, soft_wrap=True)


@app.command()
def revoke(
    consent: Annotated[str, typer.Argument(help="The consent's id.")],
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Take a consent back; the next read under it is refused.

    If the grantee has other consents of this patient, they are named.
    """
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    path = f"/consents/{consent}/revoke"
    answer = asyncio.run(call(platform, "consent", "POST", path, signer=signer))
    revoked = checked_answer("consent", answer.content, _Revoked)
    if as_json:
        emit(revoked)
    else:
        out.print(f"{consent} is revoked", highlight=False, soft_wrap=True)
    others = asyncio.run(_others_in_force(platform, signer, revoked))
    if others:
        told = f"{revoked['grantee']} has other consents of this patient in force: {', '.join(others)}"
        err.print(plain(told, "yellow"), soft_wrap=True)


async def _others_in_force(platform: Platform, signer: LocalSigner, revoked: dict[str, Any]) -> list[str]:
    """Return the consents that the grantee still has; none if the caller is not told of them."""
    path = f"/patients/{revoked['patient']}/consents"
    try:
        answer = await call(platform, "consent", "GET", path, signer=signer)
        found = read_answer("consent", answer.content, _Consents).consents
    except CommandError:
        return []
    return [
        one.consent
        for one in found
        if one.grantee == revoked["grantee"] and not one.revoked and one.valid_until > datetime.now(UTC)
    ]


@app.command("list")
def list_consents(
    patient: PatientArgument,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """List a patient's consents, as far as they are the caller's business."""
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    path = f"/patients/{patient}/consents"
    answer = asyncio.run(call(platform, "consent", "GET", path, signer=signer))
    if as_json:
        emit(checked_answer("consent", answer.content, _Consents))
        return
    table = Table(
        "consent", "grantee", "actions", "purposes", "until", "revoked", box=None, header_style="bold"
    )
    found = read_answer("consent", answer.content, _Consents).consents
    if not found:
        err.print(f"{signer.did} is told of no consent of this patient (--as)", soft_wrap=True)
        return
    for one in found:
        words = (", ".join(one.actions), ", ".join(one.purposes))
        revoked = "yes" if one.revoked else ""
        whom = str(Recipient(one.grantee, one.role))
        table.add_row(one.consent, whom, *words, shown_moment(one.valid_until), revoked)
    out.print(table)


@app.command()
def link(
    patient: PatientArgument,
    party: PartyArgument,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
) -> None:
    """Say which party a patient is; as her steward. It acts as she while it holds the role patient."""
    platform = running_platform()
    did, signer = did_of(platform, party), signer_of(platform, as_name, key, key_id)
    path = f"/patients/{patient}/parties"
    answer = asyncio.run(call(platform, "consent", "POST", path, signer=signer, body={"did": did}))
    linked = read_answer("consent", answer.content, _Linked)
    if linked != _Linked(patient, did):
        raise AnswerError("consent", "it is about another patient or party")
    out.print(f"{did} is the patient", highlight=False, soft_wrap=True)


@app.command()
def unlink(
    patient: PatientArgument,
    party: PartyArgument,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
) -> None:
    """Say that a party is not the patient any more; as her steward, or as the party itself."""
    platform = running_platform()
    did, signer = did_of(platform, party), signer_of(platform, as_name, key, key_id)
    path = f"/patients/{patient}/parties/{quote(did, safe=':')}"
    require_no_content("consent", asyncio.run(call(platform, "consent", "DELETE", path, signer=signer)))
    out.print(f"{did} is not the patient any more", highlight=False, soft_wrap=True)


@app.command()
def review(
    decision: Annotated[str, typer.Argument(help="The id of the decision that broke the glass.")],
    outcome: Annotated[str, typer.Argument(help="justified or unjustified.", **OUTCOMES.typed("OUTCOME"))],
    ground: Annotated[
        str | None,
        typer.Option(
            help=f"Why, which unjustified needs: {', '.join(GROUNDS.values)}.", **GROUNDS.typed("GROUND")
        ),
    ] = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
) -> None:
    """Judge an emergency access; as a privacy officer of the patient's steward, and not one's own."""
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    path = f"/glass-breaks/{decision}/review"
    body = {"outcome": outcome} | ({"ground": ground} if ground else {})
    answer = asyncio.run(call(platform, "consent", "POST", path, signer=signer, body=body))
    require_no_content("consent", answer)
    out.print(f"{decision} is reviewed: {outcome}", highlight=False, soft_wrap=True)


@app.command()
def case(
    case: Annotated[str, typer.Argument(help="The id of what waits for a person.")],
    outcome: Annotated[str, typer.Argument(help="approved or rejected.", **CASE_OUTCOMES.typed("OUTCOME"))],
    ground: Annotated[
        str, typer.Option(help=f"Why: {', '.join(CASE_GROUNDS.values)}.", **CASE_GROUNDS.typed("GROUND"))
    ],
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
) -> None:
    """Allow or refuse an access that a policy leaves to a person; as a privacy officer of the steward."""
    platform = running_platform()
    signer = signer_of(platform, as_name, key, key_id)
    body = {"outcome": outcome, "ground": ground}
    path = f"/cases/{case}/decide"
    answer = asyncio.run(call(platform, "consent", "POST", path, signer=signer, body=body))
    if read_answer("consent", answer.content, _Case) != _Case(case, outcome):
        raise AnswerError("consent", "it is about another case or outcome")
    out.print(f"{case} is {outcome}", highlight=False, soft_wrap=True)


@app.command()
def decide(
    patient: PatientArgument,
    object_id: Annotated[str, typer.Argument(metavar="OBJECT", help="The object's id.")],
    action: Annotated[str, typer.Option(help="read or write.", **ACTIONS.typed("ACTION"))] = "read",
    purpose: Purpose = None,
    break_glass: BreakGlass = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    as_json: Json = False,
) -> None:
    """Ask whether one may; exits with 1 if not. The answer is an event either way."""
    platform = running_platform()
    body = question(patient, object_id, action=action, purpose=purpose, break_glass=break_glass)
    signer = signer_of(platform, as_name, key, key_id)
    answer = asyncio.run(call(platform, "consent", "POST", "/decisions", signer=signer, body=body))
    decision = checked_answer("consent", answer.content, Decision)
    if as_json:
        emit(decision)
    elif decision["allowed"]:
        out.print(f"allowed by {', '.join(decision['reasons'])}", highlight=False, soft_wrap=True)
    if decision.get("case") and decision.get("pending"):
        told = f"it waits for a person as case {decision['case']}; ask again once that is approved"
        err.print(plain(told, "yellow"), soft_wrap=True)
    if not decision["allowed"]:
        raise denial(decision["reasons"], decision.get("explanation", ()))


def denial(reasons: Sequence[str], explanation: Sequence[str]) -> CommandError:
    """Return the error of a question whose answer is no: the reasons, and what a person is told."""
    told = f": {' '.join(explanation)}" if explanation else ""
    return CommandError(Exit.NO, shown(f"denied: {', '.join(reasons)}{told}"))


def question(
    patient: str, object_id: str, *, action: str, purpose: str | None, break_glass: str | None
) -> dict[str, Any]:
    """Return the body of a question to consent; an emergency is asked for as emergency treatment."""
    asked = {"action": action, "object": object_id, "patient": patient}
    if break_glass is None:
        return asked | {"purpose": purpose or "TREAT"}
    return asked | {"purpose": purpose or "ETREAT", "break_glass": {"reason": break_glass}}
