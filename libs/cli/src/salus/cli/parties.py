"""`salus party`: register members and people, change their keys and roles, and list who is in the network."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import typer
from rich.table import Table

from salus.cli import approvals, did_resolution, party_changes, party_sessions
from salus.cli.callers import complete_party, given_key, origin_of, party_key_file
from salus.cli.choices import Choices
from salus.cli.console import Json, emit, out
from salus.cli.display import shown, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import Directory, IdentityUrl, KeyFacts, NetworkAccess
from salus.cli.party_changes import ROLES, Party
from salus.cli.party_commands import PartyCommand, identity_command, target_of
from salus.cli.party_keys import new_party_key
from salus.cli.proven_keys import ProvenKey, check_possession, fingerprint, prove, read_proven_key
from salus.cli.state import running_folder
from salus.devkit.network import NetworkFolder
from salus.devkit.public_files import write_public
from salus.events.contexts.identity import PartyKind
from salus.events.did import LocalSigner
from salus.events.verification_keys import KeyKind

app = typer.Typer(no_args_is_help=True, help="Members, services, people and devices of the network.")
KINDS = Choices(get_args(PartyKind))
_KIND: dict[str, Any] = KINDS.typed("KIND")
_KEY_KINDS = {"ed25519": KeyKind.ED25519, "p256": KeyKind.P256}
_KEY_KIND: dict[str, Any] = Choices([*_KEY_KINDS]).typed("KEY_KIND")
_ROLE: dict[str, Any] = ROLES.typed("ROLE")


@app.command()
@identity_command
def register(
    command: PartyCommand,
    name: Annotated[
        str | None,
        typer.Argument(help="What the key is called here; `--as NAME` uses it later. Not with --entry."),
    ] = None,
    kind: Annotated[str, typer.Option(help=f"{', '.join(KINDS.values)}.", **_KIND)] = "member",
    role: Annotated[
        list[str] | None, typer.Option(help="Role to begin with; may be repeated.", **_ROLE)
    ] = None,
    member: Annotated[
        str | None,
        typer.Option(help="Organisation that a person acts for: name or DID.", autocompletion=complete_party),
    ] = None,
    title: Annotated[str | None, typer.Option(help="Public name of an organisation.")] = None,
    key_kind: Annotated[
        str, typer.Option(help="Of the key that is made here: ed25519 or p256.", **_KEY_KIND)
    ] = "ed25519",
    entry: Annotated[
        list[Path] | None,
        typer.Option(
            help="Instead of making a key here: what its holder had from `salus party prove-key`. "
            "May be repeated.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Register a party with identity: with a key that is made here, or with keys that others hold."""
    if (name is None) == (not entry):
        raise CommandError(Exit.USAGE, "give either NAME, for which a key is made here, or --entry FILE")
    network = command.network
    member_did = network.did_of(member) if member else None
    body: dict[str, Any] = {"kind": kind, "roles": role or []}
    if member_did:
        body["member"] = member_did
    if title or (kind == "member" and name):
        body["name"] = title or name
    with ExitStack() as stack:
        if name is not None:
            signer = stack.enter_context(new_party_key(network.folder, name, kind=_KEY_KINDS[key_kind]))
            keys = [prove(signer, network=network.origin, member=member_did, now=datetime.now(UTC))]
        else:
            keys = _entries(entry or [], network=network.origin, member=member_did)
        did = keys[0].id.partition("#")[0]
        body |= {"did": did, "keys": msgspec.to_builtins(keys)}
        command.run(
            f"{name or 'the party'} is registered as {did}",
            target=target_of("parties"),
            body=body,
            key_file=None if name is None else party_key_file(network.folder, name),
        )


def _entries(files: list[Path], *, network: str, member: str | None) -> list[ProvenKey]:
    keys = [read_proven_key(file) for file in files]
    if len({key.id.partition("#")[0] for key in keys}) > 1:
        raise CommandError(Exit.USAGE, "--entry: the keys are of several DIDs, and a party has one")
    for key in keys:
        check_possession(key, member=member, network=network, at=datetime.now(UTC))
    return keys


