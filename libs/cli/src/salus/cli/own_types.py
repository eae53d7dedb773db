"""`salus catalogue propose`, `activate` and `withdraw`: members' own event types, as identity has them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from salus.cli.callers import As, KeyFile, KeyId
from salus.cli.console import Json
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import Directory, IdentityUrl, NetworkAccess
from salus.cli.party_commands import PartyCommand, ToApprove, target_of
from salus.cli.state import require_service
from salus.client.own_types import own_event_type
from salus.devkit.errors import NotRunningError
from salus.devkit.platform import Platform
from salus.events.catalogue import Catalogue
from salus.events.contexts import CATALOGUE
from salus.events.event_types import EventType, dataschema_of
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
    typer.Option(help="The `dataschema` that was looked at; by default that of the present proposal."),
]


def propose(
    file: SchemaFile,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_json: Json = False,
) -> None:
    """Propose an event type of your own, or a compatible schema for one; operators activate it."""
    network = NetworkAccess.of(directory, identity)
    command = PartyCommand(network, network.signer(as_name, key, key_id), None, as_json)
    schema = with_sealed(read_schema(file)[0])
    name = own_type_of(schema) if isinstance(schema, dict) else ""
    if not name:
        raise CommandError(
            Exit.USAGE, f"{file}: x-salus.type: it names no event type that a member could bring"
        )
    command.run(
        f"{name} is proposed; operators look at it with `salus catalogue show {name} --proposed`",
        target=target_of("event-types"),
        body={"schema": schema},
    )


def activate(
    name: OwnType,
    dataschema: DataSchema = None,
    to_approve: ToApprove = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_json: Json = False,
) -> None:
    """Take events of a proposed type from now on; two operators of different organisations do this."""
    network = NetworkAccess.of(directory, identity)
    command = PartyCommand(network, network.signer(as_name, key, key_id), to_approve, as_json)
    if dataschema is None:
        proposed = asyncio.run(event_type(network, name))["proposed"]
        if proposed is None:
            raise CommandError(Exit.NO, f"TYPE: nothing is proposed for {name}")
        dataschema = proposed["dataschema"]
    command.run(
        f"events of the type {name} are taken from now on",
        target=target_of("event-types", name, "activate"),
        body={"dataschema": dataschema},
    )


def withdraw(
    name: OwnType,
    to_approve: ToApprove = None,
    as_name: As = "operator",
    key: KeyFile = None,
    key_id: KeyId = None,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_json: Json = False,
) -> None:
    """Take no more events of a type, and forget what was proposed for it; what is on the ledger stays."""
    network = NetworkAccess.of(directory, identity)
    command = PartyCommand(network, network.signer(as_name, key, key_id), to_approve, as_json)
    command.run(
        f"events of the type {name} are not taken any more",
        target=target_of("event-types", name, "withdraw"),
    )


async def members_types(network: NetworkAccess) -> list[dict[str, Any]]:
    """Return the event types that members proposed or brought, as identity tells them."""
    types = read_json(await network.ask("/event-types"))["types"]
    return [{**each, "key": each["subject"]} for each in types if each["member"] is not None]


async def event_type(network: NetworkAccess, name: str) -> dict[str, Any]:
    """Return what identity knows of one event type."""
    found: dict[str, Any] = read_json(await network.ask(target_of("event-types", name)))
    return found


async def schema_of(network: NetworkAccess, name: str, *, proposed: bool) -> bytes:
    """Return the schema of a type, which is the one that its `dataschema` names.

    Raises:
        CommandError: there is none, or identity shows another one than it names.
    """
    facts = await event_type(network, name)
    query = [("proposed", "true")] if proposed else []
    schema = await network.ask(target_of("event-types", name, "schema"), query=query)
    told = (facts["proposed"] or {}).get("dataschema") if proposed else facts["dataschema"]
    if dataschema_of(name, schema) != told:
        raise CommandError(Exit.NO, f"identity shows another schema of {name} than its dataschema names")
    return schema


async def own_type(network: NetworkAccess, name: str) -> EventType:
    """Return a member's event type, to write and read events of it.

    Raises:
        CommandError: identity knows none, or shows a schema that is none of an event type.
    """
    facts = await event_type(network, name)
    schema = await schema_of(network, name, proposed=False)
    try:
        return own_event_type(schema, member=str(facts["member"]))
    except ValueError as error:
        raise CommandError(Exit.NO, f"identity's schema of {name} cannot be used: {error}") from None


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
    return CATALOGUE.with_types([type_of_platform(name, platform)])


def type_of_platform(name: str, platform: Platform) -> EventType:
    """Return a member's event type in the network of the platform that runs here; raises as `own_type`."""
    network = NetworkAccess(platform.network, require_service(platform, "identity"))
    return asyncio.run(own_type(network, name))
