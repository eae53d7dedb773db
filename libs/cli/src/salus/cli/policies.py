"""`salus policy`: which policies are in force, and how two operators change them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from difflib import unified_diff
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from salus.access.policy_check import problems_of
from salus.access.policy_files import contents_of, digest_of, files_of
from salus.cli.access_replay import contents_in
from salus.cli.confirmation import require_terminal, require_yes
from salus.cli.console import Json, emit, err, out
from salus.cli.display import plain, shown, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import NetworkAccess
from salus.cli.party_commands import PartyCommand, consent_command, consent_request, target_of
from salus.cli.service_answers import read_answer
from salus.client.auth import RequestLine
from salus.devkit.errors import NotRunningError
from salus.devkit.network import OPERATOR
from salus.events.contexts.consent import PolicyFile, policy_body
from salus.events.did import LocalSigner

app = typer.Typer(no_args_is_help=True, help="Policy sets: who may do what, within what patients consent to.")
PREFIX_MIN = 8
NOTHING = "nothing was done"
_DIGEST = re.compile(rf"[0-9a-f]{{{PREFIX_MIN},64}}", re.ASCII)


class ProposedSet(msgspec.Struct, frozen=True):
    """A policy set that waits for its activation."""

    policy_set: str
    by: str


class Policies(msgspec.Struct, frozen=True):
    """What consent tells of policy sets."""

    policy_set: str
    version: int
    engine: str
    proposed: tuple[ProposedSet, ...]
    earlier: tuple[str, ...]

    @property
    def all(self) -> list[str]:
        """Every digest, the one in force first."""
        return [self.policy_set, *(each.policy_set for each in self.proposed), *self.earlier]


class PolicySet(msgspec.Struct, frozen=True):
    """A policy set with its files."""

    policy_set: str
    status: str
    files: tuple[PolicyFile, ...]


def complete_set(incomplete: str) -> list[str]:
    """Complete the digest of a policy set, for the shell."""
    try:
        network = NetworkAccess.of_consent(None, None)
        known = asyncio.run(_policies(network, network.signer(OPERATOR, None, None)))
    except (CommandError, NotRunningError):
        return []
    return [digest for digest in known.all if digest.startswith(incomplete)]


Folder = Annotated[
    Path,
    typer.Argument(help="Its *.cedar files; the schema is the release's.", exists=True, file_okay=False),
]
SetArgument = Annotated[
    str,
    typer.Argument(
        metavar="SET",
        help=f"The digest of a policy set, or its first {PREFIX_MIN} digits or more.",
        autocompletion=complete_set,
    ),
]


@app.command("list")
@consent_request
def list_sets(
    command: PartyCommand,
) -> None:
    """List the policy set in force, what is proposed, and what was in force before."""
    known = asyncio.run(_policies(command.network, command.signer))
    if command.as_json:
        emit(msgspec.to_builtins(known))
        return
    rows = [(f"in force, version {known.version}", known.policy_set)]
    rows += [(f"proposed by {each.by}", each.policy_set) for each in known.proposed]
    rows += [("was in force", digest) for digest in known.earlier]
    for state, digest in rows:
        out.print(styled("{}  [dim]{}[/]", digest, state), soft_wrap=True)


@app.command()
@consent_request
def show(
    command: PartyCommand,
    policy_set: Annotated[
        str | None,
        typer.Argument(
            metavar="[SET]", help="Its digest; the one in force by default.", autocompletion=complete_set
        ),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Write its files into this folder.", file_okay=False)
    ] = None,
) -> None:
    """Print the files of a policy set, whose digest is verified."""
    found = asyncio.run(_found(command.network, command.signer, policy_set))
    if to is not None:
        write_into_folder(found.files, to)
        out.print(
            styled("the {} files of {} are in {}", len(found.files), found.policy_set, to), soft_wrap=True
        )
    elif command.as_json:
        emit(msgspec.to_builtins(found))
    else:
        for file in found.files:
            out.print(styled("[bold]{}[/]", file.name))
            for line in file.text.split("\n"):
                out.print(plain(line), soft_wrap=True, highlight=False)
        err.print(styled("[dim]{}, {}[/]", found.policy_set, found.status), soft_wrap=True)


def write_into_folder(files: tuple[PolicyFile, ...], folder: Path) -> None:
    """Write the files of a policy set into a folder; raises CommandError if it has other policies."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = {file.name: file.text for file in files}
    for path in sorted(folder.glob("*.cedar*")):
        if path.read_bytes() != texts.get(path.name, "").encode():
            why = f"--to: {path} is not as in the policy set: name another folder; nothing was written"
            raise CommandError(Exit.USAGE, why)
    for name, text in texts.items():
        (folder / name).write_text(text)


@app.command()
def check(folder: Folder, as_json: Json = False) -> None:
    """Say what is wrong with a policy set: file, line, column and policy of each problem; offline."""
    contents = contents_in(folder)
    found = [str(problem) for problem in problems_of(contents)]
    if as_json:
        emit({"policy_set": digest_of(contents), "problems": found})
    else:
        for problem in found:
            out.print(styled("[red]✗[/] {}", problem), soft_wrap=True)
        if not found:
            out.print(styled("[green]✓[/] it can be used: {}", digest_of(contents)), soft_wrap=True)
    if found:
        raise typer.Exit(Exit.NO)


