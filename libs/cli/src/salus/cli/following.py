"""Showing log files: the services' structured lines in a readable form, others as they are."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path

from salus.cli.console import emit_line, out
from salus.cli.display import lines_of, plain, styled
from salus.devkit.processes import tail

PERIOD_S = 0.3
_STYLES = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "bold red"}
_SHOWN_APART = frozenset({"timestamp", "level", "event", "service", "exception"})


async def follow_logs(files: Mapping[str, Path], *, lines: int, follow: bool, as_json: bool) -> None:
    """Show the end of each file, and then what is added to any of them."""
    positions = {name: path.stat().st_size for name, path in files.items()}
    for name, path in files.items():
        shown = tail(path, lines) if lines else ""
        for line in shown.split("\n") if shown else ():
            show_line(name, line, as_json=as_json)
    while follow:
        for name, path in files.items():
            positions[name] = _show_new(name, path, positions[name], as_json=as_json)
        await asyncio.sleep(PERIOD_S)


def _show_new(name: str, path: Path, position: int, *, as_json: bool) -> int:
    with path.open("rb") as file:
        file.seek(position)
        whole, _, _ = file.read().rpartition(b"\n")
    for line in whole.decode(errors="replace").split("\n") if whole else ():
        show_line(name, line, as_json=as_json)
    return position + len(whole) + (1 if whole else 0)


def show_line(name: str, line: str, *, as_json: bool) -> None:
    """Show one line of a process's log."""
    try:
        fields = json.loads(line)  # noqa: TID251  # a log of our own, only to be shown
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        fields = {"event": line}
    if as_json:
        emit_line({"process": name, **fields})
        return
    level = str(fields.get("level", ""))
    rest = " ".join(f"{key}={value}" for key, value in fields.items() if key not in _SHOWN_APART)
    time = f"{str(fields.get('timestamp', ''))[11:23]:12}"
    event = plain(fields.get("event", ""), _STYLES.get(level, ""))
    out.print(
        styled("[dim]{}[/] [cyan]{}[/] {}[dim]{}[/]", time, f"{name:10}", event, f" {rest}" if rest else ""),
        soft_wrap=True,
    )
    if "exception" in fields:
        out.print(lines_of(fields["exception"], "red"), soft_wrap=True)
