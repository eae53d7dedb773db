"""The page on writing a contract service shows the files of the example: all of them, as they are."""

from __future__ import annotations

import re
from itertools import groupby
from operator import itemgetter
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "contract-service.md"
EXAMPLE = ROOT / "examples" / "coldchain"
_BLOCK = re.compile(r"<!-- file: (?P<path>\S+) -->\n```[a-z]+\n(?P<text>.*?)\n```", re.DOTALL)
# Says what the package is, as its pyproject.toml does, and nothing else.
UNSHOWN = {"__init__.py", "py.typed"}


def lines_of(text: str) -> list[str]:
    """Return the lines of a text that have something in them: a block may end where a blank line was."""
    return [line for line in text.splitlines() if line]


def test_the_page_shows_every_file_as_it_is():
    blocks = [(found["path"], found["text"]) for found in _BLOCK.finditer(PAGE.read_text())]
    shown = {
        path: [line for _, text in parts for line in lines_of(text)]
        for path, parts in groupby(blocks, key=itemgetter(0))
    }
    files = [path for path in EXAMPLE.rglob("*") if path.is_file() and path.suffix in {".py", ".toml"}]

    assert shown == {
        str(path.relative_to(ROOT)): lines_of(path.read_text()) for path in files if path.name not in UNSHOWN
    }
