"""Every regular expression of the source reads a text of others in linear time (red team 3, 1).

They are found in the source and looked at by `regexes`; what is ambiguous, and harmless, is named with its
reason. Whether whole readers are linear is measured in `test_linear_time`.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.regexes import ambiguities, may_begin_anywhere

from salus.events import fields

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for folder in ("libs", "services") for path in (ROOT / folder).glob("*/src/**/*.py"))
READING = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
BEGINNING_ANYWHERE = {"search", "sub", "subn", "split", "findall", "finditer"}

HARMLESS = {
    # One repetition and a fixed text after it: for each slash the fixed text is compared once.
    "([^ ]+)/block/(0|[1-9][0-9]{0,18})",
    "([^ \\n]+)/block/(0|[1-9][0-9]{0,18})\\n",
    # One repetition and one character after it, tried from the end once.
    "(?=[^\\x00]*[^\\s\\x00])[^\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f]+",
    # Finite: a few words, or a character in two classes.
    "^(success|refused|rejected|without-effect|unentitled|rights-pending)$",
    "[^ \\r\\n\\t\\S]|[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f]",
    # A label of a host has at most 63 characters, and a dot between it and the next.
    (
        "did:web:(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)(?:\\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
        "(?:%3A[0-9]{1,5})?(?::[A-Za-z0-9._-]+)*"
    ),
    # Texts of ours: an operator's own key file, the demo's picture, the patterns of our schemas.
    "-----BEGIN [A-Z ]+-----[ \\t]*\\n.*?-----END [A-Z ]+-----",
    "@font-face \\{.*?\\}\\s*",
    "\\^(.*)(?:\\$|\\\\Z)",
    r"([\w:#-]+)|(\[[^\]]+\]|=)(?:([+*])|\{(\d+)(?:,(\d+))?\})?",
}
# Made while the program runs; looked at below, or of our schemas.
MADE = {"pattern", "chars", r"b'\\nrange %b [0-9]+ ([0-9]+) ([0-9]+)' % re.escape(topic[1])"}
ALSO = [fields.PLAIN_PATTERN, fields.TEXT_PATTERN, "\\nrange x [0-9]+ ([0-9]+) ([0-9]+)"]


def expressions(path: Path) -> Iterator[tuple[str, ast.expr]]:
    """Yield how and which expressions are used in a source: functions of `re`, its patterns, `pattern=`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            place, how = node.func.value, node.func.attr
            if place.id == "re" and how in READING:
                yield how, node.args[0]
            elif place.id.isupper() and how in BEGINNING_ANYWHERE:
                yield how, place
        for keyword in node.keywords:
            if keyword.arg == "pattern":
                yield "pattern", keyword.value


def values(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the expressions of a source as they are when it is loaded."""
    parts = path.with_suffix("").parts
    found = list(expressions(path))
    if not found:
        return
    module = importlib.import_module(".".join(parts[parts.index("src") + 1 :]).removesuffix(".__init__"))
    for how, node in found:
        if ast.unparse(node) in MADE:
            continue
        value = eval(compile(ast.Expression(node), str(path), "eval"), vars(module))
        value = value.pattern if isinstance(value, re.Pattern) else value
        yield how, value.decode("latin-1") if isinstance(value, bytes) else value


USED = [(how, value, path.stem) for path in SOURCES for how, value in values(path)]


@pytest.mark.parametrize("pattern", sorted({value for _, value, _ in USED} | set(ALSO)))
def test_a_text_is_read_in_one_way(pattern: str) -> None:
    assert pattern in HARMLESS or ambiguities(pattern) == []


@pytest.mark.parametrize(
    "pattern", sorted({value for how, value, _ in USED if how in BEGINNING_ANYWHERE} - HARMLESS)
)
def test_what_is_looked_for_in_a_text_is_read_from_one_beginning(pattern: str) -> None:
    assert may_begin_anywhere(pattern)


def test_nothing_is_excused_that_is_not_there() -> None:
    assert {value for _, value, _ in USED} >= HARMLESS


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+b", "(a*)*b", "(ab|[ab])*c", "a*a*b", "(?:a{1,2})*b", "(a?b?)*c", "x(?=(a+)+b)", r"(\s*a\s*)*"],
)
def test_an_expression_that_backtracks_is_told(pattern: str) -> None:
    assert ambiguities(pattern)


@pytest.mark.parametrize(
    ("pattern", "linear"),
    [
        # What this test is here for: JSON's strings, in bytes of which one is never closed.
        (r'"[^"\\]*(?:\\.[^"\\]*)*"', False),
        (r"a+b", False),
        (r"[ \t]+", True),
        (r"x[ab]*c", True),
        (r"<Code>", True),
    ],
)
def test_an_expression_that_is_begun_in_vain_is_told(pattern: str, *, linear: bool) -> None:
    assert may_begin_anywhere(pattern) is linear