@app.command()
@consent_request
def diff(
    command: PartyCommand,
    folder: Folder,
) -> None:
    """Show what the policy set of a folder changes of the one in force; 1 if it changes anything.

    What it would have decided otherwise, `salus consent replay --with FOLDER` says.
    """
    contents = contents_in(folder)
    now = asyncio.run(_found(command.network, command.signer, None))
    changes = changed_lines(contents_of(now.files), contents)
    if command.as_json:
        told = {"in_force": now.policy_set, "folder": digest_of(contents)}
        emit({**told, "changes": [line.plain for line in changes]})
    elif changes:
        for line in changes:
            out.print(line, soft_wrap=True, highlight=False)
    else:
        out.print("it is the one in force", highlight=False)
    if changes:
        raise typer.Exit(Exit.NO)


@app.command()
@consent_request
def propose(
    command: PartyCommand,
    folder: Folder,
) -> None:
    """Propose a policy set, as an operator; nothing follows it until two operators activate it."""
    contents = contents_in(folder)
    if found := problems_of(contents):
        raise CommandError(Exit.NO, f"{folder}: {found[0]}; `salus policy check` names all")
    line = RequestLine("POST", target_of("policies"), policy_body(files_of(contents)))
    answer = asyncio.run(command.network.command(line, signer=command.signer))
    if command.as_json:
        emit(answer)
        return
    digest = digest_of(contents)
    out.print(styled("{} is proposed", digest), soft_wrap=True, highlight=False)
    err.print(styled("[dim]two operators:[/] salus policy activate {}", digest[:PREFIX_MIN]), soft_wrap=True)


@app.command()
@consent_command
def activate(
    command: PartyCommand,
    policy_set: SetArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; with the whole digest.")] = False,
) -> None:
    """Put a policy set into force; two operators of different organisations do this.

    It shows what changes, and asks before; also before --to-approve writes the request. What is decided after
    the event follows the new set. In a network whose operators are of one organisation, one is enough.
    """
    network, signer = command.network, command.signer
    known = asyncio.run(_policies(network, signer))
    found = asyncio.run(_found(network, signer, policy_set))
    if found.policy_set == known.policy_set:
        raise CommandError(Exit.NO, f"{found.policy_set} is in force already; {NOTHING}")
    if yes and policy_set != found.policy_set:
        why = f"--yes goes with the whole digest, which `salus policy list` shows; {NOTHING}"
        raise CommandError(Exit.USAGE, why)
    before = asyncio.run(_found(network, signer, known.policy_set))
    if not yes:
        require_terminal(undone=f"and the whole digest; {NOTHING}")
        for line in changed_lines(contents_of(before.files), contents_of(found.files)):
            err.print(line, soft_wrap=True, highlight=False)
        require_yes("Activate?" if command.to_approve is None else "Ask for it?", undone=NOTHING)
    command.run(
        f"{found.policy_set} is in force",
        target=target_of("policies", found.policy_set, "activate"),
        body={"replaces": known.policy_set},
        policies=found.files,
    )


def changed_lines(before: Mapping[str, bytes], after: Mapping[str, bytes]) -> list[Text]:
    """Return what changes from one policy set to another, as a unified diff."""
    lines: list[Text] = []
    for name in sorted({*before, *after}):
        old, new = (files.get(name, b"").decode().split("\n") for files in (before, after))
        changed = unified_diff(old, new, f"in force/{name}", f"new/{name}", lineterm="", n=2)
        lines += (plain(line, {"+": "green", "-": "red"}.get(line[:1], "")) for line in changed)
    return lines


async def _policies(network: NetworkAccess, signer: LocalSigner) -> Policies:
    return read_answer("consent", await network.ask("/policies", signer=signer), Policies)


async def _found(network: NetworkAccess, signer: LocalSigner, named: str | None) -> PolicySet:
    """Return the policy set of a digest, or of what it begins with; raises CommandError."""
    known = await _policies(network, signer)
    wanted = known.policy_set if named is None else named
    digests = sorted({digest for digest in known.all if digest.startswith(wanted)})
    if _DIGEST.fullmatch(wanted) is None:
        why = f"is no digest: give at least {PREFIX_MIN} of the digits that `salus policy list` shows"
        raise CommandError(Exit.USAGE, f"SET: {shown(wanted)} {why}")
    if len(digests) > 1:
        raise CommandError(
            Exit.USAGE, f"SET: {len(digests)} policy sets begin with {wanted}: give more digits"
        )
    target = target_of("policies", digests[0] if digests else wanted.ljust(64, "0")[:64])
    found = read_answer("consent", await network.ask(target, signer=signer), PolicySet)
    if digest_of(contents_of(found.files)) != found.policy_set:
        raise CommandError(Exit.NO, "consent shows other files than the digest names")
    return found
