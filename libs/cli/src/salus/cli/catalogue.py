"""salus catalogue: the event types of this release and of members, and whether a schema may become one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table

from salus.cli.console import Json, emit, emit_file, err, out
from salus.cli.display import plain, styled
from salus.cli.exits import CommandError, Exit
from salus.cli.network_access import Directory, IdentityUrl, NetworkAccess
from salus.cli.own_types import activate, network_if_any, propose, read_schema, withdraw
from salus.cli.type_facts import TypeFacts, members_types, schema_of
from salus.events.context import OWN_PACKAGE
from salus.events.contexts import CATALOGUE
from salus.events.event_types import EventType, dataschema_of
from salus.events.schemas import released_schemas
from salus.events.schemas.compatibility import breaks_between
from salus.events.schemas.subset import faults_of
from salus.events.sealed_fields import sealed_fields
from salus.events.type_definition import faults_of_definition, with_sealed
from salus.events.type_names import is_own_name
from salus.events.type_registry import own_type_of
from salus.ledger.json_reader import read_json

app = typer.Typer(
    help="Event types: topic, owner, key, sealed fields and schema.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

TypeName = Annotated[
    str,
    typer.Argument(
        metavar="TYPE",
        help="The event type, as salus.lab.result-released.v1.",
        autocompletion=lambda incomplete: [
            entry.name for entry in CATALOGUE.types() if entry.name.startswith(incomplete)
        ],
    ),
]


@app.command("list")
def list_types(
    context: Annotated[str | None, typer.Option(help="Only the types of this context, as lab.")] = None,
    *,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_json: Json = False,
) -> None:
    """List the event types with topic, owner, key and sealed fields; members' own ones of the network too."""
    entries = [entry for entry in CATALOGUE.types() if context in (None, entry.name.split(".")[1])]
    if not entries:
        known = sorted({entry.name.split(".")[1] for entry in CATALOGUE.types()})
        raise CommandError(
            Exit.USAGE, f"--context: no context has types of that name; {', '.join(known)} have"
        )
    network = None if context else network_if_any(directory, identity)
    own = [] if network is None else asyncio.run(members_types(network))
    listed = [*map(_facts, entries), *map(_told, own)]
    if as_json:
        emit(listed)
        return
    table = Table(
        "type", "topic", "who may state it", "key", "sealed", "state", box=None, header_style="bold"
    )
    for facts in listed:
        cells = (*(facts[name] for name in ("type", "topic", "owner", "key")), ", ".join(facts["sealed"]))
        table.add_row(*map(plain, (*cells, _state(facts))))
    out.print(table)


@app.command()
def show(
    name: TypeName,
    *,
    proposed: Annotated[bool, typer.Option("--proposed", help="What waits for activation.")] = False,
    directory: Directory = None,
    identity: IdentityUrl = None,
) -> None:
    """Print the JSON Schema of a type: the very bytes whose SHA-256 its `dataschema` names.

    On a terminal what would steer it is escaped. The `dataschema` is on stderr.
    """
    network = network_if_any(directory, identity) if is_own_name(name) else None
    if network is None:
        schema = _named(name).schema
    else:
        schema = asyncio.run(schema_of(network, name, proposed=proposed))
    emit_file(schema)
    err.print(styled("[dim]dataschema[/] {}", dataschema_of(name, schema)), soft_wrap=True, highlight=False)


app.command()(propose)
app.command()(activate)
app.command()(withdraw)


