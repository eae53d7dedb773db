"""`salus party add-key`, `revoke-key`, `grant-role` and `withdraw-role`: what changes about a party."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import msgspec
import typer

from salus.cli.callers import As, KeyFile, KeyId, complete_party
from salus.cli.choices import Choices
from salus.cli.console import Json, err
from salus.cli.display import shown
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import Directory, IdentityUrl, NetworkAccess, PartyFacts
from salus.cli.party_commands import PartyCommand, ToApprove, target_of
from salus.cli.proven_keys import check_possession, read_proven_key
from salus.cli.request_acts import OPERATOR, key_lines
from salus.events.contexts import CATALOGUE
from salus.events.contexts.identity import KeyRevoked

ROLES = Choices([role.name for role in CATALOGUE.roles()])
REASONS = Choices(get_args(get_type_hints(KeyRevoked)["reason"]))

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


def add_key(
    did: Party,
    entry: Annotated[
        Path,
        typer.Option(
            help="What the key's holder had from `salus party prove-key`.", exists=True, dir_okay=False
        ),
    ],
    to_approve: ToApprove = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_json: Json = False,
) -> None:
    """Let a party sign with one more key; its holder keeps the private key and gives a proof of it."""
    network = NetworkAccess.of(directory, identity)
    command, party = _about(did, network, as_name, key, key_id, to_approve, as_json)
    proven = read_proven_key(entry)
    if proven.id.partition("#")[0] != party.did:
        raise CommandError(Exit.USAGE, f"--entry: {entry} is a key of another DID than {shown(party.did)}")
    check_possession(proven, member=party.member, network=network.origin, at=datetime.now(UTC))
    command.run(
        f"{party.did} signs with {proven.id} as well",
        target=target_of("parties", party.did, "keys"),
        body={"key": msgspec.to_builtins(proven)},
        party=party,
    )


def revoke_key(
    did: Party,
    key_name: Annotated[
        str, typer.Argument(metavar="KEY", help="The key's id, or what stands behind its #.")
    ],
    reason: Annotated[
        str,
        typer.Option(
            metavar="REASON",
            help=f"Why: {', '.join(REASONS.values)}.",
            parser=REASONS.read,
            autocompletion=REASONS.complete,
        ),
    ] = "unspecified",
    to_approve: ToApprove = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_json: Json = False,
) -> None:
    """Stop a key from signing, for ever; the party's last one goes only as compromised or left."""
    command, party = _about(
        did, NetworkAccess.of(directory, identity), as_name, key, key_id, to_approve, as_json
    )
    named = key_name if key_name.startswith("did:") else f"{party.did}#{key_name.removeprefix('#')}"
    if named not in {held.id for held in party.signing_keys}:
        known = ", ".join(held.id for held in party.signing_keys) or "none"
        raise CommandError(
            Exit.NO, shown(f"KEY: {party.did} has no key {key_name} that signs; it has {known}")
        )
    command.run(
        f"{named} signs no longer",
        target=target_of("parties", party.did, "keys", "revoke"),
        body={"key_id": named, "reason": reason},
        party=party,
    )


def grant_role(
    did: Party,
    role: RoleName,
    to_approve: ToApprove = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_json: Json = False,
) -> None:
    """Give a party a role. Of an operator, the request names the keys that the second operator sees."""
    command, party = _about(
        did, NetworkAccess.of(directory, identity), as_name, key, key_id, to_approve, as_json
    )
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


def withdraw_role(
    did: Party,
    role: RoleName,
    to_approve: ToApprove = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_json: Json = False,
) -> None:
    """Take a role from a party."""
    command, party = _about(
        did, NetworkAccess.of(directory, identity), as_name, key, key_id, to_approve, as_json
    )
    command.run(
        f"{party.did} no longer holds the role {role}",
        method="DELETE",
        target=target_of("parties", party.did, "roles", role),
        party=party,
    )


def _about(
    did: str,
    network: NetworkAccess,
    as_name: str,
    key: Path | None,
    key_id: str | None,
    to_approve: Path | None,
    as_json: bool,
) -> tuple[PartyCommand, PartyFacts]:
    """Return the command and, from identity, whom it concerns."""
    signer = network.signer(as_name, key, key_id)
    party = asyncio.run(network.party(network.did_of(did)))
    return PartyCommand(network, signer, to_approve, as_json), party
