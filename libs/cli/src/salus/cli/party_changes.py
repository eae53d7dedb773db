"""`salus party add-key`, `revoke-key`, `grant-role` and `withdraw-role`: what changes about a party."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
import typer

from salus.cli.callers import complete_party
from salus.cli.choices import Choices
from salus.cli.console import err
from salus.cli.display import shown
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import PartyFacts
from salus.cli.party_commands import PartyCommand, identity_command, target_of
from salus.cli.proven_keys import check_possession, read_proven_key
from salus.cli.request_acts import OPERATOR, key_lines
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import KeyRevoked
from salus.events.sessions import session_key_id
from salus.ledger.times import read_time

ROLES = Choices([role.name for role in CATALOGUE.roles()])
REASONS = Choices(get_args(get_type_hints(KeyRevoked)["reason"]))
Reason = Annotated[
    str,
    typer.Option(
        metavar="REASON",
        help=f"Why: {', '.join(REASONS.values)}.",
        parser=REASONS.read,
        autocompletion=REASONS.complete,
    ),
]

Party = Annotated[
    str,
    typer.Argument(
        metavar="DID",
        help="The party: a DID, or a name given to `party register`.",
        autocompletion=complete_party,
    ),
]
RoleName = Annotated[
    str,
    typer.Argument(
        metavar="ROLE", help=f"{', '.join(ROLES.values)}.", parser=ROLES.read, autocompletion=ROLES.complete
    ),
]


def moment_of(text: str) -> datetime:
    """Return a moment of an option; raises BadParameter, which names the option."""
    try:
        return read_time(text)
    except ValueError as error:
        raise typer.BadParameter(f"{shown(text)}: {error}") from None


@identity_command
def add_key(
    command: PartyCommand,
    did: Party,
    entry: Annotated[
        Path,
        typer.Option(
            help="What the key's holder had from `salus party prove-key`.", exists=True, dir_okay=False
        ),
    ],
) -> None:
    """Let a party sign with one more key; its holder keeps the private key and gives a proof of it."""
    party = _party(command, did)
    proven = read_proven_key(entry)
    if proven.id.partition("#")[0] != party.did:
        raise CommandError(Exit.USAGE, f"--entry: {entry} is a key of another DID than {shown(party.did)}")
    check_possession(proven, member=party.member, network=command.network.origin, at=datetime.now(UTC))
    command.run(
        f"{party.did} signs with {proven.id} as well",
        target=target_of("parties", party.did, "keys"),
        body={"key": msgspec.to_builtins(proven)},
        party=party,
    )


@identity_command
def revoke_key(
    command: PartyCommand,
    did: Party,
    key_name: Annotated[
        str, typer.Argument(metavar="KEY", help="The key's id, or what stands behind its #.")
    ],
    reason: Reason = "unspecified",
    since: Annotated[
        datetime | None,
        typer.Option(
            metavar="MOMENT",
            parser=moment_of,
            help="With compromised: when it came into other hands (RFC 3339). What it signed since then is "
            "in doubt: `salus audit search --in-doubt KEY` lists it.",
        ),
    ] = None,
) -> None:
    """Stop a key from signing, for ever; the party's last one goes only as compromised or left.

    With --since, what it signed from then on stays on the ledger and is in doubt, also if it was revoked
    before. More than a month back, or of another member's key, it takes two operators.
    """
    party = _party(command, did)
    named = key_name if key_name.startswith("did:") else f"{party.did}#{key_name.removeprefix('#')}"
    is_session = named.startswith(session_key_id(party.did, ""))
    held_keys = party.signing_keys if since is None else party.keys
    if not is_session and named not in {held.id for held in held_keys}:
        known = ", ".join(held.id for held in party.signing_keys) or "none"
        raise CommandError(
            Exit.NO, shown(f"KEY: {party.did} has no key {key_name} that signs; it has {known}")
        )
    body = {"key_id": named, "reason": reason}
    doubted = ""
    if since is not None:
        body["since"] = since.isoformat()
        doubted = f"; what it signed since {since.isoformat()} is in doubt"
    command.run(
        f"{named} signs no longer{doubted}",
        target=target_of("parties", party.did, "keys", "revoke"),
        body=body,
        party=party,
    )
    if command.to_approve is None and (brought := _party(command, party.did).brought_by(named)):
        err.print("[yellow]These keys still sign, and came by it[/] or by one another:", soft_wrap=True)
        for line in (line for held in brought for line in key_lines(held)):
            err.print(line, soft_wrap=True, highlight=False)
        err.print("who had the key may have added them: revoke those that you did not add", soft_wrap=True)


@identity_command
def grant_role(
    command: PartyCommand,
    did: Party,
    role: RoleName,
) -> None:
    """Give a party a role. Of an operator, the request names the keys that the second operator sees."""
    party = _party(command, did)
    body: dict[str, Any] = {"role": role}
    if role == OPERATOR:
        body["keys"] = [held.id for held in party.signing_keys]
        # Who asks may be the only operator: these keys would act as one, whoever added them.
        err.print("who would sign in that role with these keys, and no others:", soft_wrap=True)
        for line in (line for held in party.signing_keys for line in key_lines(held)):
            err.print(line, soft_wrap=True, highlight=False)
    command.run(
        f"{party.did} holds the role {role}",
        target=target_of("parties", party.did, "roles"),
        body=body,
        party=party,
    )


@identity_command
def withdraw_role(
    command: PartyCommand,
    did: Party,
    role: RoleName,
) -> None:
    """Take a role from a party."""
    party = _party(command, did)
    command.run(
        f"{party.did} no longer holds the role {role}",
        method="DELETE",
        target=target_of("parties", party.did, "roles", role),
        party=party,
    )


def _party(command: PartyCommand, name: str) -> PartyFacts:
    """Return, from identity, whom a command concerns."""
    return asyncio.run(command.network.party(command.network.did_of(name)))
