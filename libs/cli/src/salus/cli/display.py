"""How text of others is shown: every character visible, and none of it markup, a new line or a command.

On a `Screen` a `str` is always such text, so nothing needs to be remembered where something is printed.
Markup is for sentences of our own: `styled` takes it as a template, and values only into its places.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

# Default_Ignorable_Code_Point of Unicode 16, as far as `str.isprintable` has nothing against it.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_SPACES = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
"""Unicode's spaces (Zs) that have a width."""


def shown(text: object) -> str:
    """Return the text with what cannot be seen, or would steer the terminal, escaped as JSON escapes it.

    These are control characters (line feeds too), line and paragraph separators, marks and overrides of
    direction and other format characters, those without width, surrogates, and what Unicode has not
    assigned. What is shown once may be shown again: it stays the same.
    """
    whole = str(text)
    if whole.isprintable() and _INVISIBLE.search(whole) is None:
        return whole
    return "".join(map(_visible, whole))


def shown_lines(text: object) -> str:
    """Return the text shown line by line, for text of several lines of our own; only a line feed ends one."""
    return "\n".join(map(shown, str(text).split("\n")))


def _visible(char: str) -> str:
    # Spaces are not printable to Python, but a name may hold one that is wide or does not break.
    if (char.isprintable() or char in _SPACES) and _INVISIBLE.match(char) is None:
        return char
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def shown_moment(at: datetime) -> str:
    """Return a moment for people, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def shown_second(seconds: int) -> str:
    """Return a second since 1970 that somebody stated for people; it may be beyond what a calendar has."""
    try:
        return shown_moment(datetime.fromtimestamp(seconds, UTC))
    except (ValueError, OverflowError, OSError):
        return f"second {seconds}"


def plain(text: object, style: str = "") -> Text:
    """Return somebody's text in a style of ours."""
    return Text(shown(text), style=style)


def lines_of(text: object, style: str = "") -> Text:
    """Return text of several lines, each of which is shown: a log's end, a traceback."""
    return Text(shown_lines(text), style=style)


def styled(template: str, *values: object) -> Text:
    """Return a sentence of ours, in which `{}` stands for a value that is plain text, whatever it holds.

    The template is markup of `rich` and is written out at the call.
    """
    marked = Text.from_markup(template, emoji=False)
    sentence, at = Text(), 0
    for value in values:
        place = marked.plain.index("{}", at)
        inserted = value.copy() if isinstance(value, Text) else plain(value)
        for span in marked.spans:
            if span.start <= place < span.end:
                inserted.stylize_before(span.style)
        sentence.append_text(marked[at:place]).append_text(inserted)
        at = place + len("{}")
    return sentence.append_text(marked[at:])


class Screen(Console):
    """A console on which a `str`, wherever it stands, is shown as text and never read as markup."""

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, markup=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return the text as it is shown, on one line."""
        return super().render_str(shown(text), **{**options, "markup": False, "emoji": False})

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Any:
        """Yield what is written, with everything escaped that was not before."""
        for segment in super().render(renderable, options):
            if segment.control or (segment.text.isprintable() and not _INVISIBLE.search(segment.text)):
                yield segment
            else:
                yield Segment(shown_lines(segment.text), segment.style)

    def print(self, *objects: Any, **options: Any) -> None:
        """Write what is given; what cannot be written is not written later, before something else."""
        try:
            super().print(*objects, **options)
        except Exception:
            # `rich` keeps it for the next time.
            del self._buffer[:]
            raise
