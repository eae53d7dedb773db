"""How the schema of a proposed event type is shown to whoever activates it or approves that."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import unified_diff
from typing import Any

from rich.text import Text

from salus.cli.display import lines_of, styled
from salus.cli.exits import CommandError, Exit
from salus.events.event_types import dataschema_of, schema_file
from salus.events.schemas.compatibility import breaks_between
from salus.ledger.json_reader import JsonError, read_json


def require_schema(name: str, schema: bytes, dataschema: str) -> None:
    """Raise CommandError unless the file is the one that `dataschema` names, in the form that people read.

    Identity keeps schemas in that form: no blanks in which something could be hidden, no name twice.
    """
    if dataschema_of(name, schema) != dataschema:
        raise CommandError(Exit.NO, "schema: it is another one than dataschema names: ask for a new request")
    try:
        canonical = schema_file(read_json(schema))
    except JsonError as error:
        raise CommandError(Exit.NO, f"schema: {error.why}") from None
    if canonical != schema:
        raise CommandError(Exit.NO, "schema: it is not in the form in which identity keeps schemas")


def schema_lines(schema: bytes) -> list[Text]:
    """Return the lines of a schema, every one as it is, indented."""
    return [styled("    {}", line) for line in _lines(schema)]


def change_lines(active: bytes | None, proposed: bytes) -> Iterator[Text]:
    """Yield what a proposed schema changes of the active one, line by line, and whom that breaks."""
    if active is None:
        yield styled("  no schema of this type was active before")
        return
    yield styled("  what it changes of the active schema:")
    for line in list(unified_diff(_lines(active), _lines(proposed), lineterm="", n=1))[2:]:
        yield lines_of(f"    {line}", _STYLES.get(line[:1], ""))
    for each in breaks_between(_parsed(active), _parsed(proposed)):
        yield styled("  [red]✗[/] {}", each)


_STYLES = {"+": "green", "-": "red"}


def _lines(schema: bytes) -> list[str]:
    return schema.decode("utf-8").removesuffix("\n").split("\n")


def _parsed(schema: bytes) -> dict[str, Any]:
    parsed: dict[str, Any] = read_json(schema)
    return parsed