@app.command("prove-key")
def prove_key(
    key: Annotated[
        Path,
        typer.Option(
            help="PEM (PKCS#8) Ed25519 or P-256 key that is to join; it stays here.", dir_okay=False
        ),
    ],
    network: Annotated[
        str | None,
        typer.Option(help="`origin` in the network's network.json; that of the platform here by default."),
    ] = None,
    did: Annotated[
        str | None, typer.Option(help="DID of its holder; the key's own did:key by default.")
    ] = None,
    member: Annotated[
        str | None, typer.Option(help="DID of the organisation that the holder acts for, if it is to.")
    ] = None,
    key_id: Annotated[
        str | None, typer.Option(help="The key's id, DID#NAME; the DID and the key itself by default.")
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, help="How long the key may sign; without an end by default.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Write the entry here; on stdout by default.", dir_okay=False)
    ] = None,
) -> None:
    """Prove that a key's holder wants it registered: for `register` and `add-key`, on another machine.

    The entry holds the public key and a signature by the key, good for seven days; it is no secret.
    """
    for option, given in (("--did", did), ("--member", member)):
        if given is not None and not given.startswith("did:"):
            raise CommandError(Exit.USAGE, f"{option}: {shown(given)} is no DID")
    private = given_key(key)
    own = LocalSigner(private)
    holder = did or (key_id or own.did).partition("#")[0]
    named = key_id or f"{holder}#{own.verification_method.partition('#')[2]}"
    if named.partition("#")[0] != holder or not named.partition("#")[2] or not holder.startswith("did:"):
        raise CommandError(Exit.USAGE, "--key-id: a key's id is the holder's DID, # and a name")
    now = datetime.now(UTC)
    end = now + timedelta(days=days) if days else None
    joined = network or origin_of(NetworkFolder(running_folder()), option="--network")
    signer = LocalSigner(private, named)
    proven = prove(signer, network=joined, member=member, now=now, valid_until=end)
    if to is None:
        emit(msgspec.to_builtins(proven))
        return
    write_public(to, msgspec.json.format(msgspec.json.encode(proven), indent=2) + b"\n")
    out.print(f"the entry of {named} is in {to}", highlight=False, soft_wrap=True)


@app.command("list")
def list_parties(
    kind: Annotated[str | None, typer.Option(help="Only this kind.", **_KIND)] = None,
    role: Annotated[str | None, typer.Option(help="Only those who hold this role.", **_ROLE)] = None,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_json: Json = False,
) -> None:
    """List the parties of the network."""
    filters = [(name, value) for name, value in (("kind", kind), ("role", role)) if value]
    parties = asyncio.run(NetworkAccess.of(directory, identity).parties(filters))
    if as_json:
        emit(msgspec.to_builtins(parties))
        return
    table = Table("kind", "name", "member", "roles", box=None, header_style="bold")
    table.add_column("DID", no_wrap=True)
    table.add_column("keys")
    names = {party.did: party.name for party in parties}
    for party in parties:
        keys = f"{len(party.signing_keys)} of {len(party.keys)}"
        member = party.member and (names.get(party.member) or party.member)
        table.add_row(party.kind, party.name or "", member or "", ", ".join(party.roles), party.did, keys)
    out.print(table)


@app.command()
def show(
    did: Party, directory: Directory = None, identity: IdentityUrl = None, as_json: Json = False
) -> None:
    """Show one party, with its roles and the fingerprints of its keys."""
    network = NetworkAccess.of(directory, identity)
    party = asyncio.run(network.party(network.did_of(did)))
    if as_json:
        emit(msgspec.to_builtins(party))
        return
    for title, text in (
        ("did", party.did),
        ("kind", party.kind),
        ("name", party.name),
        ("member", party.member),
        ("roles", ", ".join(party.roles)),
        ("membership", party.membership),
        ("because", party.standing_reason),
    ):
        if text:
            out.print(styled("[dim]{}[/] {}", title, text), soft_wrap=True, highlight=False)
    for held in party.keys:
        out.print(styled("[bold]{}[/] {}", held.id, _validity(held)), soft_wrap=True, highlight=False)
        out.print(styled("  fingerprint {}", _fingerprint(held)), soft_wrap=True, highlight=False)


def _fingerprint(key: KeyFacts) -> str:
    try:
        return fingerprint(key.multibase)
    except ValueError as error:
        return f"none: {error}"


def _validity(key: KeyFacts) -> str:
    if key.revoked is not None:
        return f"revoked: {key.revoked}"
    return f"from {key.valid_from}" + (f" until {key.valid_until}" if key.valid_until else "")


app.command("add-key")(party_changes.add_key)
app.command("revoke-key")(party_changes.revoke_key)
app.command("grant-role")(party_changes.grant_role)
app.command("sessions")(party_sessions.sessions)
app.command("end-sessions")(party_sessions.end_sessions)
app.command("withdraw-role")(party_changes.withdraw_role)
app.command("resolve")(did_resolution.resolve)
app.command("submit")(approvals.submit)
