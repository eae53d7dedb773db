"""salus catalogue: the event types that this release knows, and whether a schema may become one of them."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from salus.cli.console import Json, emit, out
from salus.cli.display import styled
from salus.cli.exits import CommandError, Exit
from salus.events.contexts import CATALOGUE
from salus.events.event_types import EventType
from salus.events.schemas import released_schemas
from salus.events.schemas.compatibility import breaks_between
from salus.events.schemas.subset import SCHEMA_BYTES_MAX, faults_of
from salus.events.sealed_fields import sealed_fields
from salus.ledger.json_reader import JsonError, read_json

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
    as_json: Json = False,
) -> None:
    """List the event types with topic, owner, key and sealed fields."""
    entries = [entry for entry in CATALOGUE.types() if context in (None, entry.name.split(".")[1])]
    if not entries:
        known = sorted({entry.name.split(".")[1] for entry in CATALOGUE.types()})
        raise CommandError(
            Exit.USAGE, f"--context: no context has types of that name; {', '.join(known)} have"
        )
    if as_json:
        emit([_facts(entry) for entry in entries])
        return
    table = Table("type", "topic", "who may state it", "key", "sealed")
    for entry in entries:
        facts = _facts(entry)
        table.add_row(entry.name, entry.topic, entry.owner, facts["key"], ", ".join(facts["sealed"]))
    out.print(table)


@app.command()
def show(name: TypeName) -> None:
    """Print the JSON Schema of a type: the very bytes whose SHA-256 its `dataschema` names."""
    typer.echo(_named(name).schema, nl=False)


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
    *,
    as_json: Json = False,
) -> None:
    """Say whether a JSON Schema keeps to the subset, and is compatible with what was released."""
    schema, size = _read(file)
    faults = faults_of(schema, size=size)
    older = [] if faults else _older(schema, against)
    breaks = [(name, each) for name, before in older for each in breaks_between(before, schema)]
    if as_json:
        emit(
            {
                "faults": faults,
                "compared_with": [name for name, _ in older],
                "breaks": [
                    {"with": name, "field": each.field, "why": each.why, "sides": each.sides}
                    for name, each in breaks
                ],
            }
        )
    else:
        for sentence in (*faults, *(f"{name}: {each}" for name, each in breaks)):
            out.print(styled("[red]✗[/] {}", sentence))
        if not faults:
            compared = ", ".join(name for name, _ in older) or "nothing, for no version of it was released"
            out.print(styled("it is in the subset; compared with {}", compared))
    if faults or breaks:
        raise typer.Exit(Exit.NO)


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
    }


def _named(name: str) -> EventType:
    entry = CATALOGUE.type_named(name)
    if entry is None:
        close = get_close_matches(name, [known.name for known in CATALOGUE.types()])
        hint = f"; is it {' or '.join(close)}?" if close else "; `salus catalogue list` lists them"
        raise CommandError(Exit.USAGE, f"the catalogue has no type {name}{hint}")
    return entry


def _older(schema: dict[str, Any], against: Path | None) -> list[tuple[str, dict[str, Any]]]:
    """Return, with a name for each, the schemas of which this one is to be the next version."""
    if against is not None:
        before, size = _read(against)
        if faults := faults_of(before, size=size):
            raise CommandError(Exit.USAGE, f"--against: it is not in the subset itself: {faults[0]}")
        return [(against.name, before)]
    name = str(schema.get("$id", "")).removeprefix("urn:salus:schema:")
    return released_schemas(name)


def _read(file: Path) -> tuple[Any, int]:
    content = file.read_bytes()
    if len(content) > SCHEMA_BYTES_MAX:
        raise CommandError(Exit.NO, f"{file}: {len(content)} bytes, a schema has at most {SCHEMA_BYTES_MAX}")
    try:
        return read_json(content), len(content)
    except JsonError as error:
        raise CommandError(Exit.USAGE, f"{file}: {error.why}, in {error.place}") from None
