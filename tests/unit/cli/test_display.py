"""Case O1 and the bullets on markup: what others wrote is shown to its last character, and does nothing."""

from __future__ import annotations

import errno
import io
import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from salus.cli.console import emit, emit_line
from salus.cli.display import Screen, plain, shown, shown_lines, styled

NASTY = [
    "scan [/] one",
    "[black on black]hidden[/]",
    "[link=https://evil.example]here[/link]",
    "a\nfaked line",
    "a\rb",
    "\x1b[2J\x1b]8;;https://evil.example\x07",
    "\x9b2J",
    "a\u2028b\u2029c\x85d",
    "\u202egnp.scan\u202c \u2066x\u2069 \u200e\u200f\u061c",
    "zero\u200bwidth\u200d\u2060\ufeff\u00ad",
    "\ufe0f\u3164\u115f\u034f\U000e0041\U000e0100",
    "\ud800 alone",
    ":smile: \\",
]
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
ANY_TEXT = st.text(st.characters(codec=None)) | st.sampled_from(NASTY)


def written(*what: object, markup: bool | None = None) -> str:
    """Return what a terminal with colours would be sent."""
    file = io.StringIO()
    screen = Screen(file=file, width=400, force_terminal=True, color_system="truecolor", highlight=False)
    for each in what:
        screen.print(each, soft_wrap=True, markup=markup)
    return file.getvalue()


@given(ANY_TEXT)
def test_what_is_shown_has_only_characters_that_are_seen(text: str) -> None:
    assert all(unicodedata.category(char)[0] != "C" for char in shown(text))
    assert not set(shown(text)) & set("\u2028\u2029\u034f\u3164\ufe0f")
    assert shown(shown(text)) == shown(text)
    assert shown_lines(text).count("\n") == text.count("\n")


def test_what_can_be_seen_stays_as_it_is() -> None:
    for text in ("Jürgen", "山田\u3000太郎", "1\u00a0000 €", "לילה", "é", "🩺", "a\\b [red]"):
        assert shown(text) == text
    assert shown("a\u2028\x1b\U000e0041") == "a\\u2028\\u001b\\udb40\\udc41"


@pytest.mark.parametrize("text", NASTY)
def test_a_screen_writes_a_str_as_text_wherever_it_stands(text: str) -> None:
    table = Table(text, title=text, box=None)
    table.add_row(text, style="red")

    for what in (text, Panel(text), table, plain(text, "red"), styled("[red]{}[/] [bold]x", text)):
        assert shown(text) in _COLOUR.sub("", written(what))
    assert written(text) == shown(text) + "\n"
    assert written(text, markup=True) == shown(text) + "\n"


@given(ANY_TEXT)
def test_nothing_but_lines_and_colours_of_ours_leaves_a_screen(text: str) -> None:
    sent = written(Text(text), text).replace("\n", "")

    assert shown(sent) == sent


@given(st.lists(ANY_TEXT, min_size=2, max_size=2))
def test_values_stand_in_their_places_of_a_template(values: list[str]) -> None:
    sentence = styled("[green]✓[/] {} by [bold]{}[/]: {}", *values, 3)

    assert sentence.plain == f"✓ {shown(values[0])} by {shown(values[1])}: 3"
    assert {span.style for span in sentence.spans} <= {"green", "bold"}


@given(ANY_TEXT)
def test_json_says_the_same_in_characters_that_are_seen(text: str) -> None:
    for write in (emit, emit_line):
        with pytest.MonkeyPatch.context() as patch:
            out = io.StringIO()
            patch.setattr("sys.stdout", out)
            write({"text": text})
        assert json.loads(out.getvalue()) == {"text": json.loads(json.dumps(text))}
        assert shown_lines(out.getvalue()) == out.getvalue()
    assert "\n" not in out.getvalue()[:-1]


class Full(io.StringIO):
    """A file on a disk that is full."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_could_not_be_written_is_not_written_later() -> None:
    screen = Screen(file=Full())
    with pytest.raises(OSError, match="No space left"):
        screen.print("lost")
    screen.file = taken = io.StringIO()
    screen.print("told")

    assert taken.getvalue() == "told\n"
