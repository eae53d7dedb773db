"""`salus catalogue propose`, `activate` and `withdraw`: members' own event types, as identity has them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from salus.cli.confirmation import require_terminal, require_yes
from salus.cli.console import err
from salus.cli.display import styled
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import NetworkAccess
from salus.cli.party_commands import PartyCommand, identity_command, identity_request, target_of
from salus.cli.schema_display import change_lines, require_schema, schema_lines
from salus.cli.state import require_service
from salus.cli.type_facts import active_schema, event_type, own_type, schema_named
from salus.devkit.errors import NotRunningError
from salus.devkit.platform import Platform
from salus.events.catalogue import Catalogue
from salus.events.contexts import CATALOGUE
from salus.events.schemas.subset import SCHEMA_BYTES_MAX
from salus.events.type_definition import with_sealed
from salus.events.type_names import is_own_name
from salus.events.type_registry import own_type_of
from salus.ledger.json_reader import JsonError, read_json

SchemaFile = Annotated[
    Path, typer.Argument(help="A JSON Schema with `x-salus`.", exists=True, dir_okay=False)
]
OwnType = Annotated[
    str, typer.Argument(metavar="TYPE", help="A member's event type, as example.hospital.bed-occupied.v1.")
]
DataSchema = Annotated[
    str | None,
    typer.Option(help="The `dataschema` that was looked at; what is proposed must still be that one."),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not show and ask, for scripts: with --dataschema.")]
NOTHING = "nothing was activated"


@identity_request
def propose(
    command: PartyCommand,
    file: SchemaFile,
) -> None:
    """Propose an event type of your own, or a compatible schema for one; operators activate it."""
    schema = with_sealed(read_schema(file)[0])
    name = own_type_of(schema) if isinstance(schema, dict) else ""
    if not name:
        raise CommandError(
            Exit.USAGE, f"{file}: x-salus.type: it names no event type that a member could bring"
        )
    look = f"`salus catalogue show {name} --proposed`"

    def done(answer: Mapping[str, Any]) -> str:
        is_active = answer.get("proposed") is None
        return (
            f"{name} is active already by this schema"
            if is_active
            else (f"{name} is proposed; operators look at it with {look}")
        )

    command.run(
        done,
        target=target_of("event-types"),
        body={"schema": schema},
    )


@identity_command
def activate(
    command: PartyCommand,
    name: OwnType,
    dataschema: DataSchema = None,
    yes: Yes = False,
) -> None:
    """Take events of a proposed type from now on; two operators of different organisations do this.

    It shows the very schema that it activates, and asks before. Scripts say --yes and the --dataschema that
    was looked at with `salus catalogue show TYPE --proposed`.
    """
    if yes and dataschema is None:
        raise CommandError(Exit.USAGE, f"--yes: it goes with the --dataschema that was looked at; {NOTHING}")
    if not yes:
        require_terminal(undone=f"and --dataschema, which `salus catalogue show {name} --proposed` names")
    proposed = asyncio.run(_proposed(command.network, name, dataschema))
    if not yes:
        _show(name, proposed)
        require_yes("Activate?" if command.to_approve is None else "Ask for it?", undone=NOTHING)
    command.run(
        f"events of the type {name} are taken from now on",
        target=target_of("event-types", name, "activate"),
        body={"dataschema": proposed.dataschema},
        schema=proposed.schema,
    )


@dataclass(frozen=True)
class _Proposed:
    """A proposed schema, which `dataschema` names, and the active one if there is one."""

    dataschema: str
    schema: bytes
    active: bytes | None


async def _proposed(network: NetworkAccess, name: str, looked_at: str | None) -> _Proposed:
    """Return what is proposed for a type, all of it from one answer of identity.

    Raises:
        CommandError: nothing is, or something else than was looked at.
    """
    facts = await event_type(network, name)
    if facts.proposed is None:
        is_active = facts.status == "active" and looked_at in {None, facts.dataschema}
        state = f"; it is active already, by {facts.dataschema}" if is_active else ""
        raise CommandError(Exit.NO, f"TYPE: nothing is proposed for {name}{state}")
    told = facts.proposed.dataschema
    if looked_at not in (None, told):
        look = f"look again with `salus catalogue show {name} --proposed`"
        raise CommandError(Exit.NO, f"--dataschema: something else is proposed now: {look}")
    schema = await schema_named(network, name, told, proposed=True)
    require_schema(name, schema, told)
    return _Proposed(told, schema, await active_schema(network, facts))


def _show(name: str, proposed: _Proposed) -> None:
    lines = [
        styled("[bold]{}[/] would take events by this schema:", name),
        *schema_lines(proposed.schema),
        styled("  dataschema {}", proposed.dataschema),
        *change_lines(proposed.active, proposed.schema),
    ]
    for line in lines:
        err.print(line, soft_wrap=True, highlight=False)


@identity_command
def withdraw(
    command: PartyCommand,
    name: OwnType,
) -> None:
    """Take no more events of a type, and forget what was proposed for it; what is on the ledger stays."""
    command.run(
        f"events of the type {name} are not taken any more",
        target=target_of("event-types", name, "withdraw"),
    )


def read_schema(file: Path) -> tuple[Any, int]:
    """Return what a file says, and its size.

    Raises:
        CommandError: it is too large, or no JSON.
    """
    content = file.read_bytes()
    if len(content) > SCHEMA_BYTES_MAX:
        raise CommandError(Exit.NO, f"{file}: {len(content)} bytes, a schema has at most {SCHEMA_BYTES_MAX}")
    try:
        return read_json(content), len(content)
    except JsonError as error:
        raise CommandError(Exit.USAGE, f"{file}: {error.why}, in {error.place}") from None


def network_if_any(directory: Path | None, identity: str | None) -> NetworkAccess | None:
    """Return the network of these options or of the platform that runs; None: no identity runs here.

    Raises:
        CommandError: only one of the options is given.
    """
    if directory is not None or identity is not None:
        return NetworkAccess.of(directory, identity)
    try:
        return NetworkAccess.of(None, None)
    except (NotRunningError, CommandError):
        return None


def catalogue_for(value: bytes, platform: Platform) -> Catalogue:
    """Return the release's catalogue, with the type of this event as well if a member brought it.

    Raises:
        CommandError: identity does not know it.
    """
    try:
        event = read_json(value)
    except JsonError:
        return CATALOGUE
    name = event.get("type") if isinstance(event, dict) else None
    if not isinstance(name, str) or CATALOGUE.type_named(name) is not None or not is_own_name(name):
        return CATALOGUE
    network = NetworkAccess(platform.network, require_service(platform, "identity"))
    return CATALOGUE.with_types([asyncio.run(own_type(network, name))])
