"""`salus member`: suspend, reinstate and expel members, and list who takes part."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, get_args

import msgspec
import typer
from rich.table import Table

from salus.cli.callers import complete_party
from salus.cli.choices import Choices
from salus.cli.confirmation import require_terminal, require_yes
from salus.cli.console import Json, emit, err, out
from salus.cli.display import shown, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import Directory, IdentityUrl, NetworkAccess, PartyFacts
from salus.cli.party_commands import PartyCommand, identity_command, target_of
from salus.cli.request_acts import CONSEQUENCES
from salus.events.contexts.identity import ExpulsionReason, ReinstatementReason, SuspensionReason

app = typer.Typer(no_args_is_help=True, help="Members of the network: who takes part, and who no more.")
_REASONS = {
    "suspend": Choices(get_args(SuspensionReason)),
    "reinstate": Choices(get_args(ReinstatementReason)),
    "expel": Choices(get_args(ExpulsionReason)),
}
_DONE = {"suspend": "suspended", "reinstate": "reinstated", "expel": "expelled"}

Member = Annotated[
    str,
    typer.Argument(
        metavar="DID",
        help="The member: a DID, or a name given to `party register`.",
        autocompletion=complete_party,
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def _reason(act: str) -> Any:
    choices = _REASONS[act]
    return typer.Option(
        "--reason",
        metavar="REASON",
        help=f"Why, for everybody to read: {', '.join(choices.values)}.",
        parser=choices.read,
        autocompletion=choices.complete,
    )


@app.command()
@identity_command
def suspend(
    command: PartyCommand,
    did: Member,
    reason: Annotated[str, _reason("suspend")],
    yes: Yes = False,
) -> None:
    """Suspend a member: nothing is taken from it, its people and its devices until it is reinstated.

    Patients whom it registered can still act for themselves. Two operators of other members are needed
    (--to-approve); one is enough while the operators are all of one organisation.
    """
    _change("suspend", did, reason, command, yes=yes)


@app.command()
@identity_command
def reinstate(
    command: PartyCommand,
    did: Member,
    reason: Annotated[str, _reason("reinstate")],
    yes: Yes = False,
) -> None:
    """Let a suspended member take part again, with the keys and roles that its parties have now."""
    _change("reinstate", did, reason, command, yes=yes)


@app.command()
@identity_command
def expel(
    command: PartyCommand,
    did: Member,
    reason: Annotated[str, _reason("expel")],
    yes: Yes = False,
) -> None:
    """Expel a suspended member, for ever: it never takes part again under this DID.

    It is suspended first (`salus member suspend`), and as many operators are needed as for that.
    """
    _change("expel", did, reason, command, yes=yes)


@app.command("list")
def list_members(directory: Directory = None, identity: IdentityUrl = None, as_json: Json = False) -> None:
    """List the members of the network, and the last reason that was given for their standing."""
    members = asyncio.run(NetworkAccess.of(directory, identity).parties([("kind", "member")]))
    if as_json:
        emit(msgspec.to_builtins(members))
        return
    table = Table("name", "standing", "because", box=None, header_style="bold")
    table.add_column("DID", no_wrap=True)
    for member in members:
        standing = member.membership or "unknown"
        table.add_row(member.name or "", standing, member.standing_reason or "", member.did)
    out.print(table)


def _change(act: str, name: str, reason: str, command: PartyCommand, *, yes: bool) -> None:
    network = command.network
    party = asyncio.run(network.party(network.did_of(name)))
    if party.kind != "member":
        raise CommandError(Exit.NO, f"DID: {shown(party.did)} is a {party.kind}, and no member")
    if command.to_approve is None and not yes:
        _confirm(act, party)
    command.run(
        f"{party.did} is {_DONE[act]}: {reason}",
        target=target_of("parties", party.did, act),
        body={"reason": reason},
        party=party,
    )


def _confirm(act: str, party: PartyFacts) -> None:
    undone = "nothing was sent"
    require_terminal(undone=undone)
    called = f", called {party.name}" if party.name else ""
    sentence = styled("[bold]{} {}[/]{}: {}", act, party.did, called, CONSEQUENCES[act])
    err.print(sentence, soft_wrap=True, highlight=False)
    require_yes(f"{act} it?", undone=undone)
