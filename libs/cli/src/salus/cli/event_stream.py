"""Server-sent events, framed as WHATWG HTML says (section 9.2.6): only LF, CR and CRLF end a line.

`str.splitlines` and the HTTP library's `aiter_lines` also end one at U+2028, U+0085 and others, which JSON
text may hold; whoever wrote such a character could cut an event in two.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from dataclasses import dataclass, field

EVENT_CHARS_MAX = 1 << 20
_LINE_END = re.compile(r"\r\n?|\n")


class StreamError(Exception):
    """The stream is not one of server-sent events that we can read."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """What a blank line ended: the data, None if there was none, and the id to come back with."""

    data: str | None
    last_id: str | None


@dataclass(slots=True)
class _Pending:
    data: list[str] = field(default_factory=list)
    chars: int = 0
    last_id: str | None = None

    def take(self, line: str) -> None:
        name, colon, value = line.partition(":")
        if not name and colon:
            return
        value = value.removeprefix(" ")
        if name == "data":
            self.data.append(value)
            # With the line's end: lines without a character are kept, too.
            self.chars += len(value) + 1
            _require_size(self.chars)
        elif name == "id" and "\0" not in value:
            self.last_id = value or None

    def end(self) -> StreamEvent:
        data = "\n".join(self.data) if self.data else None
        self.data, self.chars = [], 0
        return StreamEvent(data, self.last_id)


async def events_of(chunks: AsyncIterable[bytes]) -> AsyncGenerator[StreamEvent]:
    """Yield the events of a stream's bytes; an event that no blank line ended is dropped.

    Raises:
        StreamError: an event is larger than `EVENT_CHARS_MAX`.
    """
    pending = _Pending()
    async for line in _lines_of(chunks):
        if line:
            pending.take(line)
        else:
            yield pending.end()


async def _lines_of(chunks: AsyncIterable[bytes]) -> AsyncIterator[str]:
    decoder = getincrementaldecoder("utf-8")(errors="replace")
    # A line that has begun, in the pieces it came in: each is looked at once, however small.
    begun: list[str] = []
    chars, held, first = 0, "", True
    async for chunk in chunks:
        text = held + decoder.decode(chunk)
        if first and text:
            text, first = text.removeprefix("\ufeff"), False
        # A CR at the very end may be half of a CRLF, so it waits for what follows.
        held = "\r" if text.endswith("\r") else ""
        *lines, rest = _LINE_END.split(text.removesuffix("\r"))
        for line in lines:
            yield "".join([*begun, line])
            begun, chars = [], 0
        begun.append(rest)
        chars += len(rest)
        _require_size(chars)
    if held:
        yield "".join(begun)


def _require_size(chars: int) -> None:
    if chars > EVENT_CHARS_MAX:
        raise StreamError(f"an event of more than {EVENT_CHARS_MAX} characters")
