"""Writes the files of `examples/coldchain` into the page that explains them, block by block.

A block begins where its first line is in the file. Who moves that line moves it in the page as well.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "contract-service.md"
BLOCK = re.compile(
    r"(?P<head><!-- file: (?P<path>\S+) -->\n```[a-z]+\n)(?P<text>.*?)(?P<tail>\n```)", re.DOTALL
)


def page(text: str) -> str:
    """Return the page with its blocks made anew; raises ValueError if the first line of one is not there."""
    begins: dict[str, list[str]] = defaultdict(list)
    for block in BLOCK.finditer(text):
        begins[block["path"]].append(block["text"].partition("\n")[0])

    def made(block: re.Match[str]) -> str:
        lines = (ROOT / block["path"]).read_text(encoding="utf-8").splitlines()
        starts = [lines.index(first) for first in begins[block["path"]]]
        begin = lines.index(block["text"].partition("\n")[0])
        end = min((start for start in starts if start > begin), default=len(lines))
        return block["head"] + "\n".join(lines[begin:end]).strip("\n") + block["tail"]

    return BLOCK.sub(made, text)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
