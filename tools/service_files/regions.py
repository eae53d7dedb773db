"""Parts of a file that are made, between two marks; the rest is written by hand and stays as it is."""

from __future__ import annotations

import re
from pathlib import Path

_MARKS = {
    ".md": ("<!-- ", " -->"),
    ".xml": ("<!-- ", " -->"),
    ".yml": ("# ", ""),
    ".yaml": ("# ", ""),
    ".toml": ("# ", ""),
}


class RegionError(Exception):
    """A file has not exactly one region of a name."""

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(f"{path} needs one region `begin generated: {name}` … `end generated: {name}`")


def with_region(path: Path, text: str, name: str, content: str) -> str:
    """Return the text with another content between the marks of a region, indented as its marks are.

    Raises:
        RegionError: there is no such region, or several.
    """
    opening, closing = _MARKS[path.suffix]
    begin, end = (f"{opening}{word} generated: {name}" for word in ("begin", "end"))
    pattern = re.compile(
        rf"^(?P<indent> *)(?P<begin>{re.escape(begin)}\b[^\n]*{re.escape(closing)}\n)"
        rf".*?"
        rf"^ *(?P<end>{re.escape(end)}{re.escape(closing)}\n)",
        re.DOTALL | re.MULTILINE,
    )
    found = list(pattern.finditer(text))
    if len(found) != 1:
        raise RegionError(path, name)
    [region] = found
    indent = region["indent"]
    lines = (f"{indent}{line}\n" if line else "\n" for line in content.strip("\n").splitlines())
    made = f"{indent}{region['begin']}{''.join(lines)}{indent}{region['end']}"
    return text[: region.start()] + made + text[region.end() :]