_AS_RELEASED = (
    "it is judged as a type of the release; --member says whose it is, and gives it the definition of "
    "Sealed, which sealed fields refer to"
)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A JSON Schema.", exists=True, dir_okay=False)],
    against: Annotated[
        Path | None,
        typer.Option(
            help="Another schema, of which it is to be the next version; else the released ones of its type.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    member: Annotated[
        str | None,
        typer.Option(help="The member that is to bring it: a DID, or a name given to `party register`."),
    ] = None,
    *,
    directory: Directory = None,
    identity: IdentityUrl = None,
    as_json: Json = False,
) -> None:
    """Say whether a JSON Schema may be an event type, and is compatible with what is in force.

    With --member it is judged as that member's own type, and compared with what is active in the network.
    """
    schema, size = read_schema(file)
    if member is None:
        faults, older = faults_of(schema, size=size), _released
    else:
        schema, network = with_sealed(schema), network_if_any(directory, identity)
        did = member if network is None else network.did_of(member)
        topics = CATALOGUE.topics_of_members()
        faults = faults_of_definition(schema, size=size, member=did, topics=topics)
        older = partial(_active, network)
    compared = [] if faults else ([_given(against)] if against else older(schema))
    breaks = [(name, each) for name, before in compared for each in breaks_between(before, schema)]
    names = [name for name, _ in compared]
    if as_json:
        told = [{"with": name, "field": it.field, "why": it.why, "sides": it.sides} for name, it in breaks]
        emit({"faults": faults, "compared_with": names, "breaks": told})
    else:
        if member is None and isinstance(schema, dict) and own_type_of(schema):
            out.print(_AS_RELEASED, soft_wrap=True)
        _tell(faults, [f"{name}: {each}" for name, each in breaks], names)
    if faults or breaks:
        raise typer.Exit(Exit.NO)


def _tell(faults: Sequence[str], breaks: Sequence[str], compared: Sequence[str]) -> None:
    for sentence in (*faults, *breaks):
        out.print(styled("[red]✗[/] {}", sentence))
    names = ", ".join(compared) or "nothing, for no version of it is in force"
    if faults:
        out.print(styled("[red]it cannot be an event type[/], and was compared with nothing"))
    elif breaks:
        out.print(styled("[red]it cannot take the place of[/] {}", names))
    else:
        out.print(styled("[green]✓[/] it may be an event type; compared with {}", names))


def _facts(entry: EventType) -> dict[str, Any]:
    return {
        "type": entry.name,
        "topic": entry.topic,
        "owner": entry.owner,
        "key": entry.subject_field or "subject",
        "sealed": sealed_fields(entry.data),
        "retention": entry.retention.value,
        "dataschema": entry.dataschema,
        "meaning": entry.summary,
        "package": CATALOGUE.package_of(entry.name),
    }


def _told(facts: TypeFacts) -> dict[str, Any]:
    return {**msgspec.to_builtins(facts), "key": facts.subject}


def _named(name: str) -> EventType:
    entry = CATALOGUE.type_named(name)
    if entry is None:
        close = get_close_matches(name, [known.name for known in CATALOGUE.types()])
        hint = f"; is it {' or '.join(close)}?" if close else "; `salus catalogue list` lists them"
        raise CommandError(Exit.USAGE, f"the catalogue has no type {name}{hint}")
    return entry


def _state(facts: Mapping[str, Any]) -> str:
    """Return whether a type is of the release or of which package, or what became of a member's."""
    if facts.get("member") is None:
        return "release" if facts["package"] == OWN_PACKAGE else str(facts["package"])
    waiting = ", another proposed" if facts["proposed"] and facts["since"] else ""
    since = f", revision {facts['revision']} since {facts['since']}" if facts["since"] else ""
    return f"{facts['status']}{since}{waiting}"


def _released(schema: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return, with a name for each, the released schemas of a schema's type."""
    return released_schemas(str(schema.get("$id", "")).removeprefix("urn:salus:schema:"))


def _active(network: NetworkAccess | None, schema: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return the schema that is in force of a member's type, if there is one and a network to ask."""
    name = own_type_of(schema)
    if network is None or not any(
        each.type == name and each.since for each in asyncio.run(members_types(network))
    ):
        return []
    return [(name, read_json(asyncio.run(schema_of(network, name, proposed=False))))]


def _given(against: Path) -> tuple[str, dict[str, Any]]:
    """Return the schema of a file that another is compared with, and its name."""
    before, size = read_schema(against)
    if faults := faults_of(before, size=size):
        raise CommandError(Exit.USAGE, f"--against: it is not in the subset itself: {faults[0]}")
    return against.name, before
