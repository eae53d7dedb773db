"""Case O1: text from outside is never markup or protocol; what would make it so is found in the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("libs", "services") for path in (ROOT / folder).glob("*/src/**/*.py"))
CLI = ROOT / "libs" / "cli" / "src" / "salus" / "cli"
# They hold the one function that shows, those that write JSON and files, and the one that asks for --force.
SHOWING = {CLI / "display.py", CLI / "console.py", CLI / "outputs.py"}

LINE_CUTTERS = {"splitlines", "iter_lines", "aiter_lines"}
"""They also end a line at U+0085, U+2028 and others: say `split("\\n")`, or use `event_stream`."""
MARKUP = {"Console", "Text.from_markup", "Text.from_ansi", "Text.assemble", "escape", "print"}
"""Ways of `rich` to read text as markup, or to write it past a `Screen`."""
WRITERS = {"typer.echo", "click.echo", "sys.stdout.write", "sys.stderr.write", "sys.stdout.writelines"}
RAW = {"sys.stdout.buffer", "sys.stderr.buffer", "sys.__stdout__", "sys.__stderr__", "os.write"}
"""Ways past every text stream: a terminal gets the bytes as they are. `emit_file` shows those of a text file,
and `hand_over` gives a terminal raw ones by `--force` only."""


def called(node: ast.AST) -> str | None:
    """Return the last name of what is called."""
    if not isinstance(node, ast.Call):
        return None
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)


def is_written_out(node: ast.expr) -> bool:
    """Say whether an argument is a text of ours: a constant, or one of two."""
    if isinstance(node, ast.IfExp):
        return is_written_out(node.body) and is_written_out(node.orelse)
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def is_shown(node: ast.expr) -> bool:
    return called(node) in {"shown", "shown_lines", "plain", "lines_of", "styled"}


def faults(source: str, *, is_cli: bool) -> Iterator[str]:
    """Name the places of a source that make text of others something else."""
    for node in ast.walk(ast.parse(source)):
        name = called(node)
        if name in LINE_CUTTERS:
            yield f"{name} ends lines at characters that the text may hold"
        if is_cli and isinstance(node, ast.Attribute) and ast.unparse(node) in RAW:
            yield f"{ast.unparse(node)} goes past the function that shows text"
        if not is_cli or not isinstance(node, ast.Call):
            continue
        where = ast.unparse(node.func)
        if where in MARKUP or (where == "Text" and node.args):
            yield f"{where} goes past the function that shows text"
        if name == "styled" and not (node.args and is_written_out(node.args[0])):
            yield "the template of `styled` is not written out"
        words = {word.arg for word in node.keywords}
        if where in WRITERS and not all(is_shown(each) or is_written_out(each) for each in node.args):
            yield f"{where} of a text that is not shown"
        if name == "TextColumn" and "markup" not in words:
            yield "TextColumn reads its text as markup"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_of_others_is_neither_cut_nor_read_as_markup(path: Path) -> None:
    is_cli = CLI in path.parents and path not in SHOWING

    assert list(faults(path.read_text(encoding="utf-8"), is_cli=is_cli)) == []


@pytest.mark.parametrize(
    "source",
    [
        "for line in text.splitlines(): pass",
        "async def f():\n    async for line in answer.aiter_lines(): pass",
        "Console(stderr=True).print(name)",
        "out.print(Text(name))",
        "out.print(Text.from_markup(f'[red]{name}[/]'))",
        "out.print(styled(f'[red]{name}[/]'))",
        "print(name)",
        "typer.echo(f'{name}')",
        "typer.echo(schema, nl=False)",
        "typer.echo(b'' + schema)",
        "sys.stdout.write(name)",
        "sys.stdout.buffer.write(schema)",
        "with_(sys.stdout.buffer)",
        "os.write(1, schema)",
        "TextColumn('{task.description}')",
    ],
)
def test_each_way_is_found(source: str) -> None:
    assert len(list(faults(source, is_cli=True))) == 1


def test_what_is_shown_is_no_fault() -> None:
    source = "out.print(f'{name} is here')\nout.print(styled('[red]{}[/]', name))\ntyper.echo(shown(name))"

    assert list(faults(source, is_cli=True)) == []
